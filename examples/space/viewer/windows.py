"""Windows: which grey values are black and which are white."""

from __future__ import annotations

import numpy as np

CT_WINDOWS: dict[str, tuple[float, float]] = {
    "pretraining": (1023.5, 4095.0),
    "lung": (-600.0, 1500.0),
    "soft tissue": (50.0, 400.0),
    "bone": (400.0, 1800.0),
}
"""Level and width in HU; those that the image processor knows by name."""

WHOLE_RANGE = "whole range"
PERCENTILES = "percentiles"
OWN = "own"
"""The name of a window whose numbers were typed in."""


def window_names(is_hounsfield: bool) -> list[str]:
    """List the windows that an image can be seen through, the first shown first.

    "own" is the last: what the numbers of level and width say.
    """
    named = ["soft tissue", "lung", "bone", "pretraining"] if is_hounsfield else [WHOLE_RANGE]
    return [*named, PERCENTILES, OWN]


def first_window(values: np.ndarray, is_hounsfield: bool) -> str:
    """Name the window to begin with: percentiles for a volume that cannot be a CT."""
    if is_hounsfield and values.min() >= 0:
        return PERCENTILES
    return window_names(is_hounsfield)[0]


def level_and_width(name: str, values: np.ndarray) -> tuple[float, float]:
    """Turn the name of a window into its level and width.

    Args:
        name: Of `window_names`, but for "own".
        values: All of an image, on which "percentiles" (0.5 to 99.5) is measured.

    Raises:
        ValueError: If there is no window of that name.
    """
    if name in CT_WINDOWS:
        return CT_WINDOWS[name]
    if name == WHOLE_RANGE:
        return 0.5, 1.0
    if name != PERCENTILES:
        raise ValueError(
            f"There is no window {name!r}; there are {[*CT_WINDOWS, WHOLE_RANGE, PERCENTILES]}."
        )
    # Every so many of the values tell enough, and a large volume takes no second.
    low, high = np.percentile(values.reshape(-1)[:: max(1, values.size // 10**6)], (0.5, 99.5))
    width = float(high - low) or 1.0
    return round(float(low) + width / 2, 4), round(width, 4)


def grey_levels(values: np.ndarray, level: float, width: float) -> np.ndarray:
    """Show values through a window: uint8 of the same shape, 0 for black.

    Raises:
        ValueError: If the width is not positive.
    """
    if not width > 0:
        raise ValueError(f"The window's width is {width:g}; it must be more than 0.")
    shown = (values.astype(np.float32) - (level - width / 2)) * (255 / width)
    return np.rint(shown.clip(0, 255)).astype(np.uint8)
