"""MetaImage files: a `.mhd` header and the voxels in a `.raw` file beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from ...image_reading_mit import Volume, load_volume
from ...input_checks_mit import decoding
from .item import SourceItem

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_KEPT_TYPES = (np.uint8, np.int16, np.uint16, np.int32, np.float32)


def voxel_file(header: Path) -> Path:
    """The file that the header's ElementDataFile names; the header itself if it says LOCAL.

    Raises:
        ValueError: if the header names none.
    """
    for line in header.read_text(encoding="utf-8", errors="replace").splitlines():
        field, _, value = line.partition("=")
        if field.strip() == "ElementDataFile":
            return header if value.strip() == "LOCAL" else header.parent / value.strip()
    raise ValueError(f"{header} names no ElementDataFile: it is no MetaImage header, or damaged.")


def load_metaimage(item: SourceItem) -> Volume:
    """Read a volume with SimpleITK.

    ITK's world grows towards the patient's left, posterior and superior; its direction matrix, with
    the spacing and the origin, makes the affine, so that oblique and flipped grids come out right.
    Values are taken as they are stored: HU.

    Raises:
        OSError: if the file is missing, truncated or no MetaImage.
        ValueError: if it is not one volume of numbers, and as `load_volume` does.
        ImportError: if SimpleITK is missing.
    """
    image = _open(item.files[0])
    # A NIfTI image in memory, so that one reader checks grids and turns axes.
    in_memory = nibabel.Nifti1Image(_voxels(image, item.files[0]), _affine(image))
    in_memory.file_map["image"].filename = str(item.files[0])
    return load_volume(in_memory, item.spacing)


def _open(path: Path) -> Any:
    try:
        import SimpleITK
    except ImportError as error:
        raise ImportError(
            f"Reading {path} needs SimpleITK: pip install SimpleITK, or "
            f"pip install 'unimiss_hf[metaimage]'"
        ) from error
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    with decoding(str(path), "a MetaImage that SimpleITK reads"):
        return SimpleITK.ReadImage(str(path), imageIO="MetaImageIO")


def _voxels(image: Any, path: Path) -> np.ndarray:
    """The voxels `(x, y, z)`, in a type that NIfTI has."""
    import SimpleITK

    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise ValueError(
            f"{path} is not one volume: it has {image.GetDimension()} axes, of lengths "
            f"{image.GetSize()}, and {image.GetNumberOfComponentsPerPixel()} values a voxel."
        )
    voxels = SimpleITK.GetArrayFromImage(image)
    if voxels.dtype not in _KEPT_TYPES:
        voxels = voxels.astype(np.float32)
    return voxels.transpose()


def _affine(image: Any) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return _LPS_TO_RAS @ affine
