"""The patches that look most like one patch to the encoder, in an image and in others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .images import ViewedImage
from .patch_features import PatchFeatures

# Patches that are at most so far apart along each axis touch.
_NEAREST = 1
_AIR_HU = -900.0


@dataclass(frozen=True)
class Scale:
    """What the features of one dimension are centred on and divided by.

    Attributes:
        mean: `(channels,)`.
        deviation: `(channels,)`, positive.
    """

    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def of(cls, vectors: np.ndarray) -> Scale:
        """Measure it on `(patches, channels)`."""
        vectors = vectors.astype(np.float32)
        return cls(vectors.mean(axis=0), np.maximum(vectors.std(axis=0), 1e-6))

    def directions(self, vectors: np.ndarray) -> np.ndarray:
        """Bring `(patches, channels)` to length 1, so that products are cosines: float32."""
        centred = (vectors.astype(np.float32) - self.mean) / self.deviation
        lengths = np.linalg.norm(centred, axis=-1, keepdims=True)
        return centred / np.maximum(lengths, 1e-6)


@dataclass(frozen=True)
class Neighbour:
    """A patch that was found.

    Attributes:
        image: The image that it is of.
        edges: `(3, 2)`, where it begins and ends, in voxels of the image.
        similarity: The cosine of both patches' centred features.
    """

    image: ViewedImage
    edges: np.ndarray
    similarity: float


@dataclass(frozen=True)
class PatchIndex:
    """Patches of some images of one dimension, to find neighbours among.

    Attributes:
        images: The images.
        features: Their features.
        image_numbers: `(patches,)`, the image of each patch.
        places: `(patches, 3)`, where it lies on its image's grid of patches.
        directions: `(patches, channels)`, centred and of length 1.
        scale: What they were centred on, and other patches of this dimension are.
    """

    images: Sequence[ViewedImage]
    features: Sequence[PatchFeatures]
    image_numbers: np.ndarray
    places: np.ndarray
    directions: np.ndarray
    scale: Scale

    @classmethod
    def of(
        cls,
        images: Sequence[ViewedImage],
        features: Sequence[PatchFeatures],
        most: int,
        seed: int = 0,
    ) -> PatchIndex:
        """Index images of one dimension, leaving out patches of air.

        Args:
            images: One or more.
            features: Of each.
            most: Patches that are kept, drawn evenly from all.
            seed: Of the draw.
        """
        numbers, places, vectors = [], [], []
        for number, (image, of_image) in enumerate(zip(images, features, strict=True)):
            inside = np.argwhere(_shows_something(image, of_image))
            numbers.append(np.full(len(inside), number))
            places.append(inside)
            vectors.append(of_image.vectors[tuple(inside.T)])
        joined = [np.concatenate(parts) for parts in (numbers, places, vectors)]
        count = len(joined[0])
        kept = np.sort(np.random.default_rng(seed).permutation(count)[:most])
        scale = Scale.of(joined[2])
        numbers, places, vectors = (part[kept] for part in joined)
        return cls(images, features, numbers, places, scale.directions(vectors), scale)

    def nearest(self, direction: np.ndarray, count: int) -> list[Neighbour]:
        """Find the patches with the largest cosines, the best first.

        Args:
            direction: `(channels,)`, of length 1.
            count: How many; patches that touch a better one are passed over.
        """
        found: list[int] = []
        cosines = self.directions @ direction
        for candidate in np.argsort(-cosines, kind="stable"):
            if len(found) == count:
                break
            if not any(self._touch(candidate, other) for other in found):
                found.append(int(candidate))
        return [self._neighbour(at, float(cosines[at])) for at in found]

    def _touch(self, one: int, other: int) -> bool:
        if self.image_numbers[one] != self.image_numbers[other]:
            return False
        return bool(np.abs(self.places[one] - self.places[other]).max() <= _NEAREST)

    def _neighbour(self, at: int, similarity: float) -> Neighbour:
        number = self.image_numbers[at]
        image = self.images[number]
        edges = self.features[number].edges(self.places[at], image.shape)
        return Neighbour(image, edges, similarity)


def nearest_within(
    image: ViewedImage,
    features: PatchFeatures,
    patch: Sequence[int],
    scale: Scale,
    count: int,
) -> list[Neighbour]:
    """Find the patches of an image that are most like one of its own, the best first.

    Args:
        image: The image.
        features: Its features.
        patch: The place (depth, height, width) on its grid of patches.
        scale: Of its dimension.
        count: How many; the patch itself and those that touch it or a better one are passed over.
    """
    places = np.indices(features.grid).reshape(3, -1).T
    directions = scale.directions(features.vectors.reshape(len(places), -1))
    direction = directions[np.ravel_multi_index(tuple(patch), features.grid)]
    apart = np.abs(places - np.array(patch)).max(axis=1) > _NEAREST
    numbers = np.zeros(int(apart.sum()), dtype=int)
    others = PatchIndex([image], [features], numbers, places[apart], directions[apart], scale)
    return others.nearest(direction, count)


def _shows_something(image: ViewedImage, features: PatchFeatures) -> np.ndarray:
    """Which patches of a grid have more than air at their centre."""
    if not image.is_hounsfield:
        return np.ones(features.grid, dtype=bool)
    centres = [
        np.minimum(((np.arange(n) + 0.5) / count * length).astype(int), length - 1)
        for n, count, length in zip(features.grid, features.patches, image.shape, strict=True)
    ]
    filled = image.values[np.ix_(*centres)] > _AIR_HU
    return filled if filled.any() else np.ones(features.grid, dtype=bool)
