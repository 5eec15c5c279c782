"""Scoring a fine-tuned model's folder on a part of a labelled data set."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from transformers import PreTrainedModel

from ..classification_mit import MiTForImageClassification
from ..data.labelled.case import SPLITS, LabelledCase
from ..image_processing_mit import MiTImageProcessor
from ..saved_models import locate
from ..segmentation_mit import MiTForSemanticSegmentation
from ..training.recipes import (
    check_at_least,
    check_types,
    json_mapping,
    parse_recipe_and_options,
    setting,
)
from .description import DESCRIPTION, TaskDescription
from .prediction import WindowSettings
from .scoring import Scores, ScoringSettings, score_cases
from .settings import FinetuningSettings
from .task_data import TaskData, check_mirror, open_task_data

PARTS = (*SPLITS, "all")


@dataclass
class EvaluationSettings:
    """What is scored, on what, and where scores go.

    Raises:
        ValueError: If a setting cannot be had.
    """

    model: str | None = setting(None, "folder of a fine-tuned model, or its name on the Hub")
    dataset: str | None = setting(None, "the data set's folder, as it is downloaded")
    output: str = setting("runs/evaluation", "folder for results.json, cases.csv and figures")
    part: str = setting(
        "test",
        "test, validation or train, as they were when the model was trained; all: every labelled "
        "case, of data that the model has not seen",
    )
    layout: str | None = setting(None, "which data set that is; default: the one it was trained on")
    layout_options: dict | str | None = setting(
        None, "options of its reader, as JSON; default: those of training"
    )
    window_overlap: float | None = setting(None, "share of a window that the next one covers again")
    window_batch_size: int = setting(4, "windows that go through the network at once")
    mirror: list[int] = setting(
        [], "axes (0: the first) that predictions of a segmentation are averaged over"
    )
    surface_tolerance: float = setting(2.0, "tolerance of the surface Dice, mm")
    specificity: float = setting(0.9, "specificity at which the sensitivity is told")
    bootstrap: int = setting(1000, "resamples of the intervals")
    figures: bool = setting(True, "draw pictures of cases, or curves")

    def __post_init__(self):
        if isinstance(self.layout_options, str):
            self.layout_options = json_mapping(
                "layout_options", self.layout_options, '{"modality": "ct"}'
            )
        check_types(self)
        if self.model is None or self.dataset is None:
            raise ValueError(
                "Give --model, a fine-tuned model's folder or name, and --dataset, a folder."
            )
        if self.part not in PARTS:
            raise ValueError(f"part is {self.part!r}; it must be one of {', '.join(PARTS)}.")
        check_at_least(self, 1, ("window_batch_size",))
        check_at_least(self, 0, ("bootstrap", "surface_tolerance"))


def parse_evaluation_settings(arguments: Sequence[str] | None = None) -> EvaluationSettings:
    """Read settings from a command line, see `parse_settings` of fine-tuning."""
    return parse_recipe_and_options(
        EvaluationSettings, "Scores a fine-tuned model on a labelled data set.", arguments
    )


@dataclass(frozen=True)
class Evaluation:
    """Scores, and what they are of.

    Attributes:
        scores: the scores.
        about: what `results.json` says of them.
        task: the data.
        cases: those that were scored.
        model: in evaluation mode.
        processor: what its inputs are prepared with.
        windows: how whole cases went through it.
    """

    scores: Scores
    about: dict[str, Any]
    task: TaskData
    cases: Sequence[LabelledCase]
    model: PreTrainedModel
    processor: MiTImageProcessor
    windows: WindowSettings


def evaluate_model(
    settings: EvaluationSettings,
    accelerator: Accelerator,
    tell: Callable[[str], None] = lambda text: None,
) -> Evaluation:
    """Score a fine-tuned model; every process calls it.

    Args:
        settings: What is scored, on what.
        accelerator: The processes, which share the cases.
        tell: Takes sentences on what goes on.

    Raises:
        OSError: If there is no such model or data set.
        ValueError: If the model was not fine-tuned here, has other classes than the data set, or
            if a case cannot be scored; if the output folder holds scores of something else.
    """
    folder = locate(settings.model)
    description = TaskDescription.load(folder)
    opened = _settings_of_training(settings, description)
    task = open_task_data(opened, settings.part != "all")
    check_mirror(settings.mirror, task)
    cases = _cases_of(task, settings.part)
    model_class = MiTForSemanticSegmentation if task.is_segmentation else MiTForImageClassification
    model = model_class.from_pretrained(folder, dtype=torch.float32)
    _require_same_classes(model, task, folder)
    processor = MiTImageProcessor.from_pretrained(folder)
    overlap = settings.window_overlap
    windows = WindowSettings(
        None if description.window is None else tuple(description.window),
        description.window_overlap if overlap is None else overlap,
        settings.window_batch_size,
        tuple(settings.mirror),
    )
    scoring = ScoringSettings(
        windows, settings.surface_tolerance, settings.specificity, settings.bootstrap
    )
    about = _about(settings, description, opened, task, scoring)
    if accelerator.is_main_process:
        _require_own_folder(Path(settings.output), about)
    count = f"{len(cases)} case{'s' if len(cases) != 1 else ''}"
    tell(f"Scoring {count} of {task.layout.title} ({settings.part}).")
    model = model.to(accelerator.device).eval()
    scores = score_cases(
        model, processor, task.data, cases, task.is_segmentation, scoring, accelerator
    )
    return Evaluation(scores, about, task, cases, model, processor, windows)


def _about(
    settings: EvaluationSettings,
    description: TaskDescription,
    opened: FinetuningSettings,
    task: TaskData,
    scoring: ScoringSettings,
) -> dict[str, Any]:
    """What `results.json` says of the scores."""
    return {
        "model": _name_of(settings.model),
        "data": {
            "layout": task.layout.name,
            "title": task.layout.title,
            "options": {
                name: value
                for name, value in (opened.layout_options or {}).items()
                if name not in description.withheld
            },
            "part": settings.part,
            "split": description.split,
        },
        "task": task.layout.task,
        "dimension": f"{task.num_axes}d",
        "settings": dataclasses.asdict(scoring),
    }


def _name_of(model: str) -> str:
    """What to call a model: a repository by its name, a run's `model` by the run's folder."""
    folder = Path(model).expanduser()
    if not folder.is_dir():
        return model
    return folder.name if folder.name != "model" else folder.resolve().parent.name


def _require_own_folder(output: Path, about: dict[str, Any]) -> None:
    """Refuse a folder with the scores of another model, or of other cases."""
    path = output / "results.json"
    if not path.is_file():
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        other = [name for name in ("model", "data") if found.get(name) != about[name]]
    except (ValueError, AttributeError):
        other = ["content"]
    if other:
        raise ValueError(
            f"{path} is there already, with another {' and '.join(other)}. Give another --output, "
            "so that these scores are not lost."
        )


def _settings_of_training(
    settings: EvaluationSettings, description: TaskDescription
) -> FinetuningSettings:
    """Settings by which the data set is split as it was."""
    options = settings.layout_options
    if settings.layout in (None, description.layout):
        if options is None:
            options = description.layout_options
        missing = [name for name in description.withheld if name not in options]
        if missing:
            raise ValueError(
                f"{settings.model} was trained with the options {missing} of its data set, which "
                "are paths and were not saved. Its cases would be split otherwise: give them again "
                f"in --layout_options, beside {description.layout_options}."
            )
    return FinetuningSettings(
        dataset=settings.dataset,
        layout=settings.layout or description.layout,
        layout_options=options,
        **description.split,
    )


def _cases_of(task: TaskData, part: str) -> Sequence[LabelledCase]:
    if part == "all":
        return [case for case in task.data.cases if case.is_labelled]
    return getattr(task.split, part)


def _require_same_classes(model: PreTrainedModel, task: TaskData, folder: Path) -> None:
    names = [model.config.id2label[number] for number in range(model.config.num_labels)]
    if names != list(task.data.class_names):
        raise ValueError(
            f"{folder} has the classes {names}, and {task.layout.title} has "
            f"{list(task.data.class_names)} ({DESCRIPTION} says what it was trained on)."
        )
