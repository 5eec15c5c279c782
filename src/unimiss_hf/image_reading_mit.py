"""Files of radiographs and volumes in, arrays on known axes out.

Only volumes need nibabel: the file imports without.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.nn import functional

try:
    import nibabel
except ImportError:
    nibabel = None

Spacing = Sequence[float]
# The range of a 12-bit CT, in HU; its lowest value is what lies outside a scan.
AIR_HU, MAX_HU = -1024.0, 3071.0
# What HU are divided by before a network sees them, as in the official code.
HU_SCALE = 1024.0
VOLUME_SUFFIXES = (".nii", ".nii.gz", ".nii.bz2", ".hdr", ".img", ".img.gz", ".mgh", ".mgz", ".mnc")
"""Names of files that are read as volumes; any other file is read as a radiograph."""

AXES = ("depth", "height", "width")
_SPACING_TOLERANCE = 1e-3  # mm
LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601
_TIFF_BITS, _TIFF_PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0
_warned_of: set[str] = set()


def reverse_axes(values: np.ndarray) -> np.ndarray:
    """Turn nibabel's order of axes, (x, y, z), into (depth, height, width), or turn it back.

    Depth is z, height is y, width is x, so the order is reversed either way; no other place decides
    it. In RAS+, depth runs from inferior to superior, height from posterior to anterior, width from
    the patient's left to right. `values` are an array with 3 axes or 3 values (else a ValueError).
    """
    if values.ndim != 3 and values.shape != (3,):
        raise ValueError(f"Wanted an array with 3 axes or 3 values; got shape {values.shape}.")
    return values.transpose() if values.ndim == 3 else values[::-1]


def read_radiograph(source: str | Path | Image.Image) -> np.ndarray:
    """Read a radiograph as grey levels `(1, height, width)`, float32 in [0, 1].

    Grey levels are divided by the largest value of the file's integer type (255; 65,535; 4095 for
    TIFF files of 12 bits). Colours become their luminance (ITU-R BT.601), transparent pixels are
    laid on black, an orientation noted in EXIF is applied, and TIFF files whose zero is white are
    inverted. `source` is the path of a file that Pillow reads, or a PIL image.

    Raises:
        OSError: if the file is missing, truncated or not an image.
        ValueError: if the image is empty, has several frames, has values that are not finite, or
            has values whose scale cannot be known (floats outside [0, 1], integers above 16 bits).
        TypeError: if `source` is neither a path nor a PIL image.
    """
    name = name_of(source)
    if isinstance(source, str | Path):
        with _decoding(name, "an image that Pillow reads (PNG, JPEG, TIFF, ...)"):
            opened = Image.open(source)
        with opened:
            return _grey_levels(opened, name)
    if not isinstance(source, Image.Image):
        raise TypeError(f"A radiograph is read from a path or a PIL image, not from {name}.")
    return _grey_levels(source, name)


def _grey_levels(image: Image.Image, name: str) -> np.ndarray:
    if 0 in image.size:
        raise ValueError(f"{name} is empty: its size is {image.size} (width, height).")
    tags = getattr(image, "tag_v2", {})
    with _decoding(name, "a complete image"):
        frames = getattr(image, "n_frames", 1)
        upright = ImageOps.exif_transpose(image)
    if frames > 1:
        raise ValueError(f"{name} holds {frames} frames; a radiograph is one. Pass one by itself.")
    if upright.mode in ("F", "I") or upright.mode.startswith("I;16"):
        pixels = np.asarray(upright)
        if upright.mode == "I" and pixels.min() >= 0 and pixels.max() <= 65_535:
            pixels = pixels.astype(np.uint16)  # Pillow opens some 16-bit files as 32-bit integers.
        grey = unit_range(pixels, name, 4095 if tags.get(_TIFF_BITS) == (12,) else None)
        # Pillow itself inverts those of up to 8 bits.
        return 1 - grey[None] if tags.get(_TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO else grey[None]
    if upright.mode in ("1", "L") and not upright.has_transparency_data:
        return np.asarray(upright.convert("L"), dtype=np.float32)[None] / 255
    colours = np.asarray(upright.convert("RGBA"), dtype=np.float32) / 255
    return (colours[..., :3] * colours[..., 3:] @ LUMINANCE)[None]


def unit_range(pixels: np.ndarray, name: str, largest: int | None = None) -> np.ndarray:
    """Float32 in [0, 1] of integers, divided by their largest, or of floats in [0, 1] already."""
    require_finite(pixels, name)
    low, high, integers = pixels.min(), pixels.max(), pixels.dtype.kind in "iu"
    unknown = pixels.dtype.itemsize > 2 if integers else high > 1 + 1e-5
    if unknown or low < -1e-5:
        raise ValueError(
            f"{name} has grey levels of type {pixels.dtype} from {low} to {high}, whose scale is "
            f"unknown. Give uint8, uint16 or floats in [0, 1]."
        )
    largest = largest or (np.iinfo(pixels.dtype).max if integers else 1)
    return (pixels.astype(np.float32) / np.float32(largest)).clip(0, 1)


def read_volume(
    source: Any, spacing: Spacing | None = (3.0, 1.0, 1.0), header_spacing: Spacing | None = None
) -> np.ndarray:
    """Read a volume, reorient it to RAS+ and resample it: `(depth, height, width)`, float32 in HU.

    `source` is the path of a file that nibabel reads (`.nii`, `.nii.gz`, ...), or a nibabel image.
    `spacing` is the wanted distance of voxel centres; `None` keeps the native grid.
    `header_spacing` is the true one where the file's header is wrong. Both are in mm, (depth,
    height, width) after reorientation.

    The volume keeps its extent: an axis of `n` voxels gets `round(n * old / new)` of them, at least
    one. Resampling is linear between voxel centres; where it thins voxels out, the kernel is
    widened by the same factor, so that noise and fine structure are averaged, not aliased.

    Raises:
        OSError: if the file is missing, truncated or not a volume that nibabel reads.
        ValueError: if it is not one volume of at least two slices along each axis, has voxels that
            are not finite real numbers, or a header without a valid spacing or orientation.
        TypeError, ImportError: if `source` is of another type; if nibabel is missing.
    Warns of a header that looks like a placeholder, once per file, unless given `header_spacing`.
    """
    if nibabel is None:
        raise ImportError("Reading volumes needs nibabel: pip install nibabel")
    name = name_of(source)
    if isinstance(source, str | Path):
        with _decoding(name, "a volume that nibabel reads (.nii, .nii.gz, ...)"):
            source = nibabel.load(source)
    elif not isinstance(source, nibabel.filebasedimages.FileBasedImage):
        raise TypeError(f"A volume is read from a path or a nibabel image, not from {name}.")
    shape = _volume_shape(source, name)
    orientation = _orientation(source.affine, name)
    native = _header_spacing(source, orientation) if header_spacing is None else header_spacing
    native = require_spacing("header_spacing", native)
    with _decoding(name, "a complete volume"):
        voxels = _scaled_voxels(source.dataobj).reshape(shape)
    voxels = reverse_axes(nibabel.apply_orientation(voxels, orientation))
    # Always a copy, as this may be a read-only map of the file, or the caller's own array.
    volume = np.array(voxels, dtype=np.float32, order="C")
    require_finite(volume, name)
    if header_spacing is None:
        _warn_of_placeholder(source.header, native, volume.shape, name)
    return (
        volume if spacing is None else resample(volume, native, require_spacing("spacing", spacing))
    )


def _volume_shape(image: Any, name: str) -> tuple[int, ...]:
    """The lengths of (x, y, z), without trailing axes of length 1."""
    voxels = isinstance(image, nibabel.spatialimages.SpatialImage)
    if not voxels or image.get_data_dtype().kind not in "iufb":
        raise ValueError(f"{name}, a {type(image).__name__}, holds no volume of real numbers.")
    shape = image.shape
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3 or min(shape) < 2:
        lengths = ", ".join(f"{axis} {n}" for axis, n in zip("xyztuvw", image.shape, strict=False))
        raise ValueError(
            f"{name} is not one volume with at least 2 voxels along each of 3 axes, but {lengths}. "
            f"Pass one volume of a series (image.slicer[..., 0]), and a slice as a 2D array."
        )
    return shape


def _orientation(affine: np.ndarray | None, name: str) -> np.ndarray:
    """How nibabel flips and permutes (x, y, z) to come closest to RAS+."""
    valid = affine is not None and np.isfinite(affine).all()
    zooms = nibabel.affines.voxel_sizes(affine) if valid else np.zeros(3)
    # The determinant of the axes' unit vectors is 1 for an upright grid, whatever its spacing.
    if not zooms.all() or abs(np.linalg.det(affine[:3, :3] / zooms)) < 1e-4:
        raise ValueError(
            f"{name} has no valid spacing and orientation: its affine is singular or not finite, "
            f"{affine}. Correct the affine in its header."
        )
    return nibabel.io_orientation(affine)


def _header_spacing(image: Any, orientation: np.ndarray) -> tuple[float, ...]:
    """The spacing in mm, (depth, height, width) after reorientation, that the header gives."""
    header = image.header
    if isinstance(header, nibabel.analyze.AnalyzeHeader) and not header.get("sform_code", 0):
        # The affine rests on `pixdim`, whose zero and negative values nibabel mends on loading.
        holder, stored = image.file_map.get("header", image.file_map["image"]), header
        if holder.filename is not None or holder.fileobj is not None:
            with holder.get_prepare_fileobj("rb") as file:
                stored = type(header).from_fileobj(file, check=False)
        pixdim = stored["pixdim"][1:4].tolist()
        if not all(math.isfinite(size) and size > 0 for size in pixdim):
            raise ValueError(
                f"{name_of(image)} has voxel sizes {pixdim} mm (x, y, z) in its header. Give the "
                f"true ones as header_spacing=(depth, height, width)."
            )
    canonical = image.affine @ nibabel.orientations.inv_ornt_aff(orientation, image.shape[:3])
    return tuple(reverse_axes(nibabel.affines.voxel_sizes(canonical)).tolist())


def _warn_of_placeholder(header: Any, spacing: Spacing, shape: Sequence[int], name: str) -> None:
    unmeasured = spacing == (1, 1, 1) and max(shape[1:]) > 128
    analyze = isinstance(header, nibabel.analyze.AnalyzeHeader)
    unplaced = analyze and not header.get("sform_code", 0) and not header.get("qform_code", 0)
    if name in _warned_of or not (unmeasured or unplaced):
        return
    _warned_of.add(name)
    fault = "a spacing of exactly 1 x 1 x 1 mm" if unmeasured else "neither an sform nor a qform"
    warnings.warn(
        f"The header of {name} has {fault}. If it is a placeholder, give the true spacing as "
        f"header_spacing=(depth, height, width) in mm, and check the orientation.",
        stacklevel=3,
    )


def _scaled_voxels(dataobj: Any) -> np.ndarray:
    if type(dataobj) is not nibabel.arrayproxy.ArrayProxy or dataobj.dtype.itemsize > 2:
        return np.asarray(dataobj, dtype=np.float32)
    # Left alone, nibabel scales in float64: half as fast, and twice the peak memory for a CT.
    slope, inter = np.float32(dataobj.slope), np.float32(dataobj.inter)
    return nibabel.volumeutils.apply_read_scaling(dataobj.get_unscaled(), slope, inter)


def resample(volume: np.ndarray, native: Sequence[float], wanted: Sequence[float]) -> np.ndarray:
    """Resample `(depth, height, width)` from one spacing in mm to another, antialiased."""
    depth, height, width = (
        n if abs(old - new) <= _SPACING_TOLERANCE else max(1, round(n * old / new))
        for n, old, new in zip(volume.shape, native, wanted, strict=True)
    )
    voxels = torch.from_numpy(volume)
    if voxels.shape[1:] != (height, width):
        voxels = interpolate_plane(voxels[None], height, width)[0]
    if len(voxels) != depth:
        voxels = interpolate_plane(voxels.reshape(1, 1, len(voxels), -1), depth, height * width)
    return voxels.reshape(depth, height, width).numpy()


def interpolate_plane(images: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Resize `(batch, channels, height, width)`; an axis that keeps its length keeps its values."""
    return functional.interpolate(images, (height, width), mode="bilinear", antialias=True)


