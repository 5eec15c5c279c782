"""Grids of voxels: from a file's to the network's, and the way back.

The world is that of NIfTI, in mm: x towards the patient's right, y anterior, z superior (RAS+).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn import functional

from .lazy_nibabel_mit import nibabel

AXES = ("depth", "height", "width")
LARGEST_VOLUME: ContextVar[int] = ContextVar("LARGEST_VOLUME", default=2**31)
"""Voxels that resampling makes at most: 8 GiB as float32. A server sets what it can afford."""

_SPACING_TOLERANCE = 1e-3  # of the spacing, or of a mm where it is larger
_UNTURNED = np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 1.0]])


def reverse_axes(values: np.ndarray) -> np.ndarray:
    """Turn nibabel's order of axes, (x, y, z), into (depth, height, width), or turn it back.

    Depth is z, height is y, width is x, so the order is reversed either way; no other place decides
    it. In RAS+, depth runs from inferior to superior, height from posterior to anterior, width from
    the patient's left to right. `values` are an array with 3 axes or 3 values (else a ValueError).
    """
    if values.ndim != 3 and values.shape != (3,):
        raise ValueError(f"Wanted an array with 3 axes or 3 values; got shape {values.shape}.")
    return values.transpose() if values.ndim == 3 else values[::-1]


@dataclass(frozen=True)
class VolumeGrid:
    """Where the voxels of a prepared volume lie on the grid that its source has.

    Attributes:
        source_shape: lengths of the source's axes (x, y, z) as they are stored.
        source_affine: `(4, 4)`, from the source's voxel indices to mm; `None` for an array.
        orientation: `(3, 2)`, how the source's axes are permuted and flipped to come closest to
            RAS+, as nibabel writes it.
        resampled: lengths (depth, height, width) of the whole volume after resampling.
        start: first voxel along each of these axes that was kept; negative where air was added.
        shape: lengths (depth, height, width) of the prepared volume.
    """

    source_shape: tuple[int, ...]
    source_affine: np.ndarray | None
    orientation: np.ndarray
    resampled: tuple[int, ...]
    start: tuple[int, ...]
    shape: tuple[int, ...]

    @classmethod
    def native(
        cls,
        source_shape: Sequence[int],
        source_affine: np.ndarray | None = None,
        orientation: np.ndarray = _UNTURNED,
    ) -> VolumeGrid:
        """The grid of a volume that is reoriented and nothing else."""
        source_shape = tuple(int(length) for length in source_shape)
        turned = tuple(source_shape[axis] for axis in np.argsort(orientation[:, 0]))[::-1]
        return cls(source_shape, source_affine, orientation, turned, (0, 0, 0), turned)

    @property
    def file_grid(self) -> VolumeGrid | None:
        """The grid of the volume file that it comes from: this one, unless it is an array's."""
        return None if self.source_affine is None else self

    @property
    def native_shape(self) -> tuple[int, ...]:
        """Lengths (depth, height, width) of the source after reorientation."""
        return self.native(self.source_shape, None, self.orientation).shape

    @property
    def affine(self) -> np.ndarray | None:
        """`(4, 4)`, from the prepared volume's indices (x, y, z) to mm; `None` for an array.

        Oblique axes stay oblique: only flips and permutations are undone.
        """
        if self.source_affine is None:
            return None
        turn = nibabel.orientations.inv_ornt_aff(self.orientation, self.source_shape)
        step = np.array(self.native_shape) / np.array(self.resampled)
        # Both grids fill the same box, so it is the voxels' edges that coincide, not their centres.
        offset = (np.array(self.start) + 0.5) * step - 0.5
        prepare = np.eye(4)
        prepare[:3, :3] = np.diag(reverse_axes(step))
        prepare[:3, 3] = reverse_axes(offset)
        return self.source_affine @ turn @ prepare

    @property
    def spacing(self) -> tuple[float, ...] | None:
        """Distance of voxel centres in mm, (depth, height, width); `None` for an array."""
        if self.source_affine is None:
            return None
        return tuple(reverse_axes(nibabel.affines.voxel_sizes(self.affine)).tolist())

    def resized(self, shape: Sequence[int]) -> VolumeGrid:
        """The grid after resampling the whole volume to a (depth, height, width)."""
        shape = tuple(int(length) for length in shape)
        return replace(self, resampled=shape, start=(0, 0, 0), shape=shape)

    def cropped(self, start: Sequence[int], shape: Sequence[int]) -> VolumeGrid:
        """The grid of a part, or of a larger box where `start` is negative."""
        start = tuple(old + new for old, new in zip(self.start, start, strict=True))
        return replace(self, start=start, shape=tuple(shape))

    def positions(self, axis: int, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Where the source's voxels lie along an axis of a prediction.

        Args:
            axis: 0, 1, 2 for depth, height, width after reorientation.
            length: the prediction's length, which covers what the prepared volume covers.

        Returns:
            The place of each source voxel's centre, in voxels of the prediction, float64, and
            whether it lies in one of them.
        """
        step = self.native_shape[axis] / self.resampled[axis]
        edges = (np.arange(self.native_shape[axis]) + 0.5) / step - self.start[axis]
        inside = (edges >= 0) & (edges < self.shape[axis])
        return edges * (length / self.shape[axis]) - 0.5, inside

    def to_source(self, voxels: np.ndarray) -> np.ndarray:
        """Turn `(depth, height, width)` on the source's own lengths to its stored (x, y, z)."""
        voxels = reverse_axes(voxels)
        if np.array_equal(self.orientation, _UNTURNED):
            return voxels
        back = nibabel.orientations.ornt_transform(_UNTURNED, self.orientation)
        return nibabel.apply_orientation(voxels, back)


def resampled_shape(
    shape: Sequence[int], native: Sequence[float], wanted: Sequence[float]
) -> tuple[int, ...]:
    """Lengths after resampling from one spacing in mm to another: the extent stays."""
    return tuple(
        n if abs(old - new) <= _SPACING_TOLERANCE * min(1, new) else max(1, round(n * old / new))
        for n, old, new in zip(shape, native, wanted, strict=True)
    )


def resample(
    volume: np.ndarray,
    native: Sequence[float],
    wanted: Sequence[float],
    name: str = "The given volume",
) -> np.ndarray:
    """Resample `(depth, height, width)` from one spacing in mm to another, antialiased.

    Raises:
        ValueError: if the result, or what is made on the way to it, would be larger than
            `LARGEST_VOLUME`; it names the volume.
    """
    depth, height, width = resampled_shape(volume.shape, native, wanted)
    if max(depth, len(volume)) * height * width > LARGEST_VOLUME.get():
        raise ValueError(
            f"{name}, {volume.shape} voxels with a spacing of {tuple(native)} mm, would have shape "
            f"{(depth, height, width)} at a spacing of {tuple(wanted)} mm. Check its spacing; give "
            f"the true one as source_spacing, or a coarser spacing."
        )
    voxels = torch.from_numpy(volume)
    if voxels.shape[1:] != (height, width):
        voxels = interpolate_plane(voxels[None], height, width)[0]
    if len(voxels) != depth:
        voxels = interpolate_plane(voxels.reshape(1, 1, len(voxels), -1), depth, height * width)
    return voxels.reshape(depth, height, width).numpy()


def nearest(labels: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Resample labels to a shape over the same extent: each voxel takes the nearest one's label."""
    for axis, (old, new) in enumerate(zip(labels.shape, shape, strict=True)):
        if old != new:
            indices = np.floor((np.arange(new) + 0.5) * (old / new)).astype(np.int64)
            labels = np.take(labels, indices.clip(0, old - 1), axis=axis)
    return labels


def interpolate_plane(images: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Resize `(batch, channels, height, width)`; an axis that keeps its length keeps its values."""
    return functional.interpolate(images, (height, width), mode="bilinear", antialias=True)


def crop_or_pad(
    voxels: np.ndarray, size: Sequence[int], fill: float
) -> tuple[np.ndarray, tuple[int, ...]]:
    """Cut each axis to a length, or fill it up, around its centre.

    Returns:
        The voxels, and the first that was kept of each axis: negative where it was filled up.
    """
    starts, kept, filled = [], [], []
    for have, want in zip(voxels.shape, size, strict=True):
        start, missing = max(have - want, 0) // 2, max(want - have, 0)
        kept.append(slice(start, start + want))
        filled.append((missing // 2, missing - missing // 2))
        starts.append(start - missing // 2)
    return np.pad(voxels[tuple(kept)], filled, constant_values=fill), tuple(starts)
