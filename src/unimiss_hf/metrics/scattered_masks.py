"""Masks that fill little of the box that holds them: their surfaces, from their voxels alone.

An early model's predictions have stray voxels of most classes anywhere in a volume. Going through
the whole volume for each class takes minutes; going through the voxels of the class, a moment.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree


@dataclass(frozen=True)
class Places:
    """Voxels of a grid, or cells between them, by their numbers.

    Attributes:
        numbers: in the order of the axes, rising.
        shape: `([depth,] height, width)` of the grid.
    """

    numbers: np.ndarray
    shape: tuple[int, ...]

    def distances_to(self, others: Places, spacing: Sequence[float]) -> np.ndarray:
        """Measure from each place to the nearest one of others, as MONAI does with a mask of them.

        Args:
            others: of the same grid; at least one.
            spacing: mm, in the order of the axes.

        Returns:
            `(places,)`, float32, mm.
        """
        distances = np.zeros(len(self.numbers), dtype=np.float32)
        # Those in both are 0 apart: only the others are searched for.
        apart = ~_among(self.numbers, others.numbers)
        if apart.any():
            tree = KDTree(others.points(spacing), leafsize=32)
            alone = Places(self.numbers[apart], self.shape)
            distances[apart] = tree.query(alone.points(spacing))[0]
        return distances

    def points(self, spacing: Sequence[float]) -> np.ndarray:
        """Where they are, `(places, axes)`, float64, mm."""
        indices = np.stack(np.unravel_index(self.numbers, self.shape), axis=1)
        return indices * np.asarray(spacing, dtype=np.float64)


class ScatteredMask:
    """A mask as a list of its voxels.

    Args:
        voxels: numbers of the voxels that are set, in the order of the axes, rising.
        shape: `([depth,] height, width)` of the mask.
    """

    def __init__(self, voxels: np.ndarray, shape: Sequence[int]):
        # With a voxel around it, as a neighbour of each voxel at the border.
        self.shape = tuple(length + 2 for length in shape)
        self._steps = [math.prod(self.shape[axis + 1 :]) for axis in range(len(shape))]
        indices = np.unravel_index(voxels, tuple(shape))
        self._voxels = sum(
            (index + 1) * step for index, step in zip(indices, self._steps, strict=True)
        )

    @classmethod
    def of(cls, mask: np.ndarray) -> ScatteredMask:
        """List the voxels of a mask `([depth,] height, width)`, bool."""
        return cls(np.flatnonzero(mask), mask.shape)

    def edge(self) -> Places:
        """Find the voxels with a neighbour across a face that is not in the mask."""
        inner = np.ones(len(self._voxels), dtype=bool)
        for step in (*self._steps, *(-step for step in self._steps)):
            inner &= self._has(self._voxels + step)
        return Places(self._voxels[~inner], self.shape)

    def elements(self, weights: np.ndarray) -> tuple[Places, np.ndarray]:
        """Find where the surface passes between voxels.

        Args:
            weights: what a corner of a cell, `2 x 2 [x 2]` voxels, adds to its code if it is in the
                mask; uint8.

        Returns:
            The cells with corners inside and outside, by their first voxels, and their codes.
        """
        corners = [
            sum(side * step for side, step in zip(corner, self._steps, strict=True))
            for corner in itertools.product((0, 1), repeat=len(self._steps))
        ]
        # Of the corners of such a cell, two on either side of a face differ: one is of the edge.
        edge = self.edge().numbers
        cells = np.unique(np.concatenate([edge - corner for corner in corners]))
        codes = np.zeros(len(cells), dtype=np.uint8)
        for corner, weight in zip(corners, weights.ravel(), strict=True):
            codes += weight * self._has(cells + corner)
        passed = codes != weights.sum(dtype=np.uint8)
        return Places(cells[passed], self.shape), codes[passed]

    def _has(self, numbers: np.ndarray) -> np.ndarray:
        return _among(numbers, self._voxels)


def _among(numbers: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Tell which numbers are among those that are known, of which there is one at least."""
    places = np.searchsorted(known, numbers)
    places[places == len(known)] = 0
    return known[places] == numbers
