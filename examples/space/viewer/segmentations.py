"""Label maps of an image: as a model gives them, as they are shown, and as files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from PIL import Image

from .images import Source, ViewedImage

# Hues that stay apart for most colour-blind eyes (Okabe and Ito, 2008), then repeated.
_HUES = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")


@dataclass(frozen=True)
class Segment:
    """One class of a segmentation.

    Attributes:
        name: Its name.
        colour: As `#RRGGBB`.
        voxels: How many of the input's own voxels or pixels it has.
        volume_ml: Their volume in ml; `None` if it is not known, as in 2D.
    """

    name: str
    colour: str
    voxels: int
    volume_ml: float | None


@dataclass(frozen=True)
class Segmentation:
    """What a model says of each voxel.

    Attributes:
        segments: The classes, without background.
        masks: `(depth, height, width)` with the number of the class from 1, if each voxel has one;
            `(classes, depth, height, width)`, bool, of classes that may overlap.
        answer: What the pipeline gave, on the input's own grid: one label map, or a mask of each
            class.
    """

    segments: Sequence[Segment]
    masks: np.ndarray
    answer: Any


def segment_image(segment: Any, source: Source, image: ViewedImage) -> Segmentation:
    """Segment an image or a volume.

    Args:
        segment: The pipeline `medical-image-segmentation`, of a model of its dimension.
        source: What its processor takes.
        image: The same, as `read_image` read it.

    Raises:
        OSError, ValueError, TypeError, ImportError: As the pipeline does.
    """
    (result,) = segment([source])
    overlap = "masks" in result
    answer = result["masks"] if overlap else result["segmentation"]
    found = [entry for entry in result["segments_info"] if overlap or entry["label_id"] != 0]
    segments = [
        Segment(entry["label"], _hue(number), entry["voxels"], entry["volume_ml"])
        for number, entry in enumerate(found)
    ]
    maps = [
        _as_shown(labels, image, segment.image_processor)
        for labels in (answer if overlap else [answer])
    ]
    return Segmentation(segments, np.stack(maps) > 0 if overlap else maps[0], answer)


def save_segmentation(segmentation: Segmentation, folder: Path, name: str) -> Path:
    """Write a segmentation on the input's own grid.

    Label maps of volumes are NIfTI, and those of images PNG. Classes that may overlap are a fourth
    axis of a volume; of an image, where they may not all fit into one grey level, each has a bit:
    1, 2, 4, ... in the order of the segments.

    Args:
        segmentation: What `segment_image` returned.
        folder: Where it goes.
        name: Of the input.

    Returns:
        The file.

    Raises:
        ValueError: If an image has more than 16 classes that may overlap.
    """
    stem = name.removesuffix(".gz").rpartition(".")[0] or name
    answer = segmentation.answer
    overlap = isinstance(answer, list)
    first = answer[0] if overlap else answer
    if isinstance(first, nibabel.spatialimages.SpatialImage):
        path = folder / f"{stem}_labels.nii.gz"
        if overlap:
            masks = np.stack([np.asanyarray(mask.dataobj) for mask in answer], axis=-1)
            first = type(first)(masks, first.affine, dtype=masks.dtype)
        nibabel.save(first, path)
        return path
    if overlap and len(answer) > 16:
        raise ValueError(
            f"A PNG holds 16 classes that may overlap, a bit each; {name} has {len(answer)}. "
            "Take its masks from the pipeline medical-image-segmentation."
        )
    path = folder / f"{stem}_labels.png"
    pixels = np.asarray(first)
    if overlap:
        kind = np.uint8 if len(answer) <= 8 else np.uint16
        pixels = sum(np.asarray(mask).astype(kind) << bit for bit, mask in enumerate(answer))
        pixels = pixels.astype(kind)
    elif pixels.dtype.itemsize > 2:
        pixels = pixels.astype(np.uint16)
    Image.fromarray(pixels).save(path)
    return path


def _hue(number: int) -> str:
    return _HUES[number % len(_HUES)]


def _as_shown(labels: Any, image: ViewedImage, processor: Any) -> np.ndarray:
    """A label map `(depth, height, width)` on the grid that the image is looked at on."""
    if image.is_volume:
        if isinstance(labels, np.ndarray):
            return labels
        turned = nibabel.as_closest_canonical(labels)
        return np.asanyarray(turned.dataobj).reshape(image.shape[::-1]).transpose()
    if isinstance(labels, nibabel.spatialimages.SpatialImage):
        # One slice: read as the image was, so that it is turned alike.
        stored = nibabel.Nifti1Image(np.asanyarray(labels.dataobj).astype(np.uint8), labels.affine)
        pixels = processor(stored, image_size=None, num_channels=1, grey_window=(127.5, 255.0))
        return np.rint(pixels["pixel_values"][0] * 255).astype(np.uint8)
    if isinstance(labels, np.ndarray):
        return labels.reshape(image.shape)
    upright = _TURNS.get(image.exif_orientation)
    shown = labels if upright is None else labels.transpose(upright)
    return np.asarray(shown)[None]


# How an image that is stored with an EXIF orientation is turned to be looked at.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
