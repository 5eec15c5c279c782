"""Planes through an image: their size on the page, their sides, and where a point of one lies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

AXES = ("axial", "coronal", "sagittal")
"""The planes of a volume `(depth, height, width)`, in the order of the axis that they cut."""

FIRST_SLICE = ("lowest", "most posterior", "leftmost")
"""What slice 1 is, along each axis: the volume is RAS+."""

# What lies at the left, right, top and bottom of each plane as it is shown.
_SIDES = (("R", "L", "A", "P"), ("R", "L", "S", "I"), ("A", "P", "S", "I"))
_SHORTEST, _LONGEST = 512, 1024


@dataclass(frozen=True)
class Plane:
    """One plane of an image, as it is shown.

    A volume's planes are shown as radiologists hang them: the patient's right at the picture's
    left, anterior or superior at the top; sagittal planes from the patient's left side, anterior at
    the left. A 2D image is shown as it is.

    Attributes:
        shape: `(depth, height, width)` of the image; depth is 1 in 2D.
        spacing: Distance of voxel centres along these axes, in mm or in any one unit.
        axis: The axis that is cut, 0, 1 or 2.
        index: Which plane, from 0.
        is_volume: Whether the image is 3D.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    axis: int
    index: int
    is_volume: bool

    @property
    def axes(self) -> tuple[int, int]:
        """The image's axes that are the picture's rows and columns."""
        rows, columns = (axis for axis in range(3) if axis != self.axis)
        return rows, columns

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the picture in pixels, which are square in mm."""
        lengths = [self.shape[axis] * self.spacing[axis] for axis in self.axes]
        finest = min(self.spacing[axis] for axis in self.axes)
        longest = min(max(max(lengths) / finest, _SHORTEST), _LONGEST)
        scale = longest / max(lengths)
        height, width = (max(1, round(length * scale)) for length in lengths)
        return height, width

    @property
    def sides(self) -> tuple[str, str, str, str] | None:
        """What lies at the left, right, top and bottom; `None` in 2D."""
        return _SIDES[self.axis] if self.is_volume else None

    def cut(self, values: np.ndarray) -> np.ndarray:
        """Take the plane `(rows, columns, ...)` of `(depth, height, width, ...)`."""
        return self.turned(np.take(values, self.index, axis=self.axis))

    def turned(self, plane: np.ndarray) -> np.ndarray:
        """Turn rows and columns in the volume's order to how they are shown."""
        return plane[::-1, ::-1] if self.is_volume else plane

    def voxel_at(self, right: float, down: float) -> tuple[int, int, int]:
        """The voxel (depth, height, width) at a point of the picture.

        Args:
            right: From 0 at the picture's left edge to 1 at its right.
            down: From 0 at its top to 1 at its bottom.
        """
        voxel = [self.index] * 3
        for axis, share in zip(self.axes, (down, right), strict=True):
            share = 1 - share if self.is_volume else share
            voxel[axis] = min(max(int(share * self.shape[axis]), 0), self.shape[axis] - 1)
        return voxel[0], voxel[1], voxel[2]

    def box(self, edges: np.ndarray) -> tuple[float, float, float, float] | None:
        """Where a block of voxels lies in the picture.

        Args:
            edges: `(3, 2)`, where it begins and ends along each axis, in voxels.

        Returns:
            Left, top, right and bottom in pixels; `None` if the plane does not cut it.
        """
        if not edges[self.axis][0] <= self.index + 0.5 < edges[self.axis][1]:
            return None
        ends = []
        for axis, pixels in zip(self.axes, self.size, strict=True):
            low, high = (edge / self.shape[axis] for edge in edges[axis])
            low, high = (1 - high, 1 - low) if self.is_volume else (low, high)
            ends.append((low * pixels, high * pixels))
        (top, bottom), (left, right) = ends
        return left, top, right, bottom