def name_of(source: Any) -> str:
    """What a message calls an input."""
    if isinstance(source, str | Path):
        return str(source)
    name = getattr(source, "filename", None) or getattr(source, "get_filename", lambda: None)()
    shape = getattr(source, "shape", None) or getattr(source, "size", None)
    return str(name or f"the given {type(source).__name__} of shape {shape}")


@contextmanager
def _decoding(name: str, wanted: str) -> Iterator[None]:
    """Turn what decoders raise for broken files, which is almost anything, into an OSError."""
    try:
        yield
    except (FileNotFoundError, IsADirectoryError, PermissionError, MemoryError):
        raise
    except Exception as error:
        raise OSError(f"{name} is not {wanted}, or is damaged: {error}") from error


def require_finite(values: np.ndarray, name: str) -> None:
    """Raise a ValueError that names the input if any value is NaN or infinite."""
    bad = values.size - np.count_nonzero(np.isfinite(values))
    if bad:
        raise ValueError(f"{name} has {bad} NaN or infinite of {values.size} values. Replace them.")


def require_spacing(field: str, value: Any) -> tuple[float, ...]:
    """Return three lengths in mm, or raise a ValueError that names the field."""
    spacing = np.ravel(value)
    numbers = len(spacing) == 3 and spacing.dtype.kind in "iuf"
    if not numbers or not all(0 < length < math.inf for length in spacing):
        raise ValueError(f"{field} must be 3 positive mm, (depth, height, width); got {value!r}.")
    return tuple(spacing.tolist())
