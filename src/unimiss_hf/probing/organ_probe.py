"""What a frozen encoder knows of organs: features of patches, and how well they tell classes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..data.reading import Dimension
from ..modeling_mit import MiTModel
from .patches import PATCH_CLASSES, PatchSet, draw_patches
from .scores import Scores, knn_scores, linear_scores

_MEASURES = ("knn_accuracy", "linear_accuracy")


def number_names(dimensions: Sequence[Dimension]) -> list[str]:
    """List what [`OrganProbe.numbers`] returns for some dimensions."""
    of_each = [f"{name}_{dimension}" for dimension in dimensions for name in _MEASURES]
    return [*_MEASURES, *(of_each if len(dimensions) > 1 else ())]


@dataclass(frozen=True)
class ProbeScores:
    """What frozen features reach in one dimension.

    Attributes:
        knn: by the votes of nearest neighbours.
        linear: by a linear probe.
    """

    knn: Scores
    linear: Scores


class OrganProbe:
    """Tells which organ is at the centre of a patch of the sample CT, from frozen features.

    A feature is the encoder's last class token (`pooler_output`), of the patch as a volume or of
    the slice through its centre. Nothing random is drawn after the patches are, and those come
    from a generator of their own.

    Args:
        size: `(depth, height, width)` of a patch in voxels.
        spacing: distance of voxel centres in mm, (depth, height, width).
        per_class: training patches of each class; half as many are tested.
        seed: of the choice of patches.
        batch_size: patches that go through the network at once.

    Raises:
        FileNotFoundError, ValueError: see `draw_patches`.
    """

    def __init__(
        self,
        size: Sequence[int] = (16, 96, 96),
        spacing: Sequence[float] = (3.0, 1.0, 1.0),
        per_class: int = 32,
        seed: int = 0,
        batch_size: int = 16,
    ) -> None:
        self.patches = draw_patches(size, spacing, per_class, seed)
        self.batch_size = batch_size

    def scores(self, encoder: MiTModel, dimension: Dimension) -> ProbeScores:
        """Score an encoder.

        Args:
            encoder: On the device to compute on; its mode and gradients are left as they are.
            dimension: "3d" for volumes, "2d" for slices.

        Raises:
            ValueError: If its features are not finite.
        """
        train, test = self.patches.train, self.patches.test
        data = (
            self._features(encoder, train, dimension),
            train.labels,
            self._features(encoder, test, dimension),
            test.labels,
        )
        return ProbeScores(knn_scores(*data, PATCH_CLASSES), linear_scores(*data, PATCH_CLASSES))

    def numbers(self, encoder: MiTModel, dimensions: Iterable[Dimension]) -> dict[str, float]:
        """Measure an encoder in a few numbers, named as [`number_names`] does.

        Args:
            encoder: See [`scores`].
            dimensions: "2d", "3d" or both.

        Returns:
            The balanced accuracies of both probes: their means over the dimensions and, where
            there are several, those of each dimension.

        Raises:
            ValueError: If its features are not finite.
        """
        dimensions, of_each = list(dimensions), {}
        for dimension in dimensions:
            scores = self.scores(encoder, dimension)
            of_each[f"knn_accuracy_{dimension}"] = scores.knn.accuracy
            of_each[f"linear_accuracy_{dimension}"] = scores.linear.accuracy
        means = {
            name: float(np.mean([of_each[f"{name}_{dimension}"] for dimension in dimensions]))
            for name in _MEASURES
        }
        return {**means, **(of_each if len(dimensions) > 1 else {})}

    def _features(self, encoder: MiTModel, patches: PatchSet, dimension: Dimension) -> np.ndarray:
        was_training = encoder.training
        encoder.eval()
        try:
            with torch.no_grad():
                features = [
                    encoder(batch.to(encoder.device, encoder.dtype)).pooler_output.float().cpu()
                    for batch in patches.batches(dimension, self.batch_size)
                ]
        finally:
            encoder.train(was_training)
        return torch.cat(features).numpy()
