"""Grids of any length, spacing, orientation and obliquity, for tests that try many."""

import nibabel
import numpy as np
from hypothesis import strategies as st

LENGTHS = st.tuples(*[st.integers(2, 9)] * 3)
SPACINGS = st.tuples(*[st.floats(0.3, 6)] * 3)
ANGLES = st.tuples(*[st.floats(-0.7, 0.7)] * 3)
CODES = st.builds(
    lambda order, signs: [("LR", "PA", "IS")[axis][signs[axis]] for axis in order],
    st.permutations([0, 1, 2]),
    st.tuples(*[st.integers(0, 1)] * 3),
)


def turn(angles) -> np.ndarray:
    """A rotation about x, then y, then z, in radians."""
    about = []
    for (first, second), angle in zip([(1, 2), (0, 2), (0, 1)], angles, strict=True):
        matrix = np.eye(3)
        matrix[[first, second], [first, second]] = np.cos(angle)
        matrix[first, second], matrix[second, first] = -np.sin(angle), np.sin(angle)
        about.append(matrix)
    return about[2] @ about[1] @ about[0]


def stored_affine(codes, spacing, angles, origin=(10.0, -20.0, 30.0)) -> np.ndarray:
    orientation = nibabel.orientations.axcodes2ornt(codes)
    flips = np.zeros((3, 3))
    for column, (axis, sign) in enumerate(orientation):
        flips[int(axis), column] = sign * spacing[column]
    affine = np.eye(4)
    affine[:3, :3] = turn(angles) @ flips
    affine[:3, 3] = origin
    return affine
