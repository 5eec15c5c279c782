"""The model of a task: pretrained weights with a new head, and what of it is trained."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from ..classification_mit import MiTForImageClassification
from ..configuration_mit import MiTConfig
from ..data.labelled.case import LabelledData, Task
from ..image_processing_mit import MiTImageProcessor
from ..saved_models import locate, open_config
from ..segmentation_mit import MiTForSemanticSegmentation
from .settings import FinetuningSettings

_CLASSES = {
    "classification": MiTForImageClassification,
    "segmentation": MiTForSemanticSegmentation,
}
# What a checkpoint of pretraining does not have, by the names' beginnings.
_HEADS = {
    "classification": ("norm.", "classifier."),
    "segmentation": ("segmenter.", "auxiliary_heads."),
}
_SIZES = {"tiny": MiTConfig.tiny, "small": MiTConfig.small}
_BLOCK = re.compile(r"encoder\.stages\.(\d+)\.layers\.(\d+)\.")


@dataclass(frozen=True)
class TaskModel:
    """A model for a task, and what was found when it was loaded.

    Attributes:
        model: In training mode, float32.
        new_weights: Names of weights that the checkpoint does not have: they are random.
    """

    model: PreTrainedModel
    new_weights: list[str]


def open_model(
    settings: FinetuningSettings,
    data: LabelledData,
    task: Task,
    window: tuple[int, ...] | None = None,
    num_axes: int | None = None,
) -> TaskModel:
    """Load a checkpoint with the head of a task.

    Args:
        settings: Name the checkpoint, or a size with random weights.
        data: Whose classes the head is for.
        task: What it does.
        window: `([depth,] height, width)` in which larger inputs will go through it.
        num_axes: 2 for images, 3 for volumes: what it is trained on, and will refuse others.

    Raises:
        OSError: If there is no such checkpoint.
        ValueError: If none is named, if it is no MiT, or if it lacks weights of the encoder or the
            decoder, or has them in other shapes.
    """
    if settings.model is None and settings.model_size is None:
        raise ValueError(
            "There is no model to start from. Give --model, a folder or a Hub name of a pretrained "
            "checkpoint; or --model_size tiny, for random weights."
        )
    options: dict[str, Any] = {
        "num_labels": len(data.class_names),
        "id2label": dict(enumerate(data.class_names)),
        "label2id": {name: number for number, name in enumerate(data.class_names)},
        "drop_path_rate": settings.drop_path_rate,
        "classifier_dropout_prob": settings.dropout,
        "problem_type": _problem_type(data, task),
        "trained_axes": num_axes,
        "window_size": None if window is None else list(window),
    }
    if task == "segmentation":
        options["deep_supervision"] = True
    model_class = _CLASSES[task]
    if settings.model_size is not None:
        model = model_class(_SIZES[settings.model_size](**options))
        new = [name for name, _ in model.named_parameters()]
    else:
        open_config(settings.model)  # tells of what is not there, or no MiT
        model, report = model_class.from_pretrained(
            locate(settings.model),
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **options,
        )
        # a mismatched key comes with its two shapes
        mismatched = [key if isinstance(key, str) else key[0] for key in report["mismatched_keys"]]
        new = sorted({*report["missing_keys"], *mismatched})
        absent = [name for name in new if not name.startswith(_HEADS[task])]
        if absent:
            raise ValueError(
                f"{settings.model} lacks {len(absent)} of the weights that a pretrained checkpoint "
                f"has, or has them in other shapes: {', '.join(absent[:3])}"
                f"{', …' if len(absent) > 3 else ''}. Fine-tuning would begin with random ones."
            )
    freeze(model, settings.freeze, task)
    if settings.gradient_checkpointing:
        model.activation_checkpointing_enable()
    return TaskModel(model.train(), new)


def _problem_type(data: LabelledData, task: Task) -> str | None:
    if task == "segmentation" and not data.is_multi_label:
        return None
    return data.problem_type


def open_processor(settings: FinetuningSettings) -> MiTImageProcessor:
    """Load a checkpoint's image processor, with the settings that replace its own.

    Raises:
        OSError: If there is no such checkpoint.
        TypeError: If it has no setting of a name.
        ValueError: If a setting is not valid, or the checkpoint is no MiT.
    """
    saved: dict[str, Any] = {}
    if settings.model is not None:
        open_config(settings.model)
        saved = MiTImageProcessor.from_pretrained(locate(settings.model)).to_dict()
        saved = {name: saved[name] for name in MiTImageProcessor.valid_kwargs.__annotations__}
    return MiTImageProcessor(**{**saved, **(settings.processor or {})})


def freeze(model: PreTrainedModel, what: str, task: Task) -> None:
    """Leave a part of a model untrained.

    Args:
        model: The model.
        what: "none"; "encoder"; "backbone": all but the head, which makes a linear probe of a
            classifier.
        task: What the model does.
    """
    if what == "none":
        return
    for name, parameter in model.named_parameters():
        is_head = name.startswith(_HEADS[task])
        parameter.requires_grad = is_head if what == "backbone" else not name.startswith("encoder.")


def learning_rate_factors(model: PreTrainedModel, decay: float) -> dict[str, float]:
    """Give each parameter the factor of its learning rate (layer-wise decay; Clark et al., 2020).

    The layers are the stem, each block of the encoder with what comes before it in its stage, each
    stage of the decoder, and the head, which has the factor 1; every layer below one has `decay`
    times its factor.

    Args:
        model: A MiT with a head.
        decay: From one layer to the one below it, in (0, 1].

    Returns:
        By the parameters' names.
    """
    depths = model.config.depths
    layers: dict[str, int] = {}
    for name, _ in model.named_parameters():
        block = _BLOCK.match(name)
        if name.startswith("encoder.stem."):
            layers[name] = 0
        elif block:
            layers[name] = 1 + sum(depths[: int(block[1])]) + int(block[2])
        elif name.startswith("encoder.stages."):
            layers[name] = 1 + sum(depths[: int(name.split(".")[2])])
        elif name.startswith("decoder.stages."):
            layers[name] = 1 + sum(depths) + int(name.split(".")[2])
        elif name.startswith("decoder."):
            layers[name] = sum(depths) + len(model.config.decoder_depths)
        else:
            layers[name] = -1
    top = max(layers.values()) + 1
    return {name: decay ** (top - (top if at < 0 else at)) for name, at in layers.items()}
