"""The models of the Space, opened from folders or the Hub, with the package or without it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import pipeline
from transformers.utils.logging import disable_progress_bar

from .settings import RANDOM, Settings

try:
    import unimiss_hf
except ImportError:
    # The code that each model carries is used.
    unimiss_hf = None


@dataclass(frozen=True)
class Models:
    """The pipelines of the models that are open.

    Attributes:
        encoder: `medical-feature-extraction`.
        segmenters: `medical-image-segmentation`, by the dimension of their inputs, 2 or 3.
        classifiers: `medical-image-classification`, likewise.
        is_random: Whether the encoder's weights are random.
        names: What was opened, by what it is for.
    """

    encoder: Any
    segmenters: Mapping[int, Any]
    classifiers: Mapping[int, Any]
    is_random: bool
    names: Mapping[str, str]


def open_models(settings: Settings) -> Models:
    """Open the models that the settings name.

    Raises:
        OSError, ValueError, ImportError: If one cannot be opened; the message names it.
    """
    disable_progress_bar()
    is_random = settings.encoder == RANDOM
    encoder = _random_encoder() if is_random else _open("feature-extraction", settings.encoder)
    opened: dict[str, dict[int, Any]] = {"segmentation": {}, "classification": {}}
    names = {"encoder": "random weights" if is_random else settings.encoder}
    for dimension in (2, 3):
        for kind, role in (("segmentation", "segmenter"), ("classification", "classifier")):
            model = getattr(settings, f"{role}_{dimension}d")
            if model is not None:
                opened[kind][dimension] = _open(f"image-{kind}", model)
                names[f"{dimension}D {kind}"] = model
    for classifier in opened["classification"].values():
        if classifier.model.config.problem_type == "regression":
            raise ValueError(
                f"{classifier.model.config.name_or_path} predicts values; the page shows the "
                "probabilities of classes. Give a model of classification, or none."
            )
    return Models(encoder, opened["segmentation"], opened["classification"], is_random, names)


def _open(task: str, model: str) -> Any:
    name, revision = model, None
    if not Path(model).is_dir():
        name, _, revision = model.partition("@")
    try:
        return pipeline(
            f"medical-{task}",
            name,
            revision=revision or None,
            trust_remote_code=unimiss_hf is None,
        )
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{model} cannot be opened for {task}: {error}") from error


def _random_encoder() -> Any:
    if unimiss_hf is None:
        raise ImportError(
            "Random weights need the package unimiss_hf, which is not installed. Give an encoder: "
            "a folder or a name on the Hub."
        )
    model = unimiss_hf.MiTModel(unimiss_hf.MiTConfig.tiny())
    processor = unimiss_hf.MiTImageProcessor()
    return pipeline("medical-feature-extraction", model, image_processor=processor)
