"""Radiographs and CT volumes in, tensors for the UniMiSS networks out.

Published with every checkpoint. Without nibabel it still imports, and serves radiographs.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, TypedDict

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.nn import functional
from transformers import BatchFeature
from transformers.image_processing_utils import BaseImageProcessor

try:
    import nibabel
except ImportError:
    nibabel = None

AIR_HU = -1024.0
"""What lies outside a scan, in HU: the lowest value that a 12-bit CT stores."""

VOLUME_SUFFIXES = (".nii", ".nii.gz", ".nii.bz2", ".hdr", ".img", ".img.gz", ".mgh", ".mgz", ".mnc")
"""Names of files that are read as volumes; any other file is read as a radiograph."""

_AXES = ("depth", "height", "width")
_SPACING_TOLERANCE = 1e-3  # mm
_TRAINED_STRETCH = 4 / 3  # the strongest change of aspect ratio that pretraining's 2D crops have
_LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601
_TIFF_BITS, _TIFF_PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0
_warned_of: set[str] = set()


def reverse_axes(values: np.ndarray) -> np.ndarray:
    """Turn nibabel's order of axes, (x, y, z), into (depth, height, width), or turn it back.

    Depth is z, height is y, width is x, so the order is reversed either way; no other place decides
    it. In RAS+, depth runs from inferior to superior, height from posterior to anterior, and width
    from the patient's left to the patient's right. `values` is an array with three axes, or three
    values, one for each axis; anything else raises a ValueError.
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
    name = _name_of(source)
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
        raise ValueError(
            f"{name} holds {frames} frames, but a radiograph is one image. Pass each frame by "
            f"itself, for instance from PIL.ImageSequence."
        )
    if upright.mode in ("F", "I") or upright.mode.startswith("I;16"):
        pixels = np.asarray(upright)
        if upright.mode == "I" and pixels.min() >= 0 and pixels.max() <= 65_535:
            pixels = pixels.astype(np.uint16)  # Pillow opens some 16-bit files as 32-bit integers.
        grey = _unit_range(pixels, name, 4095 if tags.get(_TIFF_BITS) == (12,) else None)
        # Pillow itself inverts those of up to 8 bits.
        return 1 - grey[None] if tags.get(_TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO else grey[None]
    if upright.mode in ("1", "L") and not upright.has_transparency_data:
        return np.asarray(upright.convert("L"), dtype=np.float32)[None] / 255
    if upright.mode == "La":
        upright = upright.convert("LA")
    colours = np.asarray(upright.convert("RGBA"), dtype=np.float32) / 255
    return (colours[..., :3] * colours[..., 3:] @ _LUMINANCE)[None]


def _unit_range(pixels: np.ndarray, name: str, largest: int | None = None) -> np.ndarray:
    """Float32 in [0, 1] of integers, divided by their largest, or of floats in [0, 1] already."""
    if pixels.dtype.kind in "iu":
        if pixels.dtype.itemsize > 2 or pixels.min() < 0:
            raise ValueError(
                f"{name} has grey levels of type {pixels.dtype} from {pixels.min()} to "
                f"{pixels.max()}, whose scale is unknown. Give uint8, uint16 or floats in [0, 1]."
            )
        return pixels.astype(np.float32) / np.float32(largest or np.iinfo(pixels.dtype).max)
    pixels = pixels.astype(np.float32)
    _require_finite(pixels, name)
    if pixels.min() < -1e-5 or pixels.max() > 1 + 1e-5:
        raise ValueError(
            f"{name} has float grey levels from {pixels.min():g} to {pixels.max():g}, but float "
            f"images must lie in [0, 1]. Scale them first."
        )
    return pixels.clip(0, 1)


def read_volume(
    source: Any,
    spacing: Sequence[float] | None = (3.0, 1.0, 1.0),
    header_spacing: Sequence[float] | None = None,
) -> np.ndarray:
    """Read a volume, reorient it to RAS+ and resample it: `(depth, height, width)`, float32 in HU.

    The volume keeps its extent: an axis of `n` voxels gets `round(n * old / new)` of them, at least
    one. Resampling is linear between voxel centres; where it thins voxels out, the kernel is
    widened by the same factor, so that noise and fine structure are averaged, not aliased.

    Args:
        source: the path of a file that nibabel reads (`.nii`, `.nii.gz`, ...), or a nibabel image.
        spacing: wanted distance of voxel centres in mm, (depth, height, width); `None` keeps the
            native grid.
        header_spacing: the true spacing in mm, (depth, height, width) after reorientation, where
            the file's header is wrong.

    Raises:
        OSError: if the file is missing, truncated or not a volume that nibabel reads.
        ValueError: if it is not one volume of at least two slices along each axis, has voxels that
            are not finite real numbers, or a header without a valid spacing or orientation.
        TypeError: if `source` is neither a path nor a nibabel image.
        ImportError: if nibabel is missing.

    Warns of a header that looks like a placeholder, once per file, unless given `header_spacing`.
    """
    if nibabel is None:
        raise ImportError("Reading volumes needs nibabel: pip install nibabel")
    name = _name_of(source)
    if isinstance(source, str | Path):
        with _decoding(name, "a volume that nibabel reads (.nii, .nii.gz, ...)"):
            source = nibabel.load(source)
    elif not isinstance(source, nibabel.filebasedimages.FileBasedImage):
        raise TypeError(f"A volume is read from a path or a nibabel image, not from {name}.")
    shape = _volume_shape(source, name)
    orientation = _orientation(source.affine, name)
    if header_spacing is None:
        native = _header_spacing(source, orientation, name)
    else:
        native = _positive("header_spacing", header_spacing)
    with _decoding(name, "a complete volume"):
        voxels = _scaled_voxels(source.dataobj).reshape(shape)
    voxels = reverse_axes(nibabel.apply_orientation(voxels, orientation))
    # Always a copy, as this may be a read-only map of the file, or the caller's own array.
    volume = np.array(voxels, dtype=np.float32, order="C")
    _require_finite(volume, name)
    if header_spacing is None:
        _warn_of_placeholder(source.header, native, volume.shape, name)
    return volume if spacing is None else _resample(volume, native, _positive("spacing", spacing))


def _volume_shape(image: Any, name: str) -> tuple[int, ...]:
    """The lengths of (x, y, z), without trailing axes of length 1."""
    if not isinstance(image, nibabel.spatialimages.SpatialImage):
        raise ValueError(f"{name} is a {type(image).__name__}, which holds no volume of voxels.")
    if image.get_data_dtype().kind not in "iufb":
        raise ValueError(f"{name} has voxels of type {image.get_data_dtype()}, not real numbers.")
    shape = image.shape
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3 or min(shape) < 2:
        lengths = ", ".join(f"{axis} {n}" for axis, n in zip("xyztuvw", image.shape, strict=False))
        raise ValueError(
            f"{name} is not one volume, whose three axes have at least 2 voxels each: its axes have "
            f"the lengths {lengths}. Pass a volume of a series as image.slicer[..., 0], and a "
            f"single slice as a 2D array with values in [0, 1]."
        )
    return shape


def _orientation(affine: np.ndarray | None, name: str) -> np.ndarray:
    """How nibabel flips and permutes (x, y, z) to come closest to RAS+."""
    if affine is None or not np.isfinite(affine).all():
        raise ValueError(f"{name} has no finite affine, so its orientation is unknown: {affine}.")
    zooms = nibabel.affines.voxel_sizes(affine)
    # The determinant of the axes' unit vectors is 1 for an upright grid, whatever its spacing.
    if not zooms.all() or abs(np.linalg.det(affine[:3, :3] / zooms)) < 1e-4:
        raise ValueError(
            f"{name} has a singular affine with voxel sizes {zooms.tolist()} mm (x, y, z), so its "
            f"orientation is unknown. Correct the affine in its header."
        )
    return nibabel.io_orientation(affine)


def _header_spacing(image: Any, orientation: np.ndarray, name: str) -> tuple[float, ...]:
    """The spacing in mm, (depth, height, width) after reorientation, that the header gives."""
    if "pixdim" in image.header and image.header.get("sform_code", 0) == 0:
        # The affine then rests on `pixdim`, in which nibabel has mended zero and negative values
        # on loading. What the file really says has to be read once more.
        holder, stored = image.file_map.get("header", image.file_map["image"]), image.header
        if holder.filename is not None or holder.fileobj is not None:
            with holder.get_prepare_fileobj("rb") as file:
                stored = type(stored).from_fileobj(file, check=False)
        pixdim = stored["pixdim"][1:4].tolist()
        if not all(math.isfinite(size) and size > 0 for size in pixdim):
            raise ValueError(
                f"{name} has voxel sizes {pixdim} mm (x, y, z) in its header; they must be "
                f"positive. Give the true ones as header_spacing=(depth, height, width)."
            )
    canonical = image.affine @ nibabel.orientations.inv_ornt_aff(orientation, image.shape[:3])
    return tuple(reverse_axes(nibabel.affines.voxel_sizes(canonical)).tolist())


def _warn_of_placeholder(
    header: Any, spacing: tuple[float, ...], shape: tuple[int, ...], name: str
) -> None:
    placed = "pixdim" not in header or header.get("sform_code", 0) or header.get("qform_code", 0)
    unmeasured = spacing == (1, 1, 1) and max(shape[1:]) > 128
    if name in _warned_of or (placed and not unmeasured):
        return
    _warned_of.add(name)
    fault = "a spacing of exactly 1 x 1 x 1 mm" if unmeasured else "neither an sform nor a qform"
    warnings.warn(
        f"The header of {name} has {fault}. If it is a placeholder, give the true spacing as "
        f"header_spacing=(depth, height, width) in mm, and check the orientation.",
        stacklevel=3,
    )


def _scaled_voxels(dataobj: Any) -> np.ndarray:
    if not isinstance(dataobj, nibabel.arrayproxy.ArrayProxy) or dataobj.dtype.itemsize > 2:
        return np.asarray(dataobj, dtype=np.float32)
    # Left alone, nibabel scales in float64: half as fast, and twice the peak memory for a CT.
    return nibabel.volumeutils.apply_read_scaling(
        dataobj.get_unscaled(), np.float32(dataobj.slope), np.float32(dataobj.inter)
    )


def _resample(volume: np.ndarray, native: Sequence[float], wanted: Sequence[float]) -> np.ndarray:
    depth, height, width = (
        n if abs(old - new) <= _SPACING_TOLERANCE else max(1, round(n * old / new))
        for n, old, new in zip(volume.shape, native, wanted, strict=True)
    )
    voxels = torch.from_numpy(volume)
    if voxels.shape[1:] != (height, width):
        voxels = _interpolate(voxels[None], height, width)[0]
    if len(voxels) != depth:
        voxels = _interpolate(voxels.reshape(1, 1, len(voxels), -1), depth, height * width)
    return voxels.reshape(depth, height, width).numpy()


def _interpolate(images: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Resize `(batch, channels, height, width)`; an axis that keeps its length keeps its values."""
    return functional.interpolate(images, (height, width), mode="bilinear", antialias=True)


def _crop_or_pad(volume: np.ndarray, size: dict[str, int]) -> np.ndarray:
    """Cut `(depth, height, width)`, or fill it up with air, around its centre."""
    kept, filled = [], []
    for have, axis in zip(volume.shape, _AXES, strict=True):
        start, missing = max(have - size[axis], 0) // 2, max(size[axis] - have, 0)
        kept.append(slice(start, start + size[axis]))
        filled.append((missing // 2, missing - missing // 2))
    return np.pad(volume[tuple(kept)], filled, constant_values=AIR_HU)


def _name_of(source: Any) -> str:
    """What a message calls an input."""
    if isinstance(source, str | Path):
        return str(source)
    name = getattr(source, "filename", None) or getattr(source, "get_filename", lambda: None)()
    return str(name or f"the given {type(source).__name__}")


@contextmanager
def _decoding(name: str, wanted: str) -> Iterator[None]:
    """Turn what decoders raise for broken files, which is almost anything, into an OSError."""
    try:
        yield
    except (FileNotFoundError, IsADirectoryError, PermissionError, MemoryError):
        raise
    except Exception as error:
        raise OSError(f"{name} is not {wanted}, or is damaged: {error}") from error


def _require_finite(values: np.ndarray, name: str) -> None:
    bad = values.size - np.count_nonzero(np.isfinite(values))
    if bad:
        raise ValueError(
            f"{name} has {bad} of {values.size} values that are NaN or infinite. Replace them, in "
            f"a CT for instance by {AIR_HU:g} HU, which is air."
        )


def _positive(field: str, value: Any) -> tuple[float, ...]:
    try:
        numbers = tuple(float(number) for number in value)
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) != 3 or not all(math.isfinite(number) and number > 0 for number in numbers):
        raise ValueError(
            f"{field} must be (depth, height, width), positive and in mm; got {value!r}."
        )
    return numbers


class MiTImageProcessorKwargs(TypedDict, total=False):
    """The settings of `MiTImageProcessor`; a call may replace any of them."""

    image_size: dict[str, int] | None
    num_channels: int
    spacing: Sequence[float] | None
    hu_range: Sequence[float] | None
    hu_divisor: float
    volume_size: dict[str, int] | None


class MiTImageProcessor(BaseImageProcessor):
    """Turn radiographs or volumes into the tensors that the UniMiSS networks take.

    An input tells by itself whether it is 2D or 3D. Radiographs are: PIL images; files, unless
    named like a volume (`VOLUME_SUFFIXES`); arrays and tensors `(height, width)`,
    `(1 or 3, height, width)` and `(height, width, 1 or 3)`, integers or floats in [0, 1]. Volumes
    are: nibabel images; the other files; arrays and tensors `(depth, height, width)` with at least
    4 slices and `(1, depth, height, width)`, in HU and with the axes of `reverse_axes`.

    A radiograph is resized, with antialiasing, to `image_size`. All of it is kept, so its aspect
    ratio is not: pretraining stretches its crops by up to 4/3, and more than that is warned of.
    A volume is resampled to `spacing` (see `read_volume`), cropped or filled up with air around its
    centre to `volume_size`, clipped to `hu_range` and divided by `hu_divisor`. As in pretraining,
    no mean is subtracted from either.

    Args:
        image_size: `{"height": 224, "width": 224}` of 2D images; `None` keeps the size they have.
        num_channels: of 2D images, 1 (which the networks take for 3 equal ones) or 3.
        spacing: (depth, height, width) in mm; `None` keeps the native grid.
        hu_range: the lowest and the highest HU; `None` does not clip.
        hu_divisor: the HU that become 1.
        volume_size: `{"depth": ..., "height": ..., "width": ...}`; `None` keeps the size.

    Raises:
        ValueError: if the value of a setting is not valid.
        TypeError: if there is no setting of that name.
    """

    model_input_names: ClassVar[list[str]] = ["pixel_values"]
    valid_kwargs = MiTImageProcessorKwargs

    def __init__(self, **kwargs: Any) -> None:
        settings = {name: kwargs.pop(name, default) for name, default in _DEFAULTS.items()}
        _refuse_unknown({key for key in kwargs if not key.startswith("_")} - _BOOKKEEPING)
        super().__init__(**kwargs, **_checked(settings))

    def preprocess(
        self,
        images: Any,
        *,
        source_spacing: Sequence[float] | None = None,
        return_tensors: str | None = None,
        **settings: Any,
    ) -> BatchFeature:
        """Prepare one input or a list of them, all 2D or all 3D.

        Args:
            images: paths, PIL images, nibabel images, arrays or tensors; see the class.
            source_spacing: the true spacing of the volumes in mm, (depth, height, width). It
                replaces what the header of a file says; an array without it is not resampled.
            return_tensors: "pt" or "np"; `None` gives a list with one array for each input.
            **settings: replace the settings of the same name, for this call.

        Returns:
            `pixel_values`, float32, `(batch, channels, height, width)` in [0, 1] or
            `(batch, 1, depth, height, width)` in HU / `hu_divisor`.

        Raises:
            OSError: if a file cannot be read.
            ValueError: if an input is not valid, or if the inputs cannot form one batch.
            TypeError: if an input or a setting is of no kind that is known.
        """
        _refuse_unknown(settings.keys() - _DEFAULTS.keys())
        settings = _checked({name: getattr(self, name) for name in _DEFAULTS} | settings)
        if return_tensors not in (None, "np", "pt"):
            raise ValueError(f'return_tensors must be "pt", "np" or None; got {return_tensors!r}.')
        inputs = list(images) if isinstance(images, list | tuple) else [images]
        dimensions = [_dimensions(source) for source in inputs]
        if len(set(dimensions)) != 1:
            raise ValueError(
                f"A batch must hold images of one dimension, 2D or 3D, and at least one of them; "
                f"got {[f'{n}D' for n in dimensions]}. Pass 2D and 3D images in separate calls."
            )
        if dimensions[0] == 3:
            arrays = [_prepared_volume(source, source_spacing, settings) for source in inputs]
        elif source_spacing is None:
            arrays = [_prepared_radiograph(source, settings) for source in inputs]
        else:
            raise ValueError(f"source_spacing={source_spacing} is for volumes; got 2D images.")
        if return_tensors is None:
            return BatchFeature({"pixel_values": arrays})
        for name, array in zip(map(_name_of, inputs), arrays, strict=True):
            if array.shape != arrays[0].shape:
                raise ValueError(
                    f"{_name_of(inputs[0])} gives {arrays[0].shape} and {name} gives {array.shape} "
                    f"(channels, then lengths), which form no batch. Set "
                    f"{'image_size' if dimensions[0] == 2 else 'volume_size'}, or pass one by one."
                )
        batch = np.stack(arrays) if len(arrays) > 1 else arrays[0][None]
        return BatchFeature({"pixel_values": batch}, tensor_type=return_tensors)

    def to_dict(self) -> dict[str, Any]:
        """All settings, those that are `None` too, as they are saved."""
        return super().to_dict() | {name: getattr(self, name) for name in _DEFAULTS}


_DEFAULTS: dict[str, Any] = {
    "image_size": {"height": 224, "width": 224},
    "num_channels": 1,
    "spacing": (3.0, 1.0, 1.0),
    "hu_range": (-1024.0, 3071.0),
    "hu_divisor": 1024.0,
    "volume_size": None,
}
# What transformers writes into preprocessor_config.json beside the settings.
_BOOKKEEPING = {"image_processor_type", "processor_class", "feature_extractor_type", "auto_map"}


def _refuse_unknown(names: set[str]) -> None:
    if names:
        raise TypeError(f"There is no setting {sorted(names)}; there are {list(_DEFAULTS)}.")


def _checked(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings as JSON gives them back; a ValueError names the one that is not valid."""
    checked = dict(settings)
    for field, axes in (("image_size", _AXES[1:]), ("volume_size", _AXES)):
        size = settings[field]
        if size is not None:
            if dict(size).keys() != set(axes) or not all(n > 0 for n in size.values()):
                raise ValueError(f"{field} must be None or positive {axes} in a dict; got {size}.")
            checked[field] = {axis: int(size[axis]) for axis in axes}
    if settings["num_channels"] not in (1, 3):
        raise ValueError(f"num_channels must be 1 or 3; got {settings['num_channels']}.")
    if settings["spacing"] is not None:
        checked["spacing"] = list(_positive("spacing", settings["spacing"]))
    if settings["hu_range"] is not None:
        low, high = checked["hu_range"] = [float(hu) for hu in settings["hu_range"]]
        if not low < high:
            raise ValueError(f"hu_range must be (lowest, highest) or None; got {(low, high)}.")
    if not 0 < settings["hu_divisor"] < math.inf:
        raise ValueError(f"hu_divisor must be positive; got {settings['hu_divisor']}.")
    return checked


def _dimensions(source: Any) -> int:
    """2 or 3: whether an input is a radiograph or a volume."""
    if isinstance(source, str | Path):
        return 3 if str(source).lower().endswith(VOLUME_SUFFIXES) else 2
    if isinstance(source, Image.Image):
        return 2
    if nibabel is not None and isinstance(source, nibabel.filebasedimages.FileBasedImage):
        return 3
    if not isinstance(source, np.ndarray | torch.Tensor):
        raise TypeError(
            f"Wanted a path, a PIL image, a nibabel image, an array or a tensor; got {source!r}."
        )
    shape = tuple(source.shape)
    if 0 in shape:
        raise ValueError(f"{_name_of(source)} is empty: its shape is {shape}.")
    first, last = shape[:1], shape[-1:]
    channels_first, channels_last = first in ((1,), (3,)), last in ((1,), (3,))
    if len(shape) == 2 or (len(shape) == 3 and channels_first != channels_last):
        return 2
    # A last axis of 2 or 4 may be grey or colour with transparency.
    volume = not channels_first and first >= (4,) and last > (4,)
    if (len(shape) == 3 and volume) or (len(shape) == 4 and first == (1,)):
        return 3
    raise ValueError(
        f"An array of shape {shape} can be read in several ways. Pass a volume with 4 axes, "
        f"(1, depth, height, width), an image as (height, width), and a batch as a list."
    )


def _array(source: np.ndarray | torch.Tensor) -> np.ndarray:
    if isinstance(source, torch.Tensor):
        source = source.detach().cpu()
        source = (source.float() if source.is_floating_point() else source).numpy()
    if source.dtype.kind not in "iufb":
        raise ValueError(f"{_name_of(source)} has values of type {source.dtype}, not real numbers.")
    return source


def _prepared_radiograph(source: Any, settings: dict[str, Any]) -> np.ndarray:
    if isinstance(source, np.ndarray | torch.Tensor):
        grey = _unit_range(_array(source), _name_of(source))
        if grey.ndim == 3 and grey.shape[-1] in (1, 3):
            grey = grey.transpose(2, 0, 1)
        grey = grey[None] if grey.ndim == 2 else grey
        if len(grey) == 3:
            grey = np.tensordot(_LUMINANCE, grey, axes=1)[None]
    else:
        grey = read_radiograph(source)
    size = settings["image_size"]
    if size is not None:
        stretch = size["height"] / grey.shape[1] / (size["width"] / grey.shape[2])
        if max(stretch, 1 / stretch) > _TRAINED_STRETCH + 1e-3:
            warnings.warn(
                f"{_name_of(source)} of {grey.shape[1]} x {grey.shape[2]} is resized to "
                f"{size['height']} x {size['width']}, a stretch that pretraining has not shown the "
                f"network. Crop it, or set an image_size of its aspect ratio or None.",
                stacklevel=4,
            )
        pixels = torch.from_numpy(np.ascontiguousarray(grey))[None]
        grey = _interpolate(pixels, size["height"], size["width"])[0].numpy()
    return np.repeat(grey, settings["num_channels"], axis=0)


def _prepared_volume(
    source: Any, source_spacing: Sequence[float] | None, settings: dict[str, Any]
) -> np.ndarray:
    spacing = settings["spacing"]
    if isinstance(source, np.ndarray | torch.Tensor):
        array = _array(source)
        volume = np.array(array.reshape(array.shape[-3:]), dtype=np.float32, order="C")
        _require_finite(volume, _name_of(source))
        if source_spacing is not None and spacing is not None:
            volume = _resample(volume, _positive("source_spacing", source_spacing), spacing)
    else:
        volume = read_volume(source, spacing, source_spacing)
    if settings["volume_size"] is not None:
        volume = _crop_or_pad(volume, settings["volume_size"])
    if settings["hu_range"] is not None:
        volume = volume.clip(*settings["hu_range"])
    return volume[None] / np.float32(settings["hu_divisor"])
