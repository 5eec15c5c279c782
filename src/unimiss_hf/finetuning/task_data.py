"""The data of a run: a labelled data set, what the task is, and how its cases are split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..data.labelled.case import LabelledData, LabelledLayout
from ..data.labelled.catalog import find_labelled_layout
from ..data.labelled.splits import CaseSplit, split_cases
from .settings import FinetuningSettings


@dataclass(frozen=True)
class TaskData:
    """A labelled data set, ready for a run.

    Attributes:
        layout: which data set it is.
        data: its classes and cases.
        split: which of them train, validate and test; empty if nothing was to be split.
        num_axes: 2 for images, 3 for volumes.
    """

    layout: LabelledLayout
    data: LabelledData
    split: CaseSplit
    num_axes: int

    @property
    def is_segmentation(self) -> bool:
        """Whether cases have label maps; else they have classes or values."""
        return self.layout.task == "segmentation"

    @property
    def is_multi_label(self) -> bool:
        """Whether several classes may be true of a case, or of a voxel."""
        return self.data.is_multi_label


def open_task_data(settings: FinetuningSettings, is_split: bool = True) -> TaskData:
    """Find out what a folder is, list its cases, and split them.

    Args:
        settings: Name the folder, and say how it is split.
        is_split: Whether it is to be split at all: a few cases are enough to score all of them.

    Raises:
        OSError: If there is no such folder.
        ValueError: If none is given, if it is no labelled data set that is known, if an option of
            its reader cannot be had, if its cases cannot be split, or are of both dimensions.
    """
    if settings.dataset is None:
        raise ValueError("There is no data to train on. Give --dataset, the data set's folder.")
    layout = find_labelled_layout(settings.dataset, settings.layout)
    data = layout.read(Path(settings.dataset).expanduser(), **(settings.layout_options or {}))
    dimensions = sorted({case.dimension for case in data.cases})
    if len(dimensions) != 1:
        raise ValueError(
            f"{settings.dataset} has cases of {' and '.join(dimensions) or 'no dimension'}; a task "
            "is of one."
        )
    if not is_split:
        return TaskData(layout, data, CaseSplit((), (), ()), int(dimensions[0][0]))
    split = split_cases(
        data,
        validation_fraction=settings.validation_fraction,
        test_fraction=settings.test_fraction,
        label_fraction=settings.label_fraction,
        folds=settings.folds,
        fold=settings.fold or 0,
        seed=settings.split_seed,
    )
    return TaskData(layout, data, split, int(dimensions[0][0]))


def check_mirror(mirror: Sequence[int], task: TaskData) -> None:
    """Refuse axes that predictions cannot be mirrored along.

    Raises:
        ValueError: If cases have no such axis, or have classes, which are predicted once.
    """
    if mirror and not task.is_segmentation:
        raise ValueError(
            f"mirror is {list(mirror)}, but only segmentations are averaged over mirror images, "
            f"and {task.layout.title} is a classification. Leave mirror out."
        )
    if any(not 0 <= axis < task.num_axes for axis in mirror):
        raise ValueError(
            f"mirror is {list(mirror)}; {task.num_axes}D cases have the axes "
            f"{list(range(task.num_axes))}."
        )
