"""What is one input: a file, a series of slices, an image object, an array."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from .array_reading_mit import array_dimension, is_array_file, open_array
from .dicom_reading_mit import dicom_dimension, group_slices, is_dicom
from .input_checks_mit import name_of
from .nifti_reading_mit import is_nibabel_image, is_volume_file, nibabel_dimension

DIMENSION_NAMES = {2: "2D", 3: "3D"}


def split_inputs(images: Any) -> list[Any]:
    """Turn what a caller passes, one input or several, into a list of single inputs.

    A list or tuple is several inputs, with two exceptions: a list within it, and a flat list of
    DICOM files that are the slices of one series, are one volume.

    Raises:
        ValueError: if a flat list holds DICOM slices of one series beside other inputs, or of
            several series.
    """
    if not isinstance(images, list | tuple):
        return [images]
    inputs = [list(item) if isinstance(item, list | tuple) else item for item in images]
    slices = [item for item in inputs if _is_path(item) and is_dicom(item)]
    if len(slices) < 2:
        return inputs
    grouped = group_slices(slices)
    if len(grouped) == len(slices):
        return inputs
    if len(slices) < len(inputs):
        others = [name_of(item) for item in inputs if item not in slices]
        raise ValueError(
            f"{name_of(slices[0])} and {len(slices) - 1} more DICOM files are slices of one "
            f"series, beside other inputs: {', '.join(others[:5])}. Pass the slices of a volume as "
            f"a list of their own, [[slice, slice, ...], other, ...], or as their folder."
        )
    return grouped


def is_many(images: Any) -> bool:
    """Whether a caller passed several inputs, and so expects a list of results."""
    if not isinstance(images, list | tuple):
        return False
    inputs = split_inputs(images)
    nested = any(isinstance(item, list | tuple) for item in images)
    return nested or len(inputs) != 1 or not isinstance(inputs[0], list)


def dimension_of(source: Any) -> int:
    """Tell whether an input is 2D or 3D, 2 or 3, from its header or its shape.

    Raises:
        OSError: if a file is missing or cannot be opened.
        ValueError: if the input is neither one image nor one volume, or may be either.
        TypeError: if it is of no kind that is taken.
    """
    if isinstance(source, list):
        return dicom_dimension(source)
    if _is_path(source):
        return _path_dimension(Path(source))
    if isinstance(source, Image.Image):
        return 2
    if is_nibabel_image(source):
        return nibabel_dimension(source)
    if isinstance(source, np.ndarray | torch.Tensor):
        return array_dimension(source, name_of(source))
    raise TypeError(
        f"Wanted a path, a list of DICOM slices, a PIL or nibabel image, an array or a tensor; "
        f"got {name_of(source)}."
    )


def _path_dimension(path: Path) -> int:
    if is_volume_file(path):
        return nibabel_dimension(path)
    if is_array_file(path):
        return array_dimension(open_array(path), str(path))
    return dicom_dimension(path) if path.is_dir() or is_dicom(path) else 2


def _is_path(item: Any) -> bool:
    return isinstance(item, str | Path)
