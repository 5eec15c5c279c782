"""Label maps on the grid of the image that they belong to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .array_reading_mit import image_of, is_array_file, open_array
from .input_checks_mit import name_of, require_finite, warn
from .lazy_nibabel_mit import nibabel
from .nifti_reading_mit import (
    is_nibabel_image,
    is_volume_file,
    open_nibabel,
    read_voxels,
    spatial_shape,
)
from .plane_grids_mit import PlaneGrid
from .radiograph_reading_mit import open_pillow, upright
from .volume_grids_mit import VolumeGrid, reverse_axes

# Two affines are the same grid if no corner of it moves by more than this part of a voxel.
_SAME_GRID = 0.1


def read_labels(source: Any, grid: VolumeGrid | PlaneGrid, image_name: str) -> np.ndarray:
    """Read a label map and turn it as its image was turned, int64 `([depth,] height, width)`.

    `source` is a file or an object of the kinds that images are: a volume file or nibabel image on
    the same grid for a volume file; an image file or PIL image, whose palette indices or grey
    values are the labels, for a radiograph; an array or tensor of an array's
    own axes for an array.

    Raises:
        OSError: if the file is missing, truncated or of no known kind.
        ValueError: if the labels are no integers, negative, or not on the image's grid.
        TypeError: if `source` is of another kind.
    """
    name = name_of(source)
    path = isinstance(source, str | Path)
    if is_nibabel_image(source) or (path and is_volume_file(source)):
        labels = _nibabel_labels(source, name, grid, image_name)
    elif isinstance(source, Image.Image):
        labels = _pillow_labels(source, name)
    elif path and not is_array_file(source):
        with open_pillow(source) as opened:
            labels = _pillow_labels(opened, name)
    else:
        labels = _array_labels(source, name, grid)
    if labels.shape != grid.native_shape:
        raise ValueError(
            f"{name} has labels of shape {labels.shape} for {image_name} of shape "
            f"{grid.native_shape}. A label map has its image's grid."
        )
    require_finite(labels, name)
    if labels.size and (labels.min() < 0 or (labels != np.floor(labels)).any()):
        raise ValueError(
            f"{name} has values from {labels.min()} to {labels.max()}, some negative or no "
            f"integers; labels are 0, 1, 2, ..."
        )
    if labels.max() == 255 and set(np.unique(labels)) == {0, 255}:
        warn(
            f"{name} has the labels 0 and 255 alone. If it is a mask of black and white, divide it "
            f"by 255: the segmentation loss ignores label 255 (semantic_loss_ignore_index)."
        )
    return labels.astype(np.int64)


def _nibabel_labels(
    source: Any, name: str, grid: VolumeGrid | PlaneGrid, image_name: str
) -> np.ndarray:
    image = open_nibabel(source)
    stored = grid.file_grid
    if stored is None:
        raise ValueError(f"{name} is a volume file; {image_name} has no place in the world.")
    shape = spatial_shape(image, name)
    if shape != stored.source_shape:
        raise ValueError(
            f"{name} has shape {shape} and {image_name} has {stored.source_shape} (x, y, z). A "
            f"label map has its image's grid."
        )
    corners = np.array(np.meshgrid(*[(0, length - 1) for length in shape])).reshape(3, -1).T
    moved = nibabel.affines.apply_affine(
        np.linalg.inv(stored.source_affine) @ image.affine, corners
    )
    furthest = np.abs(moved - corners).max()
    if not furthest <= _SAME_GRID:
        raise ValueError(
            f"{name} does not lie where {image_name} lies: their affines put a corner "
            f"{furthest:.2f} voxels apart. Resample the labels to the image's grid, or correct the "
            f"header."
        )
    voxels = read_voxels(image, name).reshape(shape)
    turned = reverse_axes(nibabel.apply_orientation(voxels, stored.orientation))
    return turned.reshape(grid.native_shape) if isinstance(grid, PlaneGrid) else turned


def _pillow_labels(image: Image.Image, name: str) -> np.ndarray:
    shown, _ = upright(image, name)
    if shown.mode not in ("1", "L", "P", "I", "F") and not shown.mode.startswith("I;16"):
        raise ValueError(
            f"{name} has mode {shown.mode}; a label map has one value a pixel: a palette (P) or "
            f"grey levels (L, I;16)."
        )
    return np.asarray(shown)


def _array_labels(source: Any, name: str, grid: VolumeGrid | PlaneGrid) -> np.ndarray:
    array = open_array(source)
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "iufb":
        raise TypeError(f"Labels are a path, a PIL or nibabel image, or an array; got {name}.")
    if grid.file_grid is not None:
        raise ValueError(
            f"{name} has no place in the world, and its image has. Pass the labels as a file or a "
            f"nibabel image, so that their grids can be compared."
        )
    if isinstance(grid, PlaneGrid):
        return image_of(array)[0] if array.ndim == 3 else array
    return array.reshape(array.shape[-3:])
