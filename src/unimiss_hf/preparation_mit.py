"""The steps from an image as it was read to what a network takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .hounsfield_mit import AIR_HU, apply_window, measured_window, window_range
from .image_reading_mit import Radiograph, Volume, load_radiograph, load_volume
from .input_checks_mit import Spacing, name_of, warn
from .label_reading_mit import read_labels
from .label_restoring_mit import InputGrid
from .plane_grids_mit import PlaneGrid
from .volume_grids_mit import AXES, VolumeGrid, crop_or_pad, interpolate_plane, nearest, resample

BACKGROUND = 0


@dataclass(frozen=True)
class Prepared:
    """One input, ready for a network.

    Attributes:
        pixels: `(channels, [depth,] height, width)`, float32.
        labels: `([depth,] height, width)`, int64, if a label map was given.
        grid: the way back to the input's own grid.
    """

    pixels: np.ndarray
    labels: np.ndarray | None
    grid: InputGrid


def prepare_radiograph(source: Any, labels: Any, settings: Mapping[str, Any]) -> Prepared:
    """Read a 2D input, resize it with antialiasing, scale it, repeat its channel.

    `settings` are those of `MiTImageProcessor`, as are the errors.
    """
    image = load_radiograph(source, settings["grey_window"])
    name, pixels, grid = name_of(source), image.pixels, image.grid
    labels = None if labels is None else read_labels(labels, grid, name)
    size = settings["image_size"]
    if size is not None:
        _warn_of_stretch(name, grid.shape, size)
        height, width = size["height"], size["width"]
        pixels = interpolate_plane(torch.from_numpy(pixels)[None], height, width)[0].numpy()
        grid = grid.resized((height, width))
        labels = None if labels is None else nearest(labels, (height, width))
    if image.is_hounsfield:
        pixels = apply_window(pixels, settings["window"], settings["scaling"])
    pixels = np.repeat(pixels, settings["num_channels"], axis=0)
    return Prepared(pixels, labels, _input_grid(source, image, grid))


def prepare_volume(
    source: Any, labels: Any, native: Spacing | None, settings: Mapping[str, Any]
) -> Prepared:
    """Read a 3D input, reorient, resample, crop or fill it up, window and scale it.

    It is filled up with air; with the window "percentiles", which is measured on the volume as it
    was read, with the lowest value of that window, as the air around a patient in an MR has.

    `native` is its true spacing in mm, (depth, height, width), where a header is wrong or there is
    none. `settings` are those of `MiTImageProcessor`, as are the errors.
    """
    volume = load_volume(source, native)
    voxels, grid = volume.voxels, volume.grid
    window = measured_window(voxels, settings["window"])
    fill = AIR_HU if window is settings["window"] else window_range(window)[0]
    labels = None if labels is None else read_labels(labels, grid, name_of(source))
    if settings["spacing"] is not None and volume.spacing is not None:
        voxels = resample(voxels, volume.spacing, settings["spacing"], name_of(source))
        grid = grid.resized(voxels.shape)
        labels = None if labels is None else nearest(labels, voxels.shape)
    if settings["volume_size"] is not None:
        size = [settings["volume_size"][axis] for axis in AXES]
        voxels, start = crop_or_pad(voxels, size, fill)
        grid = grid.cropped(start, size)
        labels = None if labels is None else crop_or_pad(labels, size, BACKGROUND)[0]
    pixels = apply_window(voxels, window, settings["scaling"])[None]
    return Prepared(pixels, labels, _input_grid(source, volume, grid))


def _input_grid(source: Any, read: Radiograph | Volume, grid: PlaneGrid | VolumeGrid) -> InputGrid:
    return InputGrid(name_of(source), read.kind, grid, read.header, read.stored_shape)


def _warn_of_stretch(name: str, shape: tuple[int, int], size: Mapping[str, int]) -> None:
    stretch = size["height"] / shape[0] / (size["width"] / shape[1])
    if max(stretch, 1 / stretch) > 4 / 3 + 1e-3:
        warn(
            f"{name} is resized from {shape} to {size}, a stretch unknown to pretraining. Crop it, "
            f"or set an image_size of its aspect ratio or None."
        )
