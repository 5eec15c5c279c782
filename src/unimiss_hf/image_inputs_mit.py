"""What is one input: a file, a series of slices, an image object, an array."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from .array_reading_mit import array_dimension, is_array_file, open_array
from .dicom_reading_mit import dicom_dimension, group_slices, is_dicom
from .input_checks_mit import did_you_mean, name_of, near_matches
from .nifti_reading_mit import is_nibabel_image, is_volume_file, nibabel_dimension

DIMENSION_NAMES = {2: "2D", 3: "3D"}


def split_inputs(images: Any) -> tuple[list[Any], bool]:
    """Turn what a caller passes, one input or several, into a list of single inputs.

    A list or tuple is several inputs, with two exceptions: a list of paths within it, and a flat
    list of DICOM files that are the slices of one series, are one volume.

    Returns:
        The inputs, and whether the caller passed several, and so expects a list of results.

    Raises:
        ValueError: if a flat list holds DICOM slices of one series beside other inputs, or of
            several series.
        TypeError: if a list within a list holds anything but paths.
    """
    if not isinstance(images, list | tuple):
        return [images], False
    inputs = [_series(item) if isinstance(item, list | tuple) else item for item in images]
    is_slice = [_is_path(item) and is_dicom(item) for item in inputs]
    slices = [item for item, is_one in zip(inputs, is_slice, strict=True) if is_one]
    if len(slices) < 2:
        return inputs, True
    grouped = group_slices(slices)
    if len(grouped) == len(slices):
        return inputs, True
    if len(slices) < len(inputs):
        others = [
            name_of(item) for item, is_one in zip(inputs, is_slice, strict=True) if not is_one
        ]
        raise ValueError(
            f"{name_of(slices[0])} and {len(slices) - 1} more DICOM files are slices of one "
            f"series, beside other inputs: {', '.join(others[:5])}. Pass the slices of a volume as "
            f"a list of their own, [[slice, slice, ...], other, ...], or as their folder."
        )
    return grouped, len(grouped) > 1


def _series(items: list[Any] | tuple[Any, ...]) -> list[Any]:
    others = [item for item in items if not _is_path(item)]
    if others or not items:
        found = name_of(others[0]) if others else "nothing"
        raise TypeError(
            f"A list within a list is the slices of one DICOM series, as paths; it holds {found}. "
            f"Pass images and volumes in one flat list."
        )
    return list(items)


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
    if path == Path():
        raise ValueError(
            "Got an empty path, or the current folder as '.'. Pass the path of a file, or the name "
            "of a folder of DICOM slices."
        )
    if not path.exists():
        raise FileNotFoundError(_missing(path))
    if is_volume_file(path):
        return nibabel_dimension(path)
    if is_array_file(path):
        return array_dimension(open_array(path), str(path))
    return dicom_dimension(path) if path.is_dir() or is_dicom(path) else 2


def _missing(path: Path) -> str:
    if path.is_symlink():
        return f"{path} is a link to {path.readlink()}, which is not there."
    return f"There is no file or folder {path}.{did_you_mean(near_matches(path))}"


def _is_path(item: Any) -> bool:
    return isinstance(item, str | Path)
