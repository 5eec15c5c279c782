"""One input, of whatever kind, as a radiograph or a volume on known axes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from .array_reading_mit import image_of, is_array_file, open_array, volume_of
from .dicom_reading_mit import is_dicom, read_dicom
from .grey_levels_mit import LUMINANCE, GreyWindow, unit_range
from .input_checks_mit import Spacing, name_of, require_finite, require_spacing, warn
from .lazy_nibabel_mit import nibabel
from .nifti_reading_mit import (
    is_nibabel_image,
    is_volume_file,
    nibabel_grid,
    open_nibabel,
    oriented_voxels,
    spacing_of_header,
    spatial_shape,
    warn_of_placeholder,
)
from .plane_grids_mit import PlaneGrid
from .radiograph_reading_mit import Radiograph, read_pillow
from .volume_grids_mit import VolumeGrid, resample, reverse_axes


@dataclass(frozen=True)
class Volume:
    """A volume as it was read.

    Attributes:
        voxels: `(depth, height, width)`, float32, C-contiguous; RAS+ and in HU for a CT file.
        spacing: distance of voxel centres in mm, (depth, height, width); `None` if not known.
        grid: how they lie in the file.
        kind: "nifti", "dicom", "array" or "tensor".
        header: the file's header, if nibabel read it.
        stored_shape: the shape of a volume file, array or tensor, with axes of length 1.
    """

    voxels: np.ndarray
    spacing: tuple[float, ...] | None
    grid: VolumeGrid
    kind: str
    header: Any = None
    stored_shape: tuple[int, ...] | None = None


def read_radiograph(source: Any, grey_window: GreyWindow = None) -> np.ndarray:
    """Read a radiograph as grey levels `(1, height, width)`, float32 in [0, 1].

    Grey levels are divided by the largest value of the file's integer type (255; 65,535; 4095 for
    TIFF files of 12 bits), unless a `grey_window` is given, see `unit_range`. Colours become their
    luminance (ITU-R BT.601), transparent pixels are laid on black, an orientation noted in EXIF is
    applied, and files whose zero is white are inverted. `source` is what `load_radiograph` takes.

    Raises:
        OSError, ValueError, TypeError, ImportError: as `load_radiograph` does.
    """
    return load_radiograph(source, grey_window).pixels


def load_radiograph(source: Any, grey_window: GreyWindow = None) -> Radiograph:
    """Read one 2D input.

    `source` is the path of a file that Pillow or numpy reads or of a DICOM or NIfTI file with one
    slice, a PIL or nibabel image, an array or a tensor. A DICOM radiograph is shown through its own
    VOI window unless `grey_window` gives another; a DICOM slice of a CT is read in HU, as is
    anything with `grey_window="hounsfield"`. A NIfTI slice, turned to how it is displayed
    (anterior or superior at the top, the patient's right at the left), is shown from `cal_min` to
    `cal_max` if its header says them, else over the range of an unsigned type, else from its lowest
    to its highest value, with a warning.

    Raises:
        OSError: if the file is missing, truncated or not an image.
        ValueError: if the image is empty, has several frames, has values that are not finite, or
            has values whose scale cannot be known (floats outside [0, 1], integers above 16 bits).
        TypeError: if `source` is of another type.
        ImportError: if a DICOM or NIfTI file needs a package that is missing.
    """
    name = name_of(source)
    path = isinstance(source, str | Path)
    if is_dicom_source(source):
        return _dicom_radiograph(source, grey_window)
    if is_nibabel_image(source) or (path and is_volume_file(source)):
        return _nibabel_radiograph(source, name, grey_window)
    if (path and is_array_file(source)) or not (path or isinstance(source, Image.Image)):
        return _array_radiograph(source, name, grey_window)
    if grey_window != "hounsfield":
        return read_pillow(source, grey_window)
    raise ValueError(f"{name}: an image file holds grey levels, not HU (grey_window='hounsfield').")


def read_volume(
    source: Any, spacing: Spacing | None = (3.0, 1.0, 1.0), source_spacing: Spacing | None = None
) -> np.ndarray:
    """Read a volume, reorient it to RAS+ and resample it: `(depth, height, width)`, float32 in HU.

    `source` is what `load_volume` takes. `spacing` is the wanted distance of voxel centres; `None`
    keeps the native grid. `source_spacing` is the true one where the file's header is wrong. Both
    are in mm, (depth, height, width) after reorientation.

    The volume keeps its extent: an axis of `n` voxels gets `round(n * old / new)` of them, at least
    one. Resampling is linear between voxel centres; where it thins voxels out, the kernel is
    widened by the same factor, so that noise and fine structure are averaged, not aliased.

    Raises:
        OSError, ValueError, TypeError, ImportError: as `load_volume` does.
    """
    wanted = None if spacing is None else require_spacing("spacing", spacing)
    volume = load_volume(source, source_spacing)
    if wanted is None or volume.spacing is None:
        return volume.voxels
    return resample(volume.voxels, volume.spacing, wanted, name_of(source))


def load_volume(source: Any, source_spacing: Spacing | None = None) -> Volume:
    """Read one 3D input on its native grid.

    `source` is the path of a file that nibabel reads (`.nii`, `.nii.gz`, ...), of a folder of DICOM
    slices, or of a multi-frame DICOM file; a list of DICOM slices; a nibabel image; a `.npy` file,
    an array or a tensor, (depth, height, width) or (1, depth, height, width), whose spacing is not
    known unless `source_spacing` gives it.

    Raises:
        OSError: if a file is missing, truncated or not a volume.
        ValueError: if it is not one volume of at least two slices along each axis, has voxels that
            are not finite real numbers, a header without a valid spacing or orientation, or a
            series that is not whole (see `read_dicom`).
        TypeError, ImportError: if `source` is of another type; if nibabel or pydicom is missing.
    Warns of a header that looks like a placeholder, once per file, unless given `source_spacing`,
    and of a DICOM modality other than CT, whose values are no HU.
    """
    if source_spacing is not None:
        source_spacing = require_spacing("source_spacing", source_spacing)
    path = isinstance(source, str | Path)
    if is_dicom_source(source):
        volume = _dicom_volume(source, source_spacing)
    elif isinstance(source, np.ndarray | torch.Tensor) or (path and is_array_file(source)):
        volume = _array_volume(source, source_spacing)
    else:
        volume = _nibabel_volume(source, source_spacing)
    require_finite(volume.voxels, name_of(source))
    return volume


def is_dicom_source(source: Any) -> bool:
    """Whether an input is a list of DICOM slices, a folder of them, or a DICOM file."""
    if isinstance(source, list):
        return True
    return isinstance(source, str | Path) and (Path(source).is_dir() or is_dicom(source))


def _dicom_radiograph(source: Any, grey_window: GreyWindow) -> Radiograph:
    image = read_dicom(source, grey_window)
    shape = image.pixels.shape
    return Radiograph(
        image.pixels[None],
        PlaneGrid(shape, shape),
        image.is_hounsfield,
        kind="dicom",
        spacing=image.spacing,
    )


def _nibabel_radiograph(source: Any, name: str, grey_window: GreyWindow) -> Radiograph:
    image = open_nibabel(source)
    grid = nibabel_grid(image, name)
    # RAS+ with each axis turned round is how slices are displayed: rows from superior to inferior
    # or anterior to posterior, columns from the patient's right to left.
    grid = VolumeGrid.native(grid.source_shape, grid.source_affine, grid.orientation * (1, -1))
    voxels = oriented_voxels(image, grid, name)
    pixels = voxels.reshape([length for length in voxels.shape if length > 1])
    require_finite(pixels, name)
    warn_of_placeholder(image, grid, name)
    is_hounsfield = grey_window == "hounsfield"
    if not is_hounsfield:
        pixels = unit_range(pixels, name, grey_window, _declared_range(image, pixels, name))
    plane = PlaneGrid(pixels.shape, pixels.shape, slice_grid=grid)
    return Radiograph(pixels[None], plane, is_hounsfield, "nifti", image.header, image.shape)


def _declared_range(image: Any, pixels: np.ndarray, name: str) -> tuple[float, float]:
    """The values that are black and white in a slice, by its header or else by its own values."""
    header, stored = image.header, image.get_data_dtype()
    low, high = (float(header.get(field, 0)) for field in ("cal_min", "cal_max"))
    if low < high:
        return low, high
    lowest, highest = float(pixels.min()), float(pixels.max())
    if stored.kind == "u" and stored.itemsize <= 2:
        slope, inter = (getattr(image.dataobj, field, None) for field in ("slope", "inter"))
        slope, inter = float(slope or 1), float(inter or 0)
        ends = sorted((inter, inter + slope * float(np.iinfo(stored).max)))
        # Values of 12 bits in a type of 16 come out nearly black.
        if stored.itemsize == 1 or highest - lowest > (ends[1] - ends[0]) / 16:
            return ends[0], ends[1]
    if lowest >= 0 and highest <= 1:
        return 0.0, 1.0
    warn(
        f"{name} is one slice whose header does not say which values are black and white; taken "
        f"are its lowest and highest, {lowest:g} and {highest:g}. Say them as grey_window=(level, "
        f'width), or grey_window="hounsfield" if it is a slice of a CT.'
    )
    return lowest, highest


def _array_radiograph(source: Any, name: str, grey_window: GreyWindow) -> Radiograph:
    array = open_array(source)
    if not isinstance(array, np.ndarray):
        raise TypeError(
            f"A radiograph is read from a path, image, array or tensor, not from {name}."
        )
    channels = image_of(np.asarray(array))
    is_hounsfield = grey_window == "hounsfield"
    if is_hounsfield:
        require_finite(channels, name)
        pixels = channels.astype(np.float32)
    else:
        pixels = unit_range(channels, name, grey_window)
    if len(pixels) == 3:
        pixels = np.tensordot(LUMINANCE, pixels, axes=1)[None]
    grid = PlaneGrid(pixels.shape[1:], pixels.shape[1:])
    return Radiograph(
        np.ascontiguousarray(pixels),
        grid,
        is_hounsfield,
        _array_kind(source),
        stored_shape=array.shape,
    )


def _dicom_volume(source: Any, source_spacing: tuple[float, ...] | None) -> Volume:
    series = read_dicom(source)
    orientation = nibabel.io_orientation(series.affine)
    grid = VolumeGrid.native(series.voxels.shape, series.affine, orientation)
    if series.modality != "CT":
        warn(
            f"{name_of(source)} has modality {series.modality}: its values are no HU. Set a window "
            f"and a scaling that fit them."
        )
    voxels = reverse_axes(nibabel.apply_orientation(series.voxels, grid.orientation))
    voxels = np.ascontiguousarray(voxels, dtype=np.float32)
    return Volume(voxels, source_spacing or grid.spacing, grid, "dicom")


def _nibabel_volume(source: Any, spacing: tuple[float, ...] | None) -> Volume:
    name, image = name_of(source), open_nibabel(source)
    shape = spatial_shape(image, name)
    if min(shape) < 2:
        raise ValueError(
            f"{name} has one slice (x {shape[0]}, y {shape[1]}, z {shape[2]}); a volume has at "
            f"least 2 voxels along each axis. Read it as an image."
        )
    grid = nibabel_grid(image, name)
    native = spacing or spacing_of_header(image, grid)
    voxels = oriented_voxels(image, grid, name)
    if spacing is None:
        warn_of_placeholder(image, grid, name)
    return Volume(voxels, native, grid, "nifti", image.header, image.shape)


def _array_volume(source: Any, spacing: tuple[float, ...] | None) -> Volume:
    array = open_array(source)
    voxels = volume_of(array)
    grid = VolumeGrid.native(voxels.shape[::-1])
    return Volume(voxels, spacing, grid, _array_kind(source), stored_shape=array.shape)


def _array_kind(source: Any) -> str:
    return "tensor" if isinstance(source, torch.Tensor) else "array"
