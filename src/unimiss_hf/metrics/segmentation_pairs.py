"""A predicted segmentation and its reference: checked, and cut into the masks of classes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.ndimage import find_objects

from ..input_checks_mit import did_you_mean, near_names
from .overlap import overlap_counts, overlap_counts_of_masks
from .scattered_masks import ScatteredMask

Box = tuple[slice, ...]

# A voxel of a list takes some eight times as long as one of a box.
_SCATTERED = 16


@dataclass(frozen=True)
class SegmentationPair:
    """Two segmentations of one grid.

    Attributes:
        prediction: `([depth,] height, width)`, integers; multi-label `(classes, [depth,] height,
            width)`, bool. What is ignored is background in both.
        reference: likewise.
        counts: `(classes, 3)`: voxels in both, in the prediction, in the reference.
        multi_label: whether they are masks.
    """

    prediction: np.ndarray
    reference: np.ndarray
    counts: np.ndarray
    multi_label: bool

    def masks(
        self, classes: Sequence[int]
    ) -> Iterator[tuple[np.ndarray, np.ndarray] | tuple[ScatteredMask, ScatteredMask]]:
        """The two masks of each class that is in both.

        They are cut to the box that holds them, or lists of voxels, where these fill little of it.
        """
        boxes = self._boxes(classes)
        scattered = [number for number in classes if self._is_scattered(number, boxes[number])]
        listed = None
        if not self.multi_label and scattered:
            listed = [_voxels(labels, scattered) for labels in (self.prediction, self.reference)]
        for number in classes:
            if listed is not None and number in scattered:
                shape = self.prediction.shape
                yield tuple(ScatteredMask(voxels[number], shape) for voxels in listed)
                continue
            box = boxes[number]
            if self.multi_label:
                pair = self.prediction[number][box], self.reference[number][box]
            else:
                pair = self.prediction[box] == number, self.reference[box] == number
            yield tuple(map(ScatteredMask.of, pair)) if number in scattered else pair

    def _boxes(self, classes: Sequence[int]) -> dict[int, Box]:
        """What holds each class in both segmentations."""
        both = self.prediction, self.reference
        if self.multi_label:
            found = {
                number: [find_objects(masks[number].astype(np.uint8))[0] for masks in both]
                for number in classes
            }
        else:
            objects = [find_objects(labels, max(classes, default=0)) for labels in both]
            found = {number: [each[number - 1] for each in objects] for number in classes}
        return {number: _union(*pair) for number, pair in found.items()}

    def _is_scattered(self, number: int, box: Box) -> bool:
        size = math.prod(axis.stop - axis.start for axis in box)
        return int(self.counts[number, 1:].sum()) * _SCATTERED < size


def _voxels(labels: np.ndarray, classes: Sequence[int]) -> dict[int, np.ndarray]:
    """Numbers of the voxels of each class, rising; the label map is gone through once."""
    wanted = np.zeros(int(labels.max()) + 1, dtype=bool)
    wanted[list(classes)] = True
    places = np.flatnonzero(wanted[labels])
    values = labels.reshape(-1)[places].astype(np.min_scalar_type(len(wanted)))
    order = np.argsort(values, kind="stable")
    ends = np.searchsorted(values[order], [(number, number + 1) for number in classes])
    return {
        number: places[order[first:last]]
        for number, (first, last) in zip(classes, ends, strict=True)
    }


def check_pair(
    prediction: Any,
    reference: Any,
    num_classes: int,
    multi_label: bool,
    ignore_index: int | None,
) -> SegmentationPair:
    """Check two segmentations and count their voxels, see `segmentation_scores`.

    Raises:
        ValueError: if shapes, types or labels are not those of two segmentations of one grid.
    """
    predicted, wanted = np.asarray(prediction), np.asarray(reference)
    if predicted.shape != wanted.shape:
        raise ValueError(
            f"The prediction's shape is {predicted.shape}, the reference's {wanted.shape}; wanted "
            "the same grid."
        )
    axes = predicted.ndim - multi_label
    if axes not in (2, 3) or not predicted.size:
        shape = "(classes, [depth,] height, width)" if multi_label else "([depth,] height, width)"
        raise ValueError(f"Wanted segmentations {shape}; got shape {predicted.shape}.")
    if multi_label:
        return _masks_pair(predicted, wanted, num_classes)
    maps = [torch.from_numpy(_integers(array, name)) for array, name in _named(predicted, wanted)]
    counts = overlap_counts(*maps, num_classes, ignore_index)
    predicted, wanted = (labels.numpy() for labels in maps)
    if ignore_index is not None and (ignored := wanted == ignore_index).any():
        predicted, wanted = np.where(ignored, 0, predicted), np.where(ignored, 0, wanted)
    return SegmentationPair(predicted, wanted, counts.numpy(), False)


def check_spacing(spacing: Sequence[float], axes: int) -> tuple[float, ...]:
    """Return a length for each axis, or raise a ValueError."""
    lengths = np.ravel(spacing)
    if lengths.dtype.kind not in "iuf" or not all(0 < length < math.inf for length in lengths):
        raise ValueError(f"spacing must be positive mm; got {spacing!r}.")
    if len(lengths) != axes:
        raise ValueError(f"spacing has {len(lengths)} lengths; the segmentation has {axes} axes.")
    return tuple(map(float, lengths))


def check_tolerances(
    tolerance_mm: float | Mapping[str, float], class_names: Sequence[str]
) -> dict[str, float]:
    """Return each class's tolerance in mm, or raise a ValueError that names the class."""
    if not isinstance(tolerance_mm, Mapping):
        tolerance_mm = dict.fromkeys(class_names, tolerance_mm)
    for name in tolerance_mm:
        if name not in class_names:
            near = did_you_mean(near_names(str(name), class_names))
            raise ValueError(f"tolerance_mm names {name!r}, which is no class.{near}")
    missing = [name for name in class_names if name not in tolerance_mm]
    if missing:
        raise ValueError(f"tolerance_mm lacks the classes {', '.join(missing)}.")
    for name, length in tolerance_mm.items():
        if not isinstance(length, int | float) or not 0 <= length < math.inf:
            raise ValueError(f"tolerance_mm of {name} must be mm, 0 or more; got {length!r}.")
    return {name: float(tolerance_mm[name]) for name in class_names}


