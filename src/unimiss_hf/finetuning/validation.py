"""What validation says of a model: a few numbers that tell checkpoints apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from accelerate import Accelerator
from transformers import PreTrainedModel

from ..data.labelled.label_bits import unpack_masks
from ..metrics.classification_scores import classification_scores
from ..metrics.overlap import dice_of_counts, overlap_counts, overlap_counts_of_masks
from .prediction import (
    WindowSettings,
    classify,
    judge_in_shares,
    native_grid,
    segment,
)
from .prepared_cases import PreparedCase
from .task_data import TaskData

PREFIX = "validation/"
_OF_CLASSES = ("auroc", "average_precision", "accuracy", "f1")
_OF_VALUES = ("mean_absolute_error", "root_mean_squared_error")


def default_metric(task: TaskData) -> tuple[str, str]:
    """What tells the best checkpoint of a task, and whether more or less of it is better."""
    if task.is_segmentation:
        return "dice", "max"
    if task.data.problem_type == "regression":
        return "mean_absolute_error", "min"
    return "auroc", "max"


def number_names(task: TaskData) -> list[str]:
    """List the numbers of a validation, without their prefix."""
    if task.is_segmentation:
        foreground = task.data.class_names if task.is_multi_label else task.data.class_names[1:]
        return ["dice", *(f"dice/{name}" for name in foreground)]
    return list(_OF_VALUES if task.data.problem_type == "regression" else _OF_CLASSES)


def validate(
    model: PreTrainedModel,
    cases: Sequence[PreparedCase],
    task: TaskData,
    windows: WindowSettings,
    accelerator: Accelerator,
) -> dict[str, float]:
    """Judge a model by the validation cases, on the network's grid; every process calls it.

    The Dice of a class is the mean over the cases that have it in the reference or the prediction,
    "dice" the mean over the classes; classes that no case has are in neither.

    Args:
        model: Unwrapped; it is back in training mode at the end.
        cases: All validation cases; processes share them.
        task: The data.
        windows: How whole cases go through the network.
        accelerator: The processes.

    Returns:
        The numbers, with their prefix; the same in all processes. What is undefined is left out.

    Raises:
        ValueError: If the validation cases lack a class that AUROC needs.
    """
    judge = _overlap if task.is_segmentation else _scores
    gathered = judge_in_shares(
        model, cases, lambda case: judge(model, case, task, windows), accelerator
    )
    summarise = _dice if task.is_segmentation else _classification
    numbers = summarise(gathered, cases, task)
    return {f"{PREFIX}{name}": value for name, value in numbers.items()}


def _overlap(
    model: PreTrainedModel, case: PreparedCase, task: TaskData, windows: WindowSettings
) -> np.ndarray:
    image = torch.from_numpy(np.array(case.image(), dtype=np.float32))[None]
    predicted = torch.from_numpy(segment(model, image, native_grid(image.shape[2:]), windows))
    wanted = torch.from_numpy(np.array(case.labels(), dtype=np.int64))
    classes = len(task.data.class_names)
    if task.is_multi_label:
        masks = unpack_masks(wanted[None], classes)[0].bool()
        return overlap_counts_of_masks(predicted, masks).numpy()
    return overlap_counts(predicted.long(), wanted, classes)[1:].numpy()


def _scores(
    model: PreTrainedModel, case: PreparedCase, task: TaskData, windows: WindowSettings
) -> np.ndarray:
    image = torch.from_numpy(np.array(case.image(), dtype=np.float32))[None]
    return classify(model, image).numpy()


def _dice(
    rows: list[np.ndarray], cases: Sequence[PreparedCase], task: TaskData
) -> dict[str, float]:
    # (cases, classes)
    dice = dice_of_counts(torch.from_numpy(np.stack(rows)))
    counted = np.isfinite(dice).sum(0)
    means = np.nansum(dice, axis=0) / np.maximum(counted, 1)
    names = number_names(task)[1:]
    numbers = {name: float(mean) for name, mean, n in zip(names, means, counted, strict=True) if n}
    return {"dice": float(np.mean(list(numbers.values()))), **numbers} if numbers else {}


def _classification(
    rows: list[np.ndarray], cases: Sequence[PreparedCase], task: TaskData
) -> dict[str, float]:
    scores = classification_scores(
        np.stack(rows),
        np.array([case.case.target for case in cases]),
        task.data.problem_type,
        task.data.class_names,
        [case.case.name for case in cases],
        bootstrap=0,
        undefined="omit" if task.data.problem_type == "regression" else "raise",
    )
    return {name: scores[name] for name in number_names(task) if scores[name] is not None}
