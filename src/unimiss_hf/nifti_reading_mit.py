"""Files that nibabel reads (NIfTI, MGH, ...): headers checked, voxels on known axes."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .input_checks_mit import decoding, name_of, warn
from .lazy_nibabel_mit import nibabel
from .volume_grids_mit import VolumeGrid, reverse_axes

VOLUME_SUFFIXES = (".nii", ".nii.gz", ".nii.bz2", ".hdr", ".img", ".img.gz", ".mgh", ".mgz", ".mnc")
"""Names of files that are read with nibabel."""

_AXIS_NAMES = ("x", "y", "z", "t (time)", "u (vector)", "v", "w")
# The cosine between two axes of a volume whose slices were sheared by a tilted gantry: 0.5 degrees.
_LARGEST_SHEAR = math.sin(math.radians(0.5))
_COMPRESSED = (".gz", ".mgz", ".bz2")
_CHUNK = 2**20
_warned_of: set[str] = set()


def is_volume_file(path: str | Path) -> bool:
    """Whether a file's name says that nibabel reads it."""
    return str(path).lower().endswith(VOLUME_SUFFIXES)


def is_nibabel_image(source: Any) -> bool:
    """Whether an object is an image of nibabel."""
    return nibabel.is_loaded and isinstance(source, nibabel.filebasedimages.FileBasedImage)


def open_nibabel(source: Any) -> Any:
    """Open a path, or pass an open image on.

    Raises:
        OSError: if the file is missing or not a volume that nibabel reads.
        ImportError: if nibabel is missing.
        TypeError: if `source` is neither a path nor a nibabel image.
    """
    if is_nibabel_image(source):
        return source
    if not isinstance(source, str | Path):
        raise TypeError(
            f"A volume is read from a path or a nibabel image, not from {name_of(source)}."
        )
    load = nibabel.load
    with decoding(name_of(source), "a volume that nibabel reads (.nii, .nii.gz, ...)"):
        return load(source)


def nibabel_dimension(source: Any) -> int:
    """2 for a file with one slice, 3 for a volume, from its header."""
    shape = spatial_shape(open_nibabel(source), name_of(source))
    return 2 if min(shape) == 1 else 3


def spatial_shape(image: Any, name: str) -> tuple[int, int, int]:
    """The lengths of (x, y, z): trailing axes of length 1 are dropped, a missing z is 1.

    Raises:
        ValueError: if the image is not one volume or one slice of real numbers.
    """
    voxels = isinstance(image, nibabel.spatialimages.SpatialImage)
    if not voxels or image.get_data_dtype().kind not in "iufb":
        found = image.get_data_dtype() if voxels else f"a {type(image).__name__}"
        raise ValueError(
            f"{name} holds {found}, not a volume of real numbers. Colours and complex values must "
            f"be turned into one number a voxel first."
        )
    shape = tuple(int(length) for length in image.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    lengths = ", ".join(f"{axis} {n}" for axis, n in zip(_AXIS_NAMES, image.shape, strict=False))
    if 0 in shape or len(shape) < 2:
        raise ValueError(f"{name} is empty or has one axis: {lengths}.")
    if len(shape) > 3:
        axis = next(index for index in range(3, len(shape)) if shape[index] > 1)
        raise ValueError(
            f"{name} is not one volume: its axis {axis + 1}, {_AXIS_NAMES[axis]}, has length "
            f"{shape[axis]} ({lengths}). Pass one volume of the series, image.slicer[..., 0]."
        )
    shape = (*shape, 1)[:3]
    if shape.count(1) > 1:
        raise ValueError(f"{name} is a line of voxels, neither an image nor a volume: {lengths}.")
    return shape


def nibabel_grid(image: Any, name: str) -> VolumeGrid:
    """The grid of a file, reoriented to come closest to RAS+.

    Raises:
        ValueError: if its affine is singular, not finite or sheared.
    """
    affine = image.affine
    valid = affine is not None and np.isfinite(affine).all()
    zooms = nibabel.affines.voxel_sizes(affine) if valid else np.zeros(3)
    axes = affine[:3, :3] / zooms if zooms.all() else np.zeros((3, 3))
    # The determinant of the axes' unit vectors is 1 for an upright grid, whatever its spacing.
    if abs(np.linalg.det(axes)) < 1e-4:
        raise ValueError(
            f"{name} has no valid spacing and orientation: its affine is singular or not finite, "
            f"{affine}. Correct the affine in its header."
        )
    shear = np.abs(np.triu(axes.T @ axes, 1)).max()
    if shear > _LARGEST_SHEAR:
        raise ValueError(
            f"{name} is sheared: two of its axes meet at {math.degrees(math.acos(shear)):.1f} "
            f"degrees, as in a scan with a tilted gantry. Resample it to a grid with right angles "
            f"first (dcm2niix does when it converts)."
        )
    return VolumeGrid.native(spatial_shape(image, name), affine, nibabel.io_orientation(affine))


def spacing_of_header(image: Any, grid: VolumeGrid) -> tuple[float, ...]:
    """The spacing in mm, (depth, height, width) after reorientation, that the header gives.

    Raises:
        ValueError: if the header has a size that is not positive, or is not in mm.
    """
    header = image.header
    unit = header.get_xyzt_units()[0] if hasattr(header, "get_xyzt_units") else "mm"
    if unit not in ("mm", "unknown"):
        raise ValueError(
            f"{name_of(image)} says that its voxel sizes, {grid.spacing} (depth, height, width), "
            f"are in {unit}. Give the true ones in mm as source_spacing=(depth, height, width)."
        )
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
                f"true ones as source_spacing=(depth, height, width)."
            )
    return grid.spacing


