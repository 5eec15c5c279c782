"""Pictures of planes: grey levels with features or segments over them, and the marked patch."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from .images import ViewedImage
from .neighbours import Neighbour
from .patch_features import PatchFeatures
from .planes import Plane
from .segmentations import Segmentation
from .windows import grey_levels

# Level and width in HU of a neighbour's picture: from lung to bone.
_CROP_WINDOW = (-200.0, 1400.0)
_CROP_PIXELS = 144
_CROP_PATCHES = 5.0


def plane_of(image: ViewedImage, axis: int, index: int) -> Plane:
    """The plane of an image; voxels of unknown spacing are shown as cubes."""
    return Plane(image.shape, image.spacing or (1.0, 1.0, 1.0), axis, index, image.is_volume)


def draw_plane(image: ViewedImage, plane: Plane, level: float, width: float) -> Image.Image:
    """Draw a plane's grey levels through a window: RGB, with square pixels in mm.

    Raises:
        ValueError: If the width is not positive.
    """
    grey = Image.fromarray(np.ascontiguousarray(grey_levels(plane.cut(image.values), level, width)))
    return _resized(grey, plane, Image.Resampling.BILINEAR).convert("RGB")


def lay_segments(
    picture: Image.Image, plane: Plane, segmentation: Segmentation, opacity: float
) -> Image.Image:
    """Lay the segments of a plane over its picture; `opacity` is from 0 to 1."""
    for number, segment in enumerate(segmentation.segments):
        masks = segmentation.masks
        cut = plane.cut(masks) == number + 1 if masks.ndim == 3 else plane.cut(masks[number])
        if not cut.any():
            continue
        cover = Image.fromarray(np.where(cut, np.uint8(round(255 * opacity)), np.uint8(0)))
        cover = _resized(cover, plane, Image.Resampling.NEAREST)
        picture = Image.composite(Image.new("RGB", picture.size, segment.colour), picture, cover)
    return picture


def lay_features(
    picture: Image.Image,
    plane: Plane,
    features: PatchFeatures,
    colours: np.ndarray,
    opacity: float,
) -> Image.Image:
    """Lay the colours of a plane's patches, interpolated linearly, over its picture.

    Args:
        picture: Of the plane.
        plane: The plane.
        features: Where the patches lie.
        colours: `(depth, height, width, 3)` in [0, 1], one for each patch.
        opacity: From 0 to 1.
    """
    along = (plane.index + 0.5) / plane.shape[plane.axis] * features.patches[plane.axis] - 0.5
    shown = np.take(_sampled(colours, np.array([along]), plane.axis), 0, axis=plane.axis)
    for at, (axis, pixels) in enumerate(zip(plane.axes, plane.size, strict=True)):
        places = (np.arange(pixels) + 0.5) / pixels * features.patches[axis] - 0.5
        shown = _sampled(shown, places, at)
    shown = np.rint(plane.turned(shown) * 255).astype(np.uint8)
    return Image.blend(picture, Image.fromarray(np.ascontiguousarray(shown)), opacity)


def mark_patch(picture: Image.Image, plane: Plane, edges: np.ndarray) -> Image.Image:
    """Draw a frame around a patch, if the plane cuts it."""
    box = plane.box(edges)
    if box is None:
        return picture
    marked = picture.copy()
    _frame(marked, box)
    return marked


def draw_neighbour(neighbour: Neighbour) -> Image.Image:
    """Draw a patch, framed, with what lies around it: a square of the plane through its centre."""
    image, centre = neighbour.image, neighbour.edges.mean(axis=1)
    plane = plane_of(image, 0, int(centre[0]))
    level, width = _CROP_WINDOW if image.is_hounsfield else (0.5, 1.0)
    left, top, right, bottom = plane.box(neighbour.edges)
    across, down = (left + right) / 2, (top + bottom) / 2
    reach = _CROP_PATCHES / 2 * max(right - left, bottom - top)
    around = (across - reach, down - reach, across + reach, down + reach)
    crop = draw_plane(image, plane, level, width).crop(tuple(map(round, around)))
    crop = crop.resize((_CROP_PIXELS, _CROP_PIXELS), Image.Resampling.BILINEAR)
    scale = _CROP_PIXELS / (2 * reach)
    box = (left - around[0], top - around[1], right - around[0], bottom - around[1])
    _frame(crop, [edge * scale for edge in box])
    return crop


def data_address(picture: Image.Image) -> str:
    """A picture as an address that holds it, so that no file of it is ever written."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _frame(picture: Image.Image, box: Sequence[float]) -> None:
    draw = ImageDraw.Draw(picture)
    left, top, right, bottom = box
    for grow, colour in ((3, "black"), (2, "#FFD400"), (1, "#FFD400"), (0, "black")):
        draw.rectangle((left - grow, top - grow, right + grow, bottom + grow), outline=colour)


def _resized(picture: Image.Image, plane: Plane, resampling: Image.Resampling) -> Image.Image:
    height, width = plane.size
    return picture.resize((width, height), resampling)


def _sampled(values: np.ndarray, places: np.ndarray, axis: int) -> np.ndarray:
    """Linear interpolation at places of an axis; beyond its ends the end itself."""
    places = places.clip(0, values.shape[axis] - 1)
    low = np.floor(places).astype(int)
    high = np.minimum(low + 1, values.shape[axis] - 1)
    shape = [1] * values.ndim
    shape[axis] = -1
    part = (places - low).astype(np.float32).reshape(shape)
    return np.take(values, low, axis) * (1 - part) + np.take(values, high, axis) * part
