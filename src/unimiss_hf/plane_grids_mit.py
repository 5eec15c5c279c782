"""Grids of pixels: from an image file's to the network's, and the way back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .volume_grids_mit import VolumeGrid

# What turns an upright array back to how a file with this EXIF orientation stores it.
_UNDO_EXIF = {
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.T,
    6: lambda image: np.rot90(image),
    7: lambda image: image[::-1, ::-1].T,
    8: lambda image: np.rot90(image, -1),
}


@dataclass(frozen=True)
class PlaneGrid:
    """How the pixels of a prepared image lie on the grid that its source has.

    Attributes:
        source_shape: (height, width) of the source as it is displayed.
        shape: (height, width) of the prepared image, which shows all of the source.
        exif_orientation: how the source is stored, as EXIF counts it; 1 is upright.
        slice_grid: the grid of the file, where the source is a volume file with one slice.
    """

    source_shape: tuple[int, int]
    shape: tuple[int, int]
    exif_orientation: int = 1
    slice_grid: VolumeGrid | None = None

    @property
    def file_grid(self) -> VolumeGrid | None:
        """The grid of the volume file that it is the one slice of, if it is."""
        return self.slice_grid

    @property
    def native_shape(self) -> tuple[int, int]:
        """(height, width) of the source as it is displayed."""
        return self.source_shape

    def resized(self, shape: Sequence[int]) -> PlaneGrid:
        """The grid after resizing the whole image to a (height, width)."""
        height, width = shape
        return replace(self, shape=(int(height), int(width)))

    def positions(self, axis: int, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Where the source's pixels lie along an axis of a prediction, see `VolumeGrid`."""
        source = self.source_shape[axis]
        centres = (np.arange(source) + 0.5) * (length / source) - 0.5
        return centres, np.ones(source, dtype=bool)

    def to_source(self, pixels: np.ndarray) -> np.ndarray:
        """Turn `(height, width)` on the source's own lengths to the way the file stores it."""
        if self.slice_grid is not None:
            flat = self.slice_grid.native_shape.index(1)
            return self.slice_grid.to_source(np.expand_dims(pixels, flat))
        return _UNDO_EXIF.get(self.exif_orientation, lambda image: image)(pixels)
