"""Predictions on a network's grid, back on the grid that the input had."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from .lazy_nibabel_mit import nibabel
from .plane_grids_mit import PlaneGrid
from .volume_grids_mit import VolumeGrid


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
        labels = label_map(scores, self.grid)
        if self.grid.file_grid is not None:
            return self._nibabel_image(self.grid.to_source(labels))
        if self.kind in ("image", "dicom"):
            stored = np.ascontiguousarray(self.grid.to_source(labels))
            # Pillow knows no signed 16 bits.
            return Image.fromarray(stored if stored.itemsize == 1 else stored.astype(np.int32))
        if self.stored_shape is not None and math.prod(self.stored_shape) == labels.size:
            labels = labels.reshape(self.stored_shape)  # With axes of length 1; colours have none.
        return torch.from_numpy(labels).long() if self.kind == "tensor" else labels

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
    scores = scores.detach().float().cpu()
    wanted = len(grid.native_shape)
    if scores.ndim != 1 + wanted:
        raise ValueError(
            f"Wanted scores with {1 + wanted} axes, (classes, {'depth, ' * (wanted == 3)}height, "
            f"width); got shape {tuple(scores.shape)}."
        )
    if wanted == 2:
        scores = scores[:, None]
    sampled = [
        _Samples(*grid.positions(axis, length), length)
        for axis, length in enumerate(scores.shape[-wanted:])
    ]
    *deep, rows, columns = sampled
    labels = np.zeros((1, *grid.native_shape)[-3:], dtype=_label_type(len(scores)))
    inside = rows.inside[:, None] & columns.inside
    for index in range(len(labels)):
        if deep and not deep[0].inside[index]:
            continue
        plane = deep[0].at(scores, index) if deep else scores[:, 0]
        plane = columns.along(rows.along(plane, 1), 2)
        # `max` finds the same as `argmax`, which is 15 times slower along the first axis.
        best = plane.max(0).indices if len(plane) > 1 else plane[0] > 0
        labels[index] = np.where(inside, best.numpy(), 0)
    return labels if deep else labels[0]


class _Samples:
    """Linear interpolation at given places of an axis."""

    def __init__(self, places: np.ndarray, inside: np.ndarray, length: int):
        places = places.clip(0, length - 1)
        self.inside = inside
        self.low = torch.from_numpy(np.floor(places).astype(np.int64))
        self.high = (self.low + 1).clamp(max=length - 1)
        self.part = torch.from_numpy((places - np.floor(places)).astype(np.float32))

    def at(self, scores: torch.Tensor, index: int) -> torch.Tensor:
        """The plane `(classes, height, width)` at one place along depth."""
        low, high = scores[:, self.low[index]], scores[:, self.high[index]]
        return torch.lerp(low, high, self.part[index])

    def along(self, plane: torch.Tensor, axis: int) -> torch.Tensor:
        """The plane at all places along an axis."""
        part = self.part[:, None] if axis == 1 else self.part
        low, high = plane.index_select(axis, self.low), plane.index_select(axis, self.high)
        return torch.lerp(low, high, part)


def _label_type(classes: int) -> type:
    return np.uint8 if classes <= 256 else np.int16 if classes <= 2**15 else np.int32
