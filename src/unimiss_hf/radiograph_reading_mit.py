"""Image files that Pillow reads (PNG, JPEG, TIFF, ...) as grey levels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from .grey_levels_mit import LUMINANCE, GreyWindow, unit_range
from .input_checks_mit import decoding, name_of
from .plane_grids_mit import PlaneGrid

_TIFF_BITS, _TIFF_PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0
_EXIF_ORIENTATION = 0x0112


@dataclass(frozen=True)
class Radiograph:
    """An image as it was read.

    Attributes:
        pixels: `(1, height, width)`, float32, upright; grey levels in [0, 1], or HU.
        grid: how they lie in the file.
        is_hounsfield: whether the pixels are HU, as those of a CT slice are.
        kind: "image", "nifti", "dicom", "array" or "tensor".
        header: the file's header, if nibabel read it.
        stored_shape: the shape of a volume file, array or tensor, with axes of length 1.
        spacing: of a DICOM file's pixels in mm, (height, width); `None` if not known.
    """

    pixels: np.ndarray
    grid: PlaneGrid
    is_hounsfield: bool = False
    kind: str = "image"
    header: Any = None
    stored_shape: tuple[int, ...] | None = None
    spacing: tuple[float, float] | None = None


def read_pillow(source: str | Path | Image.Image, grey_window: GreyWindow = None) -> Radiograph:
    """Read an image file or a PIL image, see `read_radiograph`.

    Raises:
        OSError: if the file is missing, truncated or not an image.
        ValueError: if the image is empty, has several frames, or values that cannot be scaled.
        TypeError: if `source` is neither a path nor a PIL image.
    """
    name = name_of(source)
    if isinstance(source, str | Path):
        with open_pillow(source) as opened:
            return _radiograph(opened, name, grey_window)
    if not isinstance(source, Image.Image):
        raise TypeError(f"A radiograph is read from a path or a PIL image, not from {name}.")
    return _radiograph(source, name, grey_window)


def open_pillow(source: str | Path) -> Image.Image:
    """Open an image file; an OSError names it if it is missing or none."""
    with decoding(str(source), "an image that Pillow reads (PNG, JPEG, TIFF, ...)"):
        return Image.open(source)


def upright(image: Image.Image, name: str) -> tuple[Image.Image, int]:
    """Return a complete image as it is displayed, and the EXIF orientation that was undone.

    Raises:
        OSError: if the image is truncated.
        ValueError: if it is empty or has several frames.
    """
    if 0 in image.size:
        raise ValueError(f"{name} is empty: its size is {image.size} (width, height).")
    with decoding(name, "a complete image"):
        frames = getattr(image, "n_frames", 1)
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
        turned = ImageOps.exif_transpose(image)
    if frames > 1:
        raise ValueError(f"{name} holds {frames} frames; a radiograph is one. Pass one by itself.")
    return turned, orientation


def _radiograph(image: Image.Image, name: str, grey_window: GreyWindow) -> Radiograph:
    tags = getattr(image, "tag_v2", {})
    shown, orientation = upright(image, name)
    pixels, declared = _stored_levels(shown, tags)
    grey = unit_range(pixels, name, grey_window, declared)
    if pixels.dtype.itemsize > 1 and tags.get(_TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO:
        grey = 1 - grey  # Pillow itself inverts those of up to 8 bits.
    shape = grey.shape
    return Radiograph(grey[None], PlaneGrid(shape, shape, orientation))


def _stored_levels(
    image: Image.Image, tags: dict[int, object]
) -> tuple[np.ndarray, tuple[float, float] | None]:
    """The grey levels, and their lowest and highest where the type does not tell."""
    if image.mode in ("F", "I") or image.mode.startswith("I;16"):
        pixels = np.asarray(image)
        if image.mode == "I" and pixels.min() >= 0 and pixels.max() <= 65_535:
            pixels = pixels.astype(np.uint16)  # Pillow opens some 16-bit files as 32-bit integers.
        return pixels, (0.0, 4095.0) if tags.get(_TIFF_BITS) == (12,) else None
    if image.mode in ("1", "L") and not image.has_transparency_data:
        return np.asarray(image.convert("L")), None
    colours = np.asarray(image.convert("RGBA"), dtype=np.float32)
    return colours[..., :3] * (colours[..., 3:] / 255) @ LUMINANCE, (0.0, 255.0)
