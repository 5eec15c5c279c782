"""Grey levels of radiographs: from what a file stores to [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .hounsfield_mit import PERCENTILES, require_window
from .input_checks_mit import require_finite, warn

GREY_WINDOWS = ("minmax", "percentiles", "hounsfield")
LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601

GreyWindow = str | Sequence[float] | None


def require_grey_window(field: str, window: Any) -> GreyWindow:
    """Return a name of `GREY_WINDOWS`, (level, width) or `None`, or raise a ValueError."""
    if window is None or (isinstance(window, str) and window in GREY_WINDOWS):
        return window
    if isinstance(window, str):
        raise ValueError(
            f"{field} must be one of {GREY_WINDOWS}, (level, width) or None; got {window!r}."
        )
    return require_window(field, window)


def unit_range(
    pixels: np.ndarray,
    name: str,
    window: GreyWindow = None,
    declared: tuple[float, float] | None = None,
) -> np.ndarray:
    """Turn stored grey levels into float32 in [0, 1].

    Args:
        pixels: integers or floats of any shape.
        name: what messages call the image.
        window: the (level, width) that becomes [0, 1]; "minmax", from the lowest to the highest
            value; "percentiles", from the 0.5th to the 99.5th; `None`, what is declared.
        declared: the lowest and the highest grey level that the file declares; by default 0 and the
            largest value of an integer type of up to 16 bits, and 0 and 1 for floats.

    Raises:
        ValueError: if a value is not finite, or, without a window, the scale cannot be known.
    """
    require_finite(pixels, name)
    low, high = _range(pixels, name, window, declared)
    width = max(high - low, np.finfo(np.float32).tiny)
    grey = (pixels.astype(np.float32) - np.float32(low)) / np.float32(width)
    return grey.clip(0, 1)


def _range(
    pixels: np.ndarray, name: str, window: GreyWindow, declared: tuple[float, float] | None
) -> tuple[float, float]:
    lowest, highest = pixels.min(), pixels.max()
    if isinstance(window, str):
        if window == "percentiles":
            return tuple(np.percentile(pixels, PERCENTILES).tolist())
        return float(lowest), float(highest)
    if window is not None:
        level, width = window
        return level - width / 2, level + width / 2
    if declared is not None:
        return declared
    integers = pixels.dtype.kind in "iub"
    unknown = pixels.dtype.itemsize > 2 if integers else highest > 1 + 1e-5
    if unknown or lowest < -1e-5:
        raise ValueError(
            f"{name} has grey levels of type {pixels.dtype} from {lowest} to {highest}, whose "
            f"scale is unknown. Give uint8, uint16 or floats in [0, 1], or say which levels become "
            f"0 and 1: grey_window=(level, width), 'minmax' or 'percentiles'."
        )
    if pixels.dtype.kind == "b" or not integers:
        return 0.0, 1.0
    if pixels.dtype.itemsize == 2 and 255 < highest <= 4095:
        warn(
            f"{name} has 16-bit grey levels that reach {highest} only, as if 12 bits were stored "
            f"in 16: it comes out nearly black. If so, set grey_window=(2047.5, 4095) or 'minmax'."
        )
    return 0.0, float(np.iinfo(pixels.dtype).max)
