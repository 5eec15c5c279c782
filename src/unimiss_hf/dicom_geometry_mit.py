"""Where DICOM slices lie: their order along the normal, and the affine of the volume they make.

Sections are those of the DICOM standard, PS3.3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

# Positions are often written to 0.01 mm; along any one direction two of them are then off by up
# to 0.017 mm.
_ROUNDING = 0.02  # mm
_SPACING_TOLERANCE = 0.01  # of the spacing
_PIXEL_TOLERANCE = 1e-4  # of the pixel spacing: a twentieth of a pixel over 512
_COSINE_TOLERANCE = 1e-3
_TILT_TOLERANCE = 0.5  # degrees
_LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])
_SHOWN = 3


@dataclass(frozen=True, eq=False)
class Plane:
    """Where a slice lies in the patient: the Image Plane module (C.7.6.2).

    Attributes:
        name: what messages call it.
        shape: Rows and Columns.
        position: ImagePositionPatient, the centre of the first pixel, in mm; in DICOM's
            coordinates, which grow towards the patient's left, posterior and superior (LPS).
        orientation: ImageOrientationPatient, `(2, 3)`: the directions of a row and of a column.
        spacing: PixelSpacing in mm: between rows, between columns (10.7.1.3).
    """

    name: str
    shape: tuple[int, int]
    position: np.ndarray
    orientation: np.ndarray
    spacing: np.ndarray

    @property
    def normal(self) -> np.ndarray:
        """The direction across the slice, of length 1."""
        normal = np.cross(*self.orientation)
        return normal / np.linalg.norm(normal)


def stack_planes(planes: Sequence[Plane], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Sort slices along their normal.

    Args:
        planes: at least two.
        name: what messages call the series.

    Returns:
        The order of the planes as indices, and the affine, 4x4 in mm, that takes (column, row,
        slice in that order) to world coordinates that grow towards the patient's right, anterior
        and superior, as those of NIfTI (RAS+). Obliquity is kept.

    Raises:
        ValueError: if the slices differ in size, orientation or pixel spacing; lie at the same
            position; are missing; are not equally spaced (to 1 % of the spacing and the rounding of
            positions to 0.01 mm); or are shifted against one another, as by a tilted gantry (by
            more than 0.5 degrees).
    """
    _require_valid(planes)
    _require_alike(planes, name)
    normal = planes[0].normal
    distances = np.array([plane.position @ normal for plane in planes])
    order = np.argsort(distances, kind="stable")
    distances, ordered = distances[order], [planes[index] for index in order]
    gaps = np.diff(distances)
    usual = float(np.percentile(gaps, 50, method="lower"))
    # The second term is capped for the spacings of microscopic CT.
    tolerance = _SPACING_TOLERANCE * usual + min(_ROUNDING, 0.1 * usual)

    _require_apart(ordered, gaps, name)
    _require_none_missing(ordered, distances, usual, tolerance, name)
    positions = np.stack([plane.position for plane in ordered])
    step = (positions[-1] - positions[0]) / len(gaps)
    off = positions - positions[0] - np.arange(len(positions))[:, None] * step
    _require_equal_spacing(ordered, gaps, np.abs(off @ normal), tolerance, name)
    _require_upright(positions[-1] - positions[0], normal, name)
    _require_in_line(ordered, off - (off @ normal)[:, None] * normal, tolerance, name)

    affine = np.eye(4)
    row, column = planes[0].orientation
    between_rows, between_columns = planes[0].spacing
    affine[:3, 0] = _LPS_TO_RAS * row * between_columns
    affine[:3, 1] = _LPS_TO_RAS * column * between_rows
    affine[:3, 2] = _LPS_TO_RAS * step
    affine[:3, 3] = _LPS_TO_RAS * positions[0]
    return order, affine


