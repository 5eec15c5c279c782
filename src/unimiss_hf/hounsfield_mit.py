"""Hounsfield units: their range, the windows that radiologists look through, their scale.

An MR has no units: its window is measured on the volume itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

# The range of a 12-bit CT, in HU; its lowest value is what lies outside a scan.
AIR_HU, MAX_HU = -1024.0, 3071.0
# What HU are divided by before a network sees them, as in the official code.
HU_SCALE = 1024.0

WINDOWS: dict[str, tuple[float, float]] = {
    "pretraining": ((AIR_HU + MAX_HU) / 2, MAX_HU - AIR_HU),
    "lung": (-600.0, 1500.0),
    "soft tissue": (50.0, 400.0),
    "bone": (400.0, 1800.0),
}
"""Level and width in HU of the windows with a name; "pretraining" is the whole range of a CT."""

MEASURED = "percentiles"
"""The window that is measured on each volume, see `measured_window`: for MR."""
PERCENTILES = (0.5, 99.5)

SCALES = ("pretraining", "unit")


def window_range(window: str | Sequence[float]) -> tuple[float, float]:
    """Return the lowest and the highest value that a window shows.

    `window` is a name of `WINDOWS` (underscores and hyphens stand for spaces) or a level and a
    width, the middle and the length of the range (DICOM PS3.3, C.11.2.1.2).

    Raises:
        ValueError: if there is no window of that name, or a number is not finite, or the width is
            not positive; or if it is "percentiles", which no volume has been asked for yet.
    """
    if isinstance(window, str) and window == MEASURED:
        raise ValueError(
            f"window={MEASURED!r} is another for each volume: pass what measured_window returns."
        )
    level, width = require_window("window", window)
    return level - width / 2, level + width / 2


def require_window(field: str, window: Any) -> tuple[float, float]:
    """Return level and width, or raise a ValueError that names the field."""
    if isinstance(window, str):
        name = window.lower().replace("_", " ").replace("-", " ")
        if name not in WINDOWS:
            raise ValueError(
                f"{field} must be one of {[*WINDOWS, MEASURED]} or (level, width); got {window!r}."
            )
        return WINDOWS[name]
    numbers = np.ravel(window)
    valid = len(numbers) == 2 and numbers.dtype.kind in "iuf" and np.isfinite(numbers).all()
    if not valid or numbers[1] <= 0:
        raise ValueError(
            f"{field} must be one of {[*WINDOWS, MEASURED]} or (level, width) with a positive "
            f"width; got {window!r}."
        )
    return float(numbers[0]), float(numbers[1])


def measured_window(
    values: np.ndarray, window: str | Sequence[float] | None
) -> str | Sequence[float] | None:
    """Turn "percentiles" into a level and a width; pass any other window on.

    Args:
        values: all voxels of a volume or pixels of an image, before anything is added around them.
        window: what `apply_window` takes.

    Returns:
        The window from the 0.5th to the 99.5th percentile; where they are equal, as in a volume of
        one value, the window of width 1 that starts there.
    """
    if not isinstance(window, str) or window != MEASURED:
        return window
    low, high = (float(value) for value in np.percentile(values, PERCENTILES))
    width = high - low if high > low else 1.0
    return low + width / 2, width


def scale_of(
    scaling: str | Sequence[float], window: str | Sequence[float] | None
) -> tuple[float, float]:
    """Return offset and divisor: a network sees `(HU - offset) / divisor`.

    `scaling` is "pretraining", which divides by 1024 whatever the window; "unit", which turns the
    window into [0, 1]; or the two numbers themselves.

    Raises:
        ValueError: if it is none of these, if the divisor is not positive, or if "unit" comes
            without a window.
    """
    if isinstance(scaling, str) and scaling == "pretraining":
        return 0.0, HU_SCALE
    if isinstance(scaling, str) and scaling == "unit":
        if window is None:
            raise ValueError('scaling="unit" turns the window into [0, 1]; got window=None.')
        low, high = window_range(window)
        return low, high - low
    numbers = np.ravel(scaling)
    if isinstance(scaling, str) or len(numbers) != 2 or numbers.dtype.kind not in "iuf":
        raise ValueError(f"scaling must be one of {SCALES} or (offset, divisor); got {scaling!r}.")
    offset, divisor = (float(number) for number in numbers)
    if not math.isfinite(offset) or not 0 < divisor < math.inf:
        raise ValueError(
            f"scaling must be (offset, divisor), finite, with a positive divisor; got {scaling!r}."
        )
    return offset, divisor


def apply_window(
    values: np.ndarray,
    window: str | Sequence[float] | None = "pretraining",
    scaling: str | Sequence[float] = "pretraining",
) -> np.ndarray:
    """Clip HU to a window, unless it is `None`, and scale them: a new array of the same shape.

    `values` are floating point; `window` and `scaling` are what `window_range` and `scale_of` take,
    as are the errors; "percentiles" is measured on `values`.
    """
    window = measured_window(values, window)
    scaled = values.copy() if window is None else values.clip(*window_range(window))
    offset, divisor = scale_of(scaling, window)
    if offset:
        scaled -= np.float32(offset)
    scaled /= np.float32(divisor)
    return scaled
