"""All that the models say of one image, step by step."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from .images import Source, ViewedImage, read_image
from .models import Models
from .patch_features import PatchFeatures, extract_patches, principal_colours
from .segmentations import Segmentation, segment_image
from .uploads import refuse_large

LARGEST_PREPARED = 2**25
"""Voxels that a network is given, after resampling: some 2.5 times a chest CT."""


@dataclass(frozen=True)
class Analysis:
    """What is known of an image so far.

    Attributes:
        image: The image itself.
        features: Of its patches.
        colours: Their principal components, `(depth, height, width, 3)`.
        segmentation: If there is a model of its dimension.
        classes: Probability by name, if there is one.
        notes: Sentences on what looks wrong, or was left out.
        next_step: What is being worked out now; empty at the end.
    """

    image: ViewedImage
    features: PatchFeatures | None = None
    colours: np.ndarray | None = None
    segmentation: Segmentation | None = None
    classes: dict[str, float] | None = None
    notes: tuple[str, ...] = field(default=())
    next_step: str = ""

    @property
    def dimension(self) -> int:
        """2 or 3."""
        return 3 if self.image.is_volume else 2


def analyse(source: Source, models: Models) -> Iterator[Analysis]:
    """Read an image, then ask one model after the other, the fastest first.

    Args:
        source: What the processor takes.
        models: Those that are open.

    Yields:
        What is known, first the image alone. What is too large for a model is left out with a note.

    Raises:
        OSError, ValueError, TypeError, ImportError: If the image cannot be read.
    """
    refuse_large(source)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        image = read_image(source, models.encoder.image_processor)
    # A header that looks wrong makes volumes and pictures wrong, too.
    notes = [str(each.message) for each in caught if issubclass(each.category, UserWarning)]
    known = Analysis(image, notes=tuple(notes))
    classify = models.classifiers.get(known.dimension)
    segment = models.segmenters.get(known.dimension)
    if classify is not None:
        yield replace(known, next_step="Classifying")
        if _fits(known.image, classify):
            (ranked,) = classify([source])
            known = replace(known, classes={entry["label"]: entry["score"] for entry in ranked})
        else:
            known = _without(known, "classified")
    if segment is not None:
        yield replace(known, next_step="Segmenting")
        if _fits(known.image, segment):
            known = replace(known, segmentation=segment_image(segment, source, known.image))
        else:
            known = _without(known, "segmented")
    yield replace(known, next_step="Computing features")
    if _fits(known.image, models.encoder):
        features = extract_patches(models.encoder, source)
        known = replace(known, features=features, colours=principal_colours(features))
    else:
        known = _without(known, "searched for neighbours")
    yield known


def _fits(image: ViewedImage, pipeline: Any) -> bool:
    """Whether a volume is of a size that a network can be asked about in reasonable time."""
    spacing = pipeline.image_processor.spacing
    if not image.is_volume or spacing is None or image.spacing is None:
        return image.values.size <= LARGEST_PREPARED
    return image.values.size * math.prod(image.spacing) / math.prod(spacing) <= LARGEST_PREPARED


def _without(known: Analysis, what: str) -> Analysis:
    note = f"Too large to be {what} here."
    return replace(known, notes=(*known.notes, note))
