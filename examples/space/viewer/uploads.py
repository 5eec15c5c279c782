"""What was dropped on the page: one file or the slices of a series, none of them too large."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np
import pydicom
from PIL import Image

from .images import Source

LARGEST_UPLOAD = "512mb"
"""Of a file."""
MOST_FILES = 2000
"""Slices of one series."""
LARGEST_IMAGE = 2**26
"""Pixels of a 2D image."""
LARGEST_VOLUME = 2**27
"""Voxels of a volume: 512 slices of 512 x 512."""

_VOLUME_SUFFIXES = (".nii", ".nii.gz", ".mgh", ".mgz")
_UNREADABLE = (OSError, ValueError, EOFError, nibabel.filebasedimages.ImageFileError)
_DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
_DICOM_MAGIC = slice(128, 132)


def take_uploads(paths: Sequence[str], folder: Path) -> Source:
    """Move dropped files into a folder of their own, and say what they are.

    Args:
        paths: Where the server put them.
        folder: Empty; whoever made it deletes it.

    Returns:
        The path of the file, or those of the slices of a DICOM series.

    Raises:
        ValueError: If there are too many, or several that are not all DICOM.
        OSError: If one is not there any more.
    """
    if len(paths) > MOST_FILES:
        raise ValueError(f"Got {len(paths)} files; a series has at most {MOST_FILES} slices here.")
    taken = []
    for number, path in enumerate(map(Path, paths)):
        # Slices of several folders may have the same names.
        target = folder / f"{number}" / path.name
        target.parent.mkdir()
        if not path.is_file():
            raise FileNotFoundError(f"{path.name} is not on the server any more. Drop it again.")
        shutil.move(path, target)
        taken.append(str(target))
    if len(taken) == 1:
        return taken[0]
    others = [Path(path).name for path in taken if not _is_dicom(Path(path))]
    if others:
        raise ValueError(
            f"Got {len(taken)} files, of which {others[0]} is no DICOM file. Drop one image or "
            "volume, or all slices of one DICOM series."
        )
    return taken


def refuse_large(source: Source) -> None:
    """Read headers, and refuse what would not fit into memory.

    A file that cannot be read is passed over: reading it will say what is wrong with it.

    Raises:
        ValueError: If an image or volume is too large.
    """
    first = Path(source if isinstance(source, str) else source[0])
    try:
        size, is_volume = _size_of(first)
    except Image.DecompressionBombError as error:
        raise ValueError(f"{first.name} is too large: {error}") from error
    except _UNREADABLE:
        return
    size *= 1 if isinstance(source, str) else len(source)
    largest = LARGEST_VOLUME if is_volume or not isinstance(source, str) else LARGEST_IMAGE
    if size > largest:
        raise ValueError(
            f"{first.name} has {size:,} voxels; this page takes up to {largest:,}. Crop it or make "
            "it coarser."
        )


def _size_of(path: Path) -> tuple[int, bool]:
    """Number of voxels of a file, and whether they are a volume's."""
    if path.name.lower().endswith(_VOLUME_SUFFIXES):
        return math.prod(nibabel.load(path).shape), True
    if path.suffix.lower() == ".npy":
        shape = np.load(path, mmap_mode="r", allow_pickle=False).shape
        return math.prod(shape), len(shape) > 2
    if _is_dicom(path):
        # Old files lack the preamble.
        header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        frames = int(header.get("NumberOfFrames", 1) or 1)
        size = int(header.get("Rows", 0)) * int(header.get("Columns", 0)) * frames
        return size, frames > 1
    with Image.open(path) as image:
        return math.prod(image.size), False


def _is_dicom(path: Path) -> bool:
    if path.suffix.lower() in _DICOM_SUFFIXES:
        return True
    with path.open("rb") as file:
        return file.read(_DICOM_MAGIC.stop)[_DICOM_MAGIC] == b"DICM"
