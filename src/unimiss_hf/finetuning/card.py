"""The model card of a checkpoint of fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import ModelCard
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from transformers import PreTrainedModel

from ..hub.card_rendering import render_card
from .settings import FinetuningSettings
from .task_data import TaskData

# What tells runs apart, and nothing of the machine.
_SHOWN = (
    "seed",
    "freeze",
    "drop_path_rate",
    "label_fraction",
    "folds",
    "fold",
    "split_seed",
    "patch_size",
    "foreground_fraction",
    "batch_size",
    "accumulation",
    "learning_rate",
    "layer_decay",
    "weight_decay",
)
_PIPELINES = {
    "classification": ("image-classification", "medical-image-classification"),
    "segmentation": ("image-segmentation", "medical-image-segmentation"),
}


def make_card(
    model: PreTrainedModel,
    settings: FinetuningSettings,
    task: TaskData,
    step: int,
    validation: Mapping[str, float] | None,
) -> ModelCard:
    """Render the card of a checkpoint: its task, its classes, how it was trained.

    A pretrained model on the Hub is named; paths of this machine are not, as a card is published.

    Args:
        model: The model.
        settings: Settings of the run.
        task: The data.
        step: Optimiser steps taken.
        validation: Numbers of the last validation, if there was one.
    """
    layout = task.layout
    pipeline_tag, pipeline_task = _PIPELINES[layout.task]
    metadata = {
        "pipeline_tag": pipeline_tag,
        "tags": ["medical-imaging", layout.task, f"{task.num_axes}d", "unimiss", "unimiss_mit"],
    }
    if _is_on_the_hub(settings.model):
        metadata["base_model"] = settings.model
    split = task.split
    return render_card(
        "finetuned.md",
        metadata,
        what=f"{task.num_axes}D {layout.task}",
        dataset=layout.title,
        homepage=layout.homepage,
        licence=layout.license.name,
        citation=layout.citation,
        step=step,
        name=settings.push_to_hub or "the/folder/of/this/file",
        pipeline_task=pipeline_task,
        example="ct.nii.gz" if task.num_axes == 3 else "chest.png",
        classes=dict(enumerate(task.data.class_names)),
        overlap=task.is_multi_label,
        cases=f"{len(split.train)}, {len(split.validation)}, {len(split.test)}",
        settings={name: getattr(settings, name) for name in _SHOWN},
        validation=validation or {},
    )


def _is_on_the_hub(model: str | None) -> bool:
    if model is None or Path(model).expanduser().exists() or model.count("/") != 1:
        return False
    try:
        validate_repo_id(model)
    except HFValidationError:
        return False
    return True
