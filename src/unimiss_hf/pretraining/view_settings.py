"""Settings of 2D and 3D views. The defaults are the official recipe (UniMiSS, section 4.1)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

_Range = tuple[float, float]
_OfViews = tuple[float, float]


def _setting(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class ImageViewSettings:
    """How 2D views are made. The defaults are the official recipe for radiographs.

    In this order: random resized crop, flip, brightness and contrast (in random order), blur.
    Probabilities with two values are those of the two views.

    Raises:
        ValueError: If a setting is out of range; it is named.
    """

    size: tuple[int, int] = _setting((224, 224), "height, width of a view in pixels")
    area: _Range = _setting((0.14, 1.0), "range of a crop's share of the valid image's area")
    aspect: _Range = _setting((3 / 4, 4 / 3), "range of a crop's width divided by its height")
    flip_probability: float = _setting(0.5, "probability of flipping left and right")
    jitter_probability: _OfViews = _setting((0.8, 0.8), "probability of brightness and contrast")
    brightness: float = _setting(0.4, "brightness factors are in 1 - this to 1 + this")
    contrast: float = _setting(0.4, "contrast factors are in 1 - this to 1 + this")
    blur_probability: _OfViews = _setting((0.5, 1.0), "probability of Gaussian blur")
    blur_sigma: _Range = _setting((0.1, 2.0), "range of its standard deviation in pixels")

    def __post_init__(self):
        _require_size(self, 2)
        _require_range(self, "area", above=0, most=1)
        _require_range(self, "aspect", above=0)
        _require_probability(self, "flip_probability")
        _require_probabilities(self, "jitter_probability", "blur_probability")
        for name in ("brightness", "contrast"):
            if not _is_number(getattr(self, name)) or not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be in [0, 1].")
        _require_range(self, "blur_sigma", least=0)


@dataclass(frozen=True)
class VolumeViewSettings:
    """How 3D views are made. The defaults are the official recipe for CT.

    Both views of a sample are cropped at random from one region of it, so that they overlap. Then
    come, in this order: flips, Gaussian noise, blur, brightness (multiplied, then added), contrast
    about the view's mean within its range, and gamma that keeps mean and standard deviation. The
    definitions are those of batchgenerators. Grey values are HU / 1024. Probabilities with two
    values are those of the two views; scales are relative to `size`.

    What batchgenerators calls the variance of the noise, it uses as the standard deviation; so the
    official recipe's (0, 0.1) is `noise_std`, up to 102 HU.

    Raises:
        ValueError: If a setting is out of range; it is named.
    """

    size: tuple[int, int, int] = _setting((16, 96, 96), "depth, height, width of a view in voxels")
    region_scale: _Range = _setting((1.4, 1.8), "range of the region's height and width")
    region_depth_scale: _Range = _setting((1.5, 1.5), "range of the region's depth")
    crop_scale: _Range = _setting((0.8, 1.2), "range of a crop's height and width")
    crop_depth_scale: _Range = _setting((1.0, 1.0), "range of a crop's depth")
    flip_probability: float = _setting(0.8, "probability of flipping, for each axis")
    noise_probability: _OfViews = _setting((1.0, 1.0), "probability of Gaussian noise")
    noise_std: _Range = _setting((0.0, 0.1), "range of its standard deviation, HU / 1024")
    blur_probability: _OfViews = _setting((0.64, 0.4), "probability of Gaussian blur")
    blur_sigma: _Range = _setting((0.1, 2.0), "range of its standard deviation in voxels")
    multiplier_probability: _OfViews = _setting((0.8, 1.0), "probability of a multiplication")
    multiplier: _Range = _setting((0.75, 1.25), "range of the multiplier")
    offset_probability: _OfViews = _setting((0.64, 0.4), "probability of an addition")
    offset_std: float = _setting(0.4, "standard deviation of what is added, HU / 1024")
    contrast_probability: _OfViews = _setting((0.8, 1.0), "probability of a change of contrast")
    contrast: _Range = _setting((0.75, 1.25), "range of its factor; below 1 in half of the cases")
    gamma_probability: _OfViews = _setting((0.8, 1.0), "probability of a gamma transform")
    gamma: _Range = _setting((0.7, 1.5), "range of its exponent; below 1 in half of the cases")

    def __post_init__(self):
        _require_size(self, 3)
        for name in ("region_scale", "region_depth_scale", "crop_scale", "crop_depth_scale"):
            _require_range(self, name, above=0)
        _require_probability(self, "flip_probability")
        _require_probabilities(
            self,
            "noise_probability",
            "blur_probability",
            "multiplier_probability",
            "offset_probability",
            "contrast_probability",
            "gamma_probability",
        )
        for name in ("noise_std", "blur_sigma", "multiplier", "contrast"):
            _require_range(self, name, least=0)
        _require_range(self, "gamma", above=0)
        if not _is_number(self.offset_std) or not 0 <= self.offset_std < math.inf:
            raise ValueError(f"offset_std is {self.offset_std!r}; it must be a number from 0.")


def _require_size(settings: Any, axes: int) -> None:
    size = _as_tuple(settings, "size")
    whole = all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in size)
    if len(size) != axes or not whole:
        raise ValueError(f"size is {size!r}; it must be {axes} positive whole numbers.")


def _require_range(
    settings: Any,
    name: str,
    *,
    above: float = -math.inf,
    least: float = -math.inf,
    most: float = math.inf,
) -> None:
    """Require two numbers in order, above or from a bound, up to another, and finite."""
    values = _as_tuple(settings, name)
    ordered = len(values) == 2 and all(map(_is_number, values)) and values[0] <= values[1]
    if (
        not ordered
        or not above < values[0] >= least
        or not values[1] <= most
        or values[1] == math.inf
    ):
        bounds = f"above {above}" if above > -math.inf else f"from {least}"
        limit = f" up to {most}" if most < math.inf else ""
        raise ValueError(
            f"{name} is {values!r}; it must be two numbers, the smaller first, {bounds}{limit}."
        )


def _require_probability(settings: Any, name: str) -> None:
    value = getattr(settings, name)
    if not _is_number(value) or not 0 <= value <= 1:
        raise ValueError(f"{name} is {value!r}; it must be a number from 0 to 1.")


def _require_probabilities(settings: Any, *names: str) -> None:
    for name in names:
        values: Sequence[Any] = _as_tuple(settings, name)
        if len(values) != 2 or not all(_is_number(v) and 0 <= v <= 1 for v in values):
            raise ValueError(
                f"{name} is {values!r}; it must be two numbers from 0 to 1, one for each view."
            )


def _as_tuple(settings: Any, name: str) -> tuple:
    """Take a list, as YAML has it, for a tuple."""
    values = getattr(settings, name)
    if not isinstance(values, list | tuple):
        raise ValueError(f"{name} is {values!r}; it must be a sequence of numbers.")
    object.__setattr__(settings, name, tuple(values))
    return tuple(values)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
