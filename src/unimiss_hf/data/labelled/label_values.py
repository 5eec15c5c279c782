"""From the values that a data set's label files hold to the numbers of classes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import nibabel
import numpy as np

from ...nifti_reading_mit import open_nibabel, read_voxels, spatial_shape
from .case import LabelledCase, label_file

IGNORED = 255
"""The class number that losses and metrics pass over."""

_UNKNOWN = -1
# What the slope of a header may make of an integer: 1.00000006.
_ROUNDING = 1e-3
_SHOWN = 5


def class_numbers(values: np.ndarray, numbers: Mapping[int, int], case: str) -> np.ndarray:
    """Replace label values by the numbers of their classes.

    Args:
        values: of any shape and type.
        numbers: the class's number, 0 to 255, for each value that may come.
        case: what messages call the label map.

    Returns:
        uint8, of the same shape.

    Raises:
        ValueError: if another value comes; it names the case and the values.
    """
    if values.dtype.kind == "b":
        values = values.astype(np.uint8)
    whole = values if values.dtype.kind in "iu" else _whole(values, case)
    highest = max(numbers)
    # The entry behind the last, -1 too, stands for everything outside.
    table = np.full(highest + 2, _UNKNOWN, dtype=np.int16)
    table[list(numbers)] = list(numbers.values())
    if whole.size and (whole.min() < 0 or whole.max() > highest):
        whole = whole.astype(np.int64)
    found = table[whole if whole.dtype != np.int64 else whole.clip(-1, highest + 1)]
    wrong = found == _UNKNOWN
    if wrong.any():
        raise ValueError(
            f"{case} has the label values {_listed(whole[wrong])} in {np.count_nonzero(wrong)} "
            f"voxels; its classes have {_listed(np.array(list(numbers)), most=None)}. Correct the "
            f"labels, or leave the case out."
        )
    return found.astype(np.uint8)


def label_image(case: LabelledCase, numbers: Mapping[int, int]) -> nibabel.Nifti1Image:
    """Read a case's one label file, a volume, as numbers of classes on the file's own grid.

    Raises:
        OSError: if it is missing, truncated or no volume.
        ValueError: if the case has not one label file, or it has other values.
    """
    path = label_file(case)
    values, image = label_voxels(path)
    name = f"{case.name} ({path})"
    return on_grid(class_numbers(values, numbers, name), image.affine, path)


def label_voxels(path: Path) -> tuple[np.ndarray, nibabel.Nifti1Image]:
    """The values `(x, y, z)` of a label file as they are stored, and the open file.

    Raises:
        OSError, ValueError: if it is missing, truncated, or not one volume.
    """
    image = open_nibabel(path)
    return read_voxels(image, str(path)).reshape(spatial_shape(image, str(path))), image


def on_grid(labels: np.ndarray, affine: np.ndarray, path: Path) -> nibabel.Nifti1Image:
    """A label map in memory that messages call by the file, or folder, that it comes from.

    `labels` are `(x, y, z)`, `affine` takes their indices to mm, RAS+.
    """
    image = nibabel.Nifti1Image(labels, affine, dtype=labels.dtype)
    image.file_map["image"].filename = str(path)
    return image


def _whole(values: np.ndarray, case: str) -> np.ndarray:
    nearest = np.rint(values)
    # NaN and infinity have no distance that is less, and no integer.
    with np.errstate(invalid="ignore"):
        odd = ~(np.abs(values - nearest) < _ROUNDING)
    if odd.any():
        raise ValueError(
            f"{case} has label values that are no integers: {_listed(values[odd])} in "
            f"{np.count_nonzero(odd)} voxels. Correct the labels, or leave the case out."
        )
    return nearest.astype(np.int64)


def _listed(values: np.ndarray, most: int | None = _SHOWN) -> str:
    values = np.unique(values)
    more = "" if most is None or len(values) <= most else f" and {len(values) - most} more"
    return ", ".join(str(value) for value in values[:most].tolist()) + more
