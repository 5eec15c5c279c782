"""The model card of a checkpoint of fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import ModelCard, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from transformers import PreTrainedModel

from ..data.labelled.sample_organs import SAMPLE_SHADOWS
from ..data.sample_terms import SAMPLE_LICENSE, find_sample_data
from ..hub.card_editing import PLACEHOLDER
from ..hub.card_fields import read_fields
from ..hub.compute_record import ComputeRecord
from ..hub.fetching import split_revision
from ..hub.training_data import TrainingData
from ..image_processing_mit import MiTImageProcessor
from .description import window_settings
from .settings import FinetuningSettings
from .task_card import TaskCard, TaskOrigin
from .task_data import TaskData


def make_card(
    model: PreTrainedModel,
    processor: MiTImageProcessor,
    settings: FinetuningSettings,
    task: TaskData,
    step: int,
    validation: Mapping[str, float] | None,
    compute: ComputeRecord | None = None,
) -> ModelCard:
    """Render the card of a checkpoint: its task, its inputs, its classes, how it was trained.

    A pretrained model on the Hub is named; paths of this machine are not, as a card is published.

    Args:
        model: The model.
        processor: What its inputs are prepared with.
        settings: Settings of the run.
        task: The data.
        step: Optimiser steps taken.
        validation: Numbers of the last validation, if there was one.
        compute: How long it computed, and on what, if that is known.
    """
    split = task.split
    window = window_settings(settings, task.num_axes, processor).window
    native = model.config.image_size if task.num_axes == 2 else model.config.volume_size
    return TaskCard(
        name=settings.push_to_hub or PLACEHOLDER,
        origin=find_origin(settings, task),
        num_axes=task.num_axes,
        class_names=task.data.class_names,
        problem_type=task.data.problem_type,
        processor=processor,
        window=tuple(window or native),
        settings=settings,
        step=step,
        cases=f"{len(split.train)}, {len(split.validation)}, {len(split.test)}",
        validation=validation or {},
        compute=compute,
    ).render()


def find_origin(settings: FinetuningSettings, task: TaskData) -> TaskOrigin:
    """Find out what a run's model is made from, and by which terms that is bound."""
    sample = find_sample_data(settings.dataset)
    data = TrainingData.of(task.layout) if sample is None else sample
    is_on_the_hub = _is_on_the_hub(settings.model)
    return TaskOrigin(
        layout=task.layout,
        data=data,
        license=task.layout.license if sample is None else SAMPLE_LICENSE,
        is_sample=sample is not None or task.layout.name == SAMPLE_SHADOWS.name,
        base_model=split_revision(settings.model)[0] if is_on_the_hub else None,
        base_license=_license_of(settings.model, is_on_the_hub),
    )


def _is_on_the_hub(model: str | None) -> bool:
    if model is None or Path(model).expanduser().exists() or model.count("/") != 1:
        return False
    try:
        validate_repo_id(split_revision(model)[0])
    except HFValidationError:
        return False
    return True


def _license_of(model: str | None, is_on_the_hub: bool) -> str | None:
    """The licence that a pretrained model's card names, where the card is on this machine."""
    if model is None:
        return None
    if is_on_the_hub:
        name, revision = split_revision(model)
        path = try_to_load_from_cache(name, "README.md", revision=revision)
    else:
        path = Path(model).expanduser() / "README.md"
    if not isinstance(path, str | Path) or not Path(path).is_file():
        return None
    try:
        found = read_fields(Path(path).read_text(encoding="utf-8")).get("license")
    except ValueError:
        return None
    return found if isinstance(found, str) else None
