"""The files of a segmentation: which names they have, and how they are written."""

import gzip
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from PIL import Image

from ..array_reading_mit import is_array_file
from ..data.image_columns import FILE_SUFFIXES
from ..data.inputs import InputSet, record_folder
from ..data.whole_files import put_in_place
from ..dicom_reading_mit import DICOM_SUFFIXES
from ..label_restoring_mit import InputGrid
from ..nifti_reading_mit import VOLUME_SUFFIXES

_IMAGE_SUFFIXES = sorted(
    {*VOLUME_SUFFIXES, *DICOM_SUFFIXES, *FILE_SUFFIXES["2d"], *FILE_SUFFIXES["3d"]},
    key=len,
    reverse=True,
)
# NIfTI has no 16-bit floating point, whose steps near 1 are 32 times as large.
_MOST = 65535


def stem_of(place: str) -> str:
    """Where an input's files go, without their endings: `patient/ct` for `patient/ct.nii.gz`."""
    place = place.replace(";", "_")  # which is between files in the table
    for suffix in _IMAGE_SUFFIXES:
        if place.lower().endswith(suffix) and len(Path(place).name) > len(suffix):
            return place[: -len(suffix)]
    return place.removesuffix(".npy") if is_array_file(Path(place)) else place


def require_own_files(inputs: InputSet) -> None:
    """Refuse inputs whose predictions would have the same files, before anything is computed.

    Raises:
        ValueError: It names two of them.
    """
    same: dict[str, list[str]] = defaultdict(list)
    for item in inputs.files.values():
        same[stem_of(item.place)].append(item.name)
    for prefix in inputs.data_sets:
        same[record_folder(prefix)].append(prefix.removesuffix("["))
    for stem, names in same.items():
        if len(names) > 1:
            raise ValueError(
                f"The predictions of {names[0]} and {names[1]} would be the same files, {stem}.*. "
                "Predict them with an output folder each, or give the folder that holds both, so "
                "that their paths within it tell them apart."
            )


def require_apart(output: Path, inputs: InputSet) -> None:
    """Refuse an output that the next run would take for inputs.

    Raises:
        ValueError: If it lies in a folder of inputs.
    """
    for folder in inputs.folders:
        if output.resolve().is_relative_to(folder.resolve()):
            raise ValueError(
                f"The output {output} lies in the folder of inputs {folder}, where the next run "
                "would take predictions for inputs. Give a folder beside it."
            )


def file_names(class_names: Iterable[str]) -> list[str]:
    """Give classes names that can be parts of a file's, each its own: `left_lung`."""
    names = [re.sub(r"[^\w-]+", "_", name).strip("_") or "class" for name in class_names]
    counts = Counter(name.lower() for name in names)
    return [
        f"{name}_{number}" if counts[name.lower()] > 1 else name
        for number, name in enumerate(names)
    ]


def write_labels(labels: Any, stem: Path) -> Path:
    """Write a label map or mask as a NIfTI file, a PNG file or, of an array, a `.npy` file.

    Args:
        labels: What `InputGrid.place` gives.
        stem: The file's path without its ending.

    Returns:
        The path of the file, which is complete or not there.

    Raises:
        OSError: If it cannot be written.
    """
    if isinstance(labels, nibabel.Nifti1Image):
        return _write_nifti(labels, stem)
    ending = ".png" if isinstance(labels, Image.Image) else ".npy"
    path = stem.with_name(stem.name + ending)
    path.parent.mkdir(parents=True, exist_ok=True)
    with put_in_place(path, path.parent) as partial, partial.open("wb") as file:
        if isinstance(labels, Image.Image):
            labels.save(file, format="PNG")
        else:
            np.save(file, np.asarray(labels))
    return path


def write_probabilities(
    values: np.ndarray, grid: InputGrid, class_names: list[str], stem: Path
) -> Path:
    """Write the probabilities of each class.

    Of a volume file: a NIfTI file on its grid with a fourth axis, the classes, in steps of 1/65535.
    Of anything else: an `.npz` file with `probabilities`, float16,
    `(classes, [depth,] height, width)` as the input's own axes are stored, and `classes`, their
    names.

    Args:
        values: `(classes, [depth,] height, width)` on the native grid.
        grid: The input's own.
        class_names: In the order of the classes' numbers.
        stem: The file's path without its ending.

    Returns:
        The path of the file, which is complete or not there.

    Raises:
        OSError: If it cannot be written.
    """
    if grid.grid.file_grid is not None:
        levels = [np.rint(value * _MOST).astype(np.uint16) for value in values]
        stored = np.stack([grid.grid.to_source(level) for level in levels], axis=-1)
        image = nibabel.Nifti1Image(stored, grid.grid.file_grid.source_affine)
        image.header.set_slope_inter(1 / _MOST, 0)
        return _write_nifti(image, stem)
    path = stem.with_name(f"{stem.name}.npz")
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = np.stack([np.ascontiguousarray(grid.grid.to_source(value)) for value in values])
    with put_in_place(path, path.parent) as partial, partial.open("wb") as file:
        np.savez_compressed(
            file, probabilities=stored.astype(np.float16), classes=np.array(class_names)
        )
    return path


def _write_nifti(image: nibabel.Nifti1Image, stem: Path) -> Path:
    path = stem.with_name(f"{stem.name}.nii.gz")
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        put_in_place(path, path.parent) as partial,
        # Without the partial name in the file.
        partial.open("wb") as file,
        gzip.GzipFile(path.name, "wb", compresslevel=4, fileobj=file, mtime=0) as compressed,
    ):
        image.to_stream(compressed)
    return path
