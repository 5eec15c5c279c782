"""An upload as it is looked at: all of its values on its own grid."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Source = str | list[str]
"""The path of a file, or those of the slices of one DICOM series."""


@dataclass(frozen=True)
class ViewedImage:
    """A radiograph or a volume, on its own grid.

    Attributes:
        name: What the page calls it.
        values: `(depth, height, width)`; depth is 1 in 2D. HU of a CT, int16 where that keeps them;
            grey levels in [0, 1] of a radiograph, float32.
        spacing: Distance of voxel centres in mm along these axes; `None` if it is not known.
        is_volume: Whether it is 3D: RAS+, depth from inferior to superior, height from posterior to
            anterior, width from the patient's left to right.
        is_hounsfield: Whether the values are those of a volume or of a slice of one.
        exif_orientation: How an image file stores it, as EXIF counts.
    """

    name: str
    values: np.ndarray
    spacing: tuple[float, float, float] | None
    is_volume: bool
    is_hounsfield: bool
    exif_orientation: int = 1

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(depth, height, width)`."""
        depth, height, width = self.values.shape
        return depth, height, width

    @property
    def description(self) -> str:
        """Its size in words."""
        depth, height, width = self.shape
        if not self.is_volume:
            return f"2D image of {width} x {height} pixels"
        if self.spacing is None:
            return f"volume of {width} x {height} x {depth} voxels of unknown spacing"
        along = " x ".join(f"{step:.3g}" for step in reversed(self.spacing))
        return f"volume of {width} x {height} x {depth} voxels, {along} mm"


def read_image(source: Source, processor: Any) -> ViewedImage:
    """Read a file as it is looked at: on its own grid, in HU or grey levels.

    Args:
        source: A file, or the slices of a series.
        processor: A `MiTImageProcessor`.

    Raises:
        OSError, ValueError, TypeError, ImportError: As the processor does; it names the file.
    """
    batch = processor(
        source if isinstance(source, str) else [source],
        spacing=None,
        volume_size=None,
        image_size=None,
        num_channels=1,
        window=None,
        scaling=(0.0, 1.0),
    )
    (pixels,) = batch["pixel_values"]
    grid = batch.grids[0].grid
    name = Path(source if isinstance(source, str) else source[0]).name
    if not isinstance(source, str):
        name = f"{name} and {len(source) - 1} more"
    if pixels.ndim == 4:
        return ViewedImage(name, _small_integers(pixels[0]), grid.spacing, True, True)
    # A radiograph's grey levels lie in [0, 1]; a slice in HU has air and fat.
    hounsfield = bool(pixels.min() < 0 or pixels.max() > 1)
    values = _small_integers(pixels) if hounsfield else pixels
    return ViewedImage(name, values, None, False, hounsfield, grid.exif_orientation)


def _small_integers(values: np.ndarray) -> np.ndarray:
    """The same values as int16 where none of them changes: half the memory."""
    if math.floor(values.min()) < -(2**15) or math.ceil(values.max()) >= 2**15:
        return values
    integers = values.astype(np.int16)
    return integers if np.array_equal(integers, values) else values
