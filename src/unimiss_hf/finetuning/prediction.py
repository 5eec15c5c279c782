"""Predictions of whole cases, as validation and scoring need them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from transformers import PreTrainedModel

from ..plane_grids_mit import PlaneGrid
from ..volume_grids_mit import VolumeGrid
from ..whole_prediction_mit import predict_labels

Case = TypeVar("Case")
Judged = TypeVar("Judged")


@dataclass(frozen=True)
class WindowSettings:
    """How whole cases go through a network; see `whole_prediction_mit.predict_labels`.

    Attributes:
        window: `([depth,] height, width)`; `None`: the network's native size.
        overlap: share of a window that the next one covers again.
        batch_size: windows that go through the network at once.
        mirror: axes that predictions are averaged over.
    """

    window: tuple[int, ...] | None = None
    overlap: float = 0.5
    batch_size: int = 4
    mirror: tuple[int, ...] = ()


def judge_in_shares(
    model: PreTrainedModel,
    cases: Sequence[Case],
    judge: Callable[[Case], Judged],
    accelerator: Accelerator,
) -> list[Judged]:
    """Judge a model on cases, each by one process; every process calls it.

    Args:
        model: In evaluation mode meanwhile; its training mode is as before at the end.
        cases: The same in all processes.
        judge: What is found out of one of them.
        accelerator: The processes, and the precision.

    Returns:
        What was found, in the cases' order, in all processes.
    """
    was_training = model.training
    model.eval()
    own = range(accelerator.process_index, len(cases), accelerator.num_processes)
    try:
        with accelerator.autocast():
            found = [(index, judge(cases[index])) for index in own]
    finally:
        model.train(was_training)
    return [row for _, row in sorted(gather_object(found), key=lambda item: item[0])]


def native_grid(size: Sequence[int]) -> VolumeGrid | PlaneGrid:
    """The grid of a prepared case itself, `([depth,] height, width)`: nothing is resampled."""
    if len(size) == 2:
        return PlaneGrid(tuple(size), tuple(size))
    return VolumeGrid.native(tuple(size)[::-1])


def segment(
    model: PreTrainedModel,
    pixel_values: torch.Tensor,
    grid: VolumeGrid | PlaneGrid,
    windows: WindowSettings,
) -> np.ndarray:
    """Segment one case.

    Args:
        model: In evaluation mode.
        pixel_values: `(1, channels, [depth,] height, width)`.
        grid: On which the result lies.
        windows: How.

    Returns:
        The label map `([depth,] height, width)`; of overlapping classes, bool masks
        `(classes, [depth,] height, width)`.
    """
    return predict_labels(
        model,
        pixel_values,
        grid,
        window=windows.window,
        overlap=windows.overlap,
        batch_size=windows.batch_size,
        mirror=windows.mirror,
    )


@torch.no_grad()
def classify(model: PreTrainedModel, pixel_values: torch.Tensor) -> torch.Tensor:
    """Classify one case, whole.

    Args:
        model: In evaluation mode.
        pixel_values: `(1, channels, [depth,] height, width)`.

    Returns:
        `(classes,)`, float32: probabilities; of a regression, values.
    """
    logits = model(pixel_values.to(model.device, model.dtype), return_dict=True).logits[0].float()
    problem_type = model.config.problem_type
    if problem_type == "regression":
        return logits.cpu()
    many = problem_type == "multi_label_classification"
    return (logits.sigmoid() if many else logits.double().softmax(0)).float().cpu()