def _masks_pair(predicted: np.ndarray, wanted: np.ndarray, num_classes: int) -> SegmentationPair:
    if len(predicted) != num_classes:
        raise ValueError(f"There are {len(predicted)} masks; wanted one for each of {num_classes}.")
    for masks, name in _named(predicted, wanted):
        if masks.dtype != bool and not np.isin(masks, (0, 1)).all():
            raise ValueError(f"The {name} of a multi-label segmentation must be masks of 0 and 1.")
    predicted, wanted = predicted.astype(bool), wanted.astype(bool)
    counts = overlap_counts_of_masks(torch.from_numpy(predicted), torch.from_numpy(wanted))
    return SegmentationPair(predicted, wanted, counts.numpy(), True)


def _named(predicted: np.ndarray, wanted: np.ndarray) -> tuple[tuple[np.ndarray, str], ...]:
    return (predicted, "prediction"), (wanted, "reference")


def _integers(labels: np.ndarray, name: str) -> np.ndarray:
    """As a type that torch has."""
    if labels.dtype.kind not in "biu":
        raise ValueError(f"The {name} is {labels.dtype}; wanted a label map of integers.")
    if labels.dtype == bool:
        return labels.astype(np.uint8)
    if labels.dtype.kind == "u" and labels.dtype != np.uint8:
        return labels.astype(np.int64)
    return np.ascontiguousarray(labels.astype(labels.dtype.newbyteorder("="), copy=False))


def _union(first: Box, second: Box) -> Box:
    return tuple(
        slice(min(a.start, b.start), max(a.stop, b.stop))
        for a, b in zip(first, second, strict=True)
    )