def listed(names: Sequence[str]) -> str:
    """The first few names, and how many there are besides."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _require_valid(planes: Sequence[Plane]) -> None:
    for plane in planes:
        if (plane.spacing <= 0).any():
            raise ValueError(
                f"{plane.name} has PixelSpacing {plane.spacing.tolist()}; wanted positive mm. "
                f"Correct its header."
            )
        if np.abs(plane.orientation @ plane.orientation.T - np.eye(2)).max() > _COSINE_TOLERANCE:
            raise ValueError(
                f"{plane.name} has ImageOrientationPatient {plane.orientation.tolist()}; wanted "
                f"two perpendicular directions of length 1. Correct its header."
            )


def _require_alike(planes: Sequence[Plane], name: str) -> None:
    def compare(what: str, value: Callable[[Plane], Any], tolerance: float) -> None:
        first = np.array(value(planes[0]))
        other = [p for p in planes if np.abs(np.array(value(p)) - first).max() > tolerance]
        if other:
            raise ValueError(
                f"{name} has slices of differing {what}: {planes[0].name} has {first.tolist()}, "
                f"{listed([plane.name for plane in other])} "
                f"{np.array(value(other[0])).tolist()}. Pass those that agree as a list."
            )

    compare("size (Rows, Columns)", lambda plane: plane.shape, 0)
    compare(
        "orientation (ImageOrientationPatient)", lambda plane: plane.orientation, _COSINE_TOLERANCE
    )
    compare(
        "PixelSpacing in mm",
        lambda plane: plane.spacing,
        _PIXEL_TOLERANCE * planes[0].spacing.min(),
    )


def _require_apart(ordered: Sequence[Plane], gaps: np.ndarray, name: str) -> None:
    same = np.flatnonzero(gaps <= min(_ROUNDING, _SPACING_TOLERANCE * gaps.max()))
    if len(same):
        pairs = [f"{ordered[i].name} and {ordered[i + 1].name}" for i in same]
        raise ValueError(
            f"{name} has slices at the same position: {listed(pairs)}. Pass one of each "
            f"position as a list: one phase, echo or reconstruction."
        )


def _require_none_missing(
    ordered: Sequence[Plane], distances: np.ndarray, usual: float, tolerance: float, name: str
) -> None:
    gaps = np.diff(distances)
    steps = np.rint(gaps / usual).astype(int)
    regular = np.abs(gaps - steps * usual) <= steps * tolerance
    wide = np.flatnonzero(steps > 1)
    if not len(wide) or not regular.all():
        return
    holes = [
        f"{steps[i] - 1} between {ordered[i].name} at {distances[i]:.2f} mm and "
        f"{ordered[i + 1].name} at {distances[i + 1]:.2f} mm"
        for i in wide
    ]
    raise ValueError(
        f"{name} has missing slices: {listed(holes)}, where {usual:.2f} mm are usual. Add them, or "
        f"pass the slices on one side of the gap as a list."
    )


def _require_equal_spacing(
    ordered: Sequence[Plane], gaps: np.ndarray, off: np.ndarray, tolerance: float, name: str
) -> None:
    if off.max() <= tolerance:
        return
    near, far = int(gaps.argmin()), int(gaps.argmax())
    raise ValueError(
        f"{name} has unequal spacing: from {gaps[near]:.3f} mm between {ordered[near].name} and "
        f"{ordered[near + 1].name} to {gaps[far]:.3f} mm between {ordered[far].name} and "
        f"{ordered[far + 1].name}, so that slices lie up to {off.max():.3f} mm off a regular grid "
        f"({tolerance:.3f} mm are tolerated). Resample it to equal spacing, as dcm2niix does, and "
        f"pass the NIfTI file; or pass the slices of one spacing as a list."
    )


def _require_upright(extent: np.ndarray, normal: np.ndarray, name: str) -> None:
    """`extent` is the way from the first slice to the last."""
    along = float(extent @ normal)
    aside = float(np.linalg.norm(extent - along * normal))
    angle = float(np.degrees(np.arctan2(aside, along)))
    if angle > _TILT_TOLERANCE and aside > _ROUNDING:
        raise ValueError(
            f"{name} was scanned with a tilted gantry: the line of its slices' positions is "
            f"{angle:.1f} degrees off their normal (up to {_TILT_TOLERANCE} are taken). Shear it "
            f"upright, as dcm2niix does, and pass the NIfTI file."
        )


def _require_in_line(
    ordered: Sequence[Plane], aside: np.ndarray, tolerance: float, name: str
) -> None:
    shifts = np.linalg.norm(aside, axis=1)
    if shifts.max() > tolerance:
        raise ValueError(
            f"{name} has slices that are shifted sideways: {ordered[shifts.argmax()].name} lies "
            f"{shifts.max():.3f} mm beside the line of their positions ({tolerance:.3f} mm are "
            f"tolerated). Pass the slices of one reconstruction as a list."
        )
