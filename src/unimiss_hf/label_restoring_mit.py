"""Predictions on a network's grid, back on the grid that the input had."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from .lazy_nibabel_mit import nibabel
from .plane_grids_mit import PlaneGrid
from .volume_grids_mit import VolumeGrid

# Scores that are interpolated to the native grid at once, 64 MiB.
_BLOCK = 2**24


@dataclass(frozen=True)
class InputGrid:
    """An input's own grid, and what a label map of it is given back as.

    Attributes:
        name: what messages call the input.
        kind: "image", "nifti", "dicom", "array" or "tensor".
        grid: where the prepared pixels or voxels lie on it.
        header: the file's header, if nibabel read it.
        stored_shape: the input's shape as stored, with axes of length 1.
    """

    name: str
    kind: str
    grid: VolumeGrid | PlaneGrid
    header: Any = None
    stored_shape: tuple[int, ...] | None = None

    def restore(self, scores: torch.Tensor) -> Any:
        """Turn scores into a label map on the input's own grid.

        Scores are interpolated linearly to the input's own voxels, and the class with the highest
        becomes the label; a single score stands for one class beside background, where it is above
        0. Voxels that were cropped away get label 0.

        Args:
            scores: `(classes, [depth,] height, width)`, float; covers what was prepared, at any
                resolution.

        Returns:
            A nibabel image for a volume file, on its affine; a PIL image for an image file; an
            array or tensor of the input's own axes for an array or tensor. The smallest of uint8,
            int16 and int32 that holds all classes; int64 for a tensor.
        """
        return self.place(label_map(scores, self.grid))

    def restore_masks(self, scores: torch.Tensor, threshold: float = 0.5) -> list[Any]:
        """Turn scores of classes that may overlap into a mask of each, on the input's own grid.

        Args:
            scores: As [`restore`] takes them; a sigmoid makes them probabilities.
            threshold: The probability, between 0 and 1, above which a voxel is inside.

        Returns:
            A mask for each class, see [`place`]; False where voxels were cropped away.
        """
        return [self.place(mask) for mask in mask_map(scores, self.grid, threshold)]

    def place(self, labels: np.ndarray) -> Any:
        """Give a label map or mask on the native grid back as what the input was.

        Args:
            labels: `([depth,] height, width)`, integers or booleans, see [`label_map`].

        Returns:
            A nibabel image for a volume file (a mask's voxels are 0 and 1, uint8), a PIL image for
            an image file (a mask's mode is "1"), an array or tensor for an array or tensor (int64
            or bool for a tensor).
        """
        is_mask = labels.dtype == bool
        if self.grid.file_grid is not None:
            labels = labels.astype(np.uint8) if is_mask else labels
            return self._nibabel_image(self.grid.to_source(labels))
        if self.kind in ("image", "dicom"):
            stored = np.ascontiguousarray(self.grid.to_source(labels))
            # Pillow knows no signed 16 bits.
            return Image.fromarray(stored if stored.itemsize == 1 else stored.astype(np.int32))
        if self.stored_shape is not None and math.prod(self.stored_shape) == labels.size:
            labels = labels.reshape(self.stored_shape)  # With axes of length 1; colours have none.
        if self.kind != "tensor":
            return labels
        tensor = torch.from_numpy(labels)
        return tensor if is_mask else tensor.long()

    def _nibabel_image(self, labels: np.ndarray) -> Any:
        labels = np.ascontiguousarray(labels).reshape(self.stored_shape or labels.shape)
        affine = self.grid.file_grid.source_affine
        second = isinstance(self.header, nibabel.Nifti2Header)
        kind = nibabel.Nifti2Image if second else nibabel.Nifti1Image
        header = None
        if isinstance(self.header, nibabel.Nifti1Header):
            header = self.header.copy()
            header["cal_min"], header["cal_max"] = 0, 0  # They are the image's grey levels.
            header.set_slope_inter(1, 0)
        image = kind(labels, affine, header, dtype=labels.dtype)
        if header is None:
            image.set_sform(affine, code="scanner")
            image.set_qform(affine, code="scanner")
        return image


def label_map(scores: torch.Tensor, grid: VolumeGrid | PlaneGrid) -> np.ndarray:
    """Labels `([depth,] height, width)` on the native grid of scores `(classes, ...)`.

    Works through the volume slice by slice, so that the scores of many classes on a fine grid are
    never held at once.
    """
    return labels_of_slices(*_slices(scores, grid), grid)


def mask_map(
    scores: torch.Tensor, grid: VolumeGrid | PlaneGrid, threshold: float = 0.5
) -> np.ndarray:
    """Masks `(classes, [depth,] height, width)`, bool, on the native grid of such scores."""
    return masks_of_slices(*_slices(scores, grid), grid, threshold)


def labels_of_slices(
    slices: Iterable[torch.Tensor], shape: Sequence[int], grid: VolumeGrid | PlaneGrid
) -> np.ndarray:
    """Make the label map of scores that come slice by slice, of which it holds two at a time.

    Args:
        slices: `(classes, height, width)`, along depth in order; one, if it is an image.
        shape: `([depth,] height, width)` of all of them.
        grid: Where they lie.

    Returns:
        As of [`label_map`].
    """
    classes, slices = _number_of_classes(slices)
    labels = np.zeros((1, *grid.native_shape)[-3:], dtype=_label_type(classes))
    for block in _native_blocks(slices, shape, grid):
        best = _best_class(block.scores) if classes > 1 else block.scores[0] > 0
        labels[block.place] = np.where(block.inside, best.cpu().numpy(), 0)
    return labels.reshape(grid.native_shape)


def masks_of_slices(
    slices: Iterable[torch.Tensor],
    shape: Sequence[int],
    grid: VolumeGrid | PlaneGrid,
    threshold: float = 0.5,
) -> np.ndarray:
    """Make the masks of scores that come slice by slice, see [`labels_of_slices`].

    Raises:
        ValueError: If the threshold is not between 0 and 1.
    """
    if not 0 < threshold < 1:
        raise ValueError(f"threshold is {threshold}; wanted a probability between 0 and 1.")
    least = math.log(threshold / (1 - threshold))
    classes, slices = _number_of_classes(slices)
    masks = np.zeros((classes, *(1, *grid.native_shape)[-3:]), dtype=bool)
    for block in _native_blocks(slices, shape, grid):
        masks[:, *block.place] = (block.scores > least).cpu().numpy() & block.inside
    return masks.reshape(classes, *grid.native_shape)


def probabilities_of_slices(
    slices: Iterable[torch.Tensor],
    shape: Sequence[int],
    grid: VolumeGrid | PlaneGrid,
    multi_label: bool,
    dtype: type = np.float32,
) -> np.ndarray:
    """Make the probabilities of scores that come slice by slice, see [`labels_of_slices`].

    Scores are interpolated before they become probabilities, so that the class with the highest is
    that of the label map.

    Args:
        slices, shape, grid: As there.
        multi_label: Whether each class has a sigmoid of its own rather than all one softmax.
        dtype: A floating-point type of numpy.

    Returns:
        `(classes, [depth,] height, width)`. Voxels that were cropped away are background for
        certain, or no class at all where there is no background.
    """
    classes, slices = _number_of_classes(slices)
    separate = multi_label or classes == 1
    values = np.zeros((classes, *(1, *grid.native_shape)[-3:]), dtype=dtype)
    if not separate:
        values[0] = 1
    for block in _native_blocks(slices, shape, grid):
        found = block.scores.sigmoid() if separate else block.scores.softmax(0)
        place = (slice(None), *block.place)
        values[place] = np.where(block.inside, found.cpu().numpy(), values[place])
    return values.reshape(classes, *grid.native_shape)


@dataclass(frozen=True)
class _NativeBlock:
    """Scores `(classes, rows, width)` of some rows of a native slice, and which were not cropped.

    Attributes:
        place: the slice's index along depth, and its rows.
        inside: `(rows, width)`.
    """

    place: tuple[int, slice]
    scores: torch.Tensor
    inside: np.ndarray


def _slices(
    scores: torch.Tensor, grid: VolumeGrid | PlaneGrid
) -> tuple[Sequence[torch.Tensor], tuple[int, ...]]:
    """Scores as slices, and the lengths of their grid."""
    scores = scores.detach().float().cpu()
    wanted = len(grid.native_shape)
    if scores.ndim != 1 + wanted:
        raise ValueError(
            f"Wanted scores with {1 + wanted} axes, (classes, {'depth, ' * (wanted == 3)}height, "
            f"width); got shape {tuple(scores.shape)}."
        )
    return scores.unbind(1) if wanted == 3 else [scores], tuple(scores.shape[1:])


def _number_of_classes(
    slices: Iterable[torch.Tensor],
) -> tuple[int, Iterator[torch.Tensor]]:
    slices = iter(slices)
    first = next(slices)
    return len(first), itertools.chain([first], slices)


def _native_blocks(
    slices: Iterator[torch.Tensor], shape: Sequence[int], grid: VolumeGrid | PlaneGrid
) -> Iterator[_NativeBlock]:
    """Interpolate scores linearly to the native grid, leaving out slices that were cropped away."""
    *deep, rows, columns = (
        _Samples(*grid.positions(axis, length), length) for axis, length in enumerate(shape)
    )
    inside = rows.inside[:, None] & columns.inside
    if deep:

        def in_plane(plane: torch.Tensor) -> torch.Tensor:
            return columns.along(rows.along(plane.float(), 1), 2)

        for index, plane in deep[0].between(slices, in_plane):
            yield _NativeBlock((index, slice(None)), plane, inside)
        return
    (plane,) = slices
    step = max(1, _BLOCK // (len(plane) * len(columns.inside)))
    for first in range(0, len(inside), step):
        part = slice(first, min(first + step, len(inside)))
        block = columns.along(rows.along(plane.float(), 1, part), 2)
        yield _NativeBlock((0, part), block, inside[part])


def _best_class(scores: torch.Tensor) -> torch.Tensor:
    """The class with the highest score, the first of equal ones.

    One class after the other, as their planes stay in the processor's cache, is ten times faster
    than to reduce the first axis at once.
    """
    best, labels = scores[0], torch.zeros_like(scores[0], dtype=torch.int32)
    for number, score in enumerate(scores[1:], start=1):
        labels.masked_fill_(score > best, number)
        best = torch.maximum(best, score)
    return labels


class _Samples:
    """Linear interpolation at given places of an axis."""

    def __init__(self, places: np.ndarray, inside: np.ndarray, length: int):
        places = places.clip(0, length - 1)
        self.inside = inside
        self.low = torch.from_numpy(np.floor(places).astype(np.int64))
        self.high = (self.low + 1).clamp(max=length - 1)
        self.part = torch.from_numpy((places - np.floor(places)).astype(np.float32))
        self.unchanged = np.array_equal(places, np.arange(length))

    def along(self, plane: torch.Tensor, axis: int, places: slice = slice(None)) -> torch.Tensor:
        """The plane `(classes, height, width)` at some of the places along an axis."""
        if axis == 2:
            # Whole rows are copied 20 times faster than single values.
            return self.along(plane.transpose(1, 2), 1, places).transpose(1, 2)
        if self.unchanged:
            return plane[:, places]
        low, high, part = (
            values[places].to(plane.device) for values in (self.low, self.high, self.part)
        )
        plane = plane.contiguous()
        return torch.lerp(plane.index_select(1, low), plane.index_select(1, high), part[:, None])

    def between(
        self,
        planes: Iterator[torch.Tensor],
        in_plane: Callable[[torch.Tensor], torch.Tensor],
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """The planes at the places that are inside, of planes that come one after the other.

        Each plane that takes part is interpolated in itself before, once.
        """
        held: dict[int, torch.Tensor] = {}
        numbered, newest = enumerate(planes), -1
        for index in np.flatnonzero(self.inside).tolist():
            low, high, part = int(self.low[index]), int(self.high[index]), float(self.part[index])
            held = {place: kept for place, kept in held.items() if place >= low}
            while newest < high:
                newest, plane = next(numbered)
                if newest >= low:
                    held[newest] = in_plane(plane)
            yield index, held[low] if part == 0 else torch.lerp(held[low], held[high], part)


def _label_type(classes: int) -> type:
    return np.uint8 if classes <= 256 else np.int16 if classes <= 2**15 else np.int32