def warn_of_placeholder(image: Any, grid: VolumeGrid, name: str) -> None:
    """Warn, once per file, of a header that looks as if nobody had filled it in."""
    header = image.header
    unmeasured = grid.spacing == (1, 1, 1) and max(grid.shape[1:]) > 128 and min(grid.shape) > 1
    analyze = isinstance(header, nibabel.analyze.AnalyzeHeader)
    unplaced = analyze and not header.get("sform_code", 0) and not header.get("qform_code", 0)
    if name in _warned_of or not (unmeasured or unplaced):
        return
    if image.get_filename():
        _warned_of.add(name)
    fault = "a spacing of exactly 1 x 1 x 1 mm" if unmeasured else "neither an sform nor a qform"
    warn(
        f"The header of {name} has {fault}. If it is a placeholder, give the true spacing as "
        f"source_spacing=(depth, height, width) in mm, and check the orientation."
    )


def oriented_voxels(image: Any, grid: VolumeGrid, name: str) -> np.ndarray:
    """The voxels `(depth, height, width)` after slope and intercept, float32, C-contiguous.

    Raises:
        OSError: if the file is truncated or damaged.
    """
    voxels = read_voxels(image, name, _scaled_voxels).reshape(grid.source_shape)
    voxels = reverse_axes(nibabel.apply_orientation(voxels, grid.orientation))
    # Always a copy, as this may be a read-only map of the file, or the caller's own array.
    return np.array(voxels, dtype=np.float32, order="C")


def read_voxels(
    image: Any, name: str, read: Callable[[Any], np.ndarray] = np.asarray
) -> np.ndarray:
    """The voxels as they are stored, whole and undamaged.

    `read` turns nibabel's proxy of them into an array.

    Raises:
        OSError: if the file is truncated or damaged.
    """
    proxy, path = image.dataobj, image.file_map["image"].filename
    compressed = path is not None and str(path).lower().endswith(_COMPRESSED)
    with decoding(name, "a complete volume"):
        if not compressed or type(proxy) is not nibabel.arrayproxy.ArrayProxy:
            return read(proxy)
        # nibabel stops behind the last voxel, and the checksum, which tells damage, comes after it.
        with nibabel.openers.ImageOpener(path) as file:
            specification = (proxy.shape, proxy.dtype, proxy.offset, proxy.slope, proxy.inter)
            voxels = read(nibabel.arrayproxy.ArrayProxy(file, specification, mmap=False))
            while file.read(_CHUNK):
                pass
        return voxels


def _scaled_voxels(dataobj: Any) -> np.ndarray:
    if type(dataobj) is not nibabel.arrayproxy.ArrayProxy or dataobj.dtype.itemsize > 2:
        return np.asarray(dataobj, dtype=np.float32)
    # Left alone, nibabel scales in float64: half as fast, and twice the peak memory for a CT.
    slope, inter = np.float32(dataobj.slope), np.float32(dataobj.inter)
    return nibabel.volumeutils.apply_read_scaling(dataobj.get_unscaled(), slope, inter)
