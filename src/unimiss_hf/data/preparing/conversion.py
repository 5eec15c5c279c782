"""One image or volume → the row that stores it."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from ...image_reading_mit import Volume
from ...radiograph_reading_mit import Radiograph, open_pillow
from ...volume_grids_mit import interpolate_plane, resample
from ..prepared import encode_volume
from .planning import Sample
from .settings import PreparationSettings

_HU = np.iinfo(np.int16)
# Grey levels of 8 bits, as float32 in [0, 1], are this close to multiples of 1/255.
_EXACT = 1e-3
_DEEP_MODES = ("I", "F")


def convert(sample: Sample, settings: PreparationSettings) -> dict[str, Any]:
    """Read one image or volume and make its row, of `VOLUME_FEATURES` or `RADIOGRAPH_FEATURES`.

    Args:
        sample: What to read, and what is known of it.
        settings: `spacing` and `max_image_side` count.

    Returns:
        The row.

    Raises:
        OSError, ValueError, ImportError: If it cannot be read or stored; says why.
    """
    terms = sample.license
    known = {
        "name": sample.name,
        "source": sample.source,
        "source_name": sample.item.name,
        "license": terms.name if terms.identifier == "other" else terms.identifier,
        "patient": sample.item.patient,
    }
    image = sample.item.read()
    if isinstance(image, Volume):
        return {**_volume_fields(image, sample, settings.spacing), **known}
    return {**_radiograph_fields(image, sample, settings.max_image_side), **known}


def _volume_fields(volume: Volume, sample: Sample, spacing: Sequence[float]) -> dict[str, Any]:
    if volume.spacing is None:
        raise ValueError(
            "it has no spacing, as arrays have none; say it as source_spacing (depth, height, "
            "width) in mm"
        )
    shape, native = volume.voxels.shape, volume.spacing
    voxels = rounded_hu(resample(volume.voxels, native, spacing, sample.item.name))
    return {
        "volume": {"bytes": encode_volume(voxels, tuple(spacing)), "path": sample.name},
        "original_shape": list(shape),
        "original_spacing": list(native),
        "spacing": list(spacing),
    }


def rounded_hu(voxels: np.ndarray) -> np.ndarray:
    """Round HU to int16; none is clipped.

    Raises:
        ValueError: If a value is beyond what int16 holds, as no CT in HU has.
    """
    lowest, highest = float(voxels.min()), float(voxels.max())
    if lowest < _HU.min - 0.5 or highest >= _HU.max + 0.5:
        raise ValueError(
            f"its values, {lowest:g} to {highest:g}, are beyond the {_HU.min} to {_HU.max} HU that "
            "are stored; is it a CT in HU?"
        )
    return np.rint(voxels).astype(np.int16)


def _radiograph_fields(image: Radiograph, sample: Sample, max_side: int) -> dict[str, Any]:
    if image.is_hounsfield:
        raise ValueError("it is one slice of a CT, in HU: neither a volume nor a radiograph")
    pixels = image.pixels
    shape = pixels.shape[1:]
    deep = not _has_8_bits(image, sample)
    scale = max_side / max(shape)
    if 0 < scale < 1:
        height, width = (max(1, round(length * scale)) for length in shape)
        pixels = interpolate_plane(torch.from_numpy(pixels)[None], height, width)[0].numpy()
    return {
        "image": {"bytes": encode_png(pixels[0], deep), "path": sample.name},
        "original_shape": list(shape),
        "original_spacing": list(image.spacing or ()),
    }


def _has_8_bits(image: Radiograph, sample: Sample) -> bool:
    """Whether 8 bits hold all that the file says."""
    if image.kind == "image" and len(sample.item.files) == 1:
        with open_pillow(sample.item.files[0]) as opened:
            return not opened.mode.startswith(_DEEP_MODES)
    levels = image.pixels * 255
    return bool(np.abs(levels - np.rint(levels)).max() < _EXACT)


def encode_png(pixels: np.ndarray, deep: bool) -> bytes:
    """Store grey levels as PNG.

    Args:
        pixels: Float32 `(height, width)` in [0, 1].
        deep: Whether to store 16 bits rather than 8.
    """
    dtype = np.uint16 if deep else np.uint8
    levels = np.rint(pixels.clip(0, 1) * np.float32(np.iinfo(dtype).max)).astype(dtype)
    content = io.BytesIO()
    # As small as the usual level 6 makes radiographs, in half the time.
    Image.fromarray(levels).save(content, format="PNG", compress_level=4)
    return content.getvalue()
