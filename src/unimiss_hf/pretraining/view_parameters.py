"""What is done to a sample in each of its views, drawn from the sample's seed."""

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np

from .resampling import Box
from .view_settings import ImageViewSettings, VolumeViewSettings

NUM_VIEWS = 2

# Sets views apart from what others draw from the same seed.
_PURPOSE = 1
_REGION_STREAM = NUM_VIEWS  # behind the views' own
_CROP_TRIES = 10
_STANDARD_NORMAL = NormalDist()

# What a view draws, each one uniform number in [0, 1). The order is part of every run's results: a
# new name goes to the end, so that those before it keep their numbers.
_IMAGE_DRAWS = (
    *(f"{name}_{i}" for i in range(_CROP_TRIES) for name in ("area", "aspect", "top", "left")),
    "flip",
    "jitter",
    "brightness_factor",
    "contrast_factor",
    "contrast_first",
    "blur",
    "blur_sigma",
)
_REGION_DRAWS = tuple(
    f"{name}_{axis}" for axis in range(3) for name in ("region_scale", "region_start")
)
_VOLUME_DRAWS = (
    *(f"{name}_{axis}" for axis in range(3) for name in ("scale", "start", "flip")),
    "noise",
    "noise_std",
    "noise_seed",
    "blur",
    "blur_sigma",
    "multiplier",
    "multiplier_value",
    "offset",
    "offset_value",
    "contrast",
    "contrast_factor",
    "gamma",
    "gamma_exponent",
)


@dataclass(frozen=True)
class ImageViewParameters:
    """What is done to one image; the values that change nothing are those not drawn."""

    box: Box
    brightness: float
    contrast: float
    contrast_first: bool
    blur_sigma: float


@dataclass(frozen=True)
class VolumeViewParameters:
    """What is done to one volume; the values that change nothing are those not drawn."""

    box: Box
    noise_std: float
    noise_seed: int
    blur_sigma: float
    multiplier: float
    offset: float
    contrast: float
    gamma: float


def draw_image_view(
    extent: Sequence[int], seed: int, view: int, settings: ImageViewSettings
) -> ImageViewParameters:
    """Draw a view of an image.

    Args:
        extent: Valid height and width.
        seed: Seed of the sample.
        view: Number of the view, 0 or 1.
        settings: How views are made.
    """
    draw = _draw(_IMAGE_DRAWS, seed, view)
    start, length = _resized_crop(extent, draw, settings)
    brightness, contrast = (
        _between((1 - strength, 1 + strength), draw[name])
        if draw["jitter"] < settings.jitter_probability[view]
        else 1.0
        for name, strength in (
            ("brightness_factor", settings.brightness),
            ("contrast_factor", settings.contrast),
        )
    )
    blurred = draw["blur"] < settings.blur_probability[view]
    return ImageViewParameters(
        box=Box(start, length, (False, draw["flip"] < settings.flip_probability)),
        brightness=brightness,
        contrast=contrast,
        contrast_first=draw["contrast_first"] < 0.5,
        blur_sigma=_between(settings.blur_sigma, draw["blur_sigma"]) if blurred else 0.0,
    )


def _resized_crop(
    extent: Sequence[int], draw: dict[str, float], settings: ImageViewSettings
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Place a crop of random area and aspect by torchvision's rule for RandomResizedCrop."""
    height, width = extent
    logarithms = tuple(math.log(aspect) for aspect in settings.aspect)
    for i in range(_CROP_TRIES):
        area = height * width * _between(settings.area, draw[f"area_{i}"])
        aspect = math.exp(_between(logarithms, draw[f"aspect_{i}"]))
        length = (round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect)))
        if all(0 < n <= most for n, most in zip(length, extent, strict=True)):
            top, left = draw[f"top_{i}"], draw[f"left_{i}"]
            return (_place(height, length[0], top), _place(width, length[1], left)), length
    # No try fitted: the largest crop at the centre whose aspect is in the range.
    lowest, highest = settings.aspect
    length = (
        min(height, max(round(width / lowest), 1)),
        min(width, max(round(height * highest), 1)),
    )
    return ((height - length[0]) // 2, (width - length[1]) // 2), length


def draw_volume_views(
    extent: Sequence[int], seed: int, settings: VolumeViewSettings
) -> tuple[VolumeViewParameters, ...]:
    """Draw the region of a volume, and the views in it.

    Args:
        extent: Valid depth, height and width.
        seed: Seed of the sample.
        settings: How views are made.
    """
    return _draw_volume_views(tuple(extent), seed, settings)


def needed_region(
    extent: Sequence[int], seed: int, settings: VolumeViewSettings
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Tell what part of a volume its views are made of.

    Args:
        extent: Valid depth, height and width.
        seed: Seed of the sample.
        settings: How views are made.

    Returns:
        Its start and its length along each axis.
    """
    boxes = [view.box for view in draw_volume_views(extent, seed, settings)]
    starts = tuple(map(min, *(box.start for box in boxes)))
    ends = map(max, *(map(operator.add, box.start, box.length) for box in boxes))
    return starts, tuple(map(operator.sub, ends, starts))


# Whoever cuts a sample out has drawn its views, to know what they need.
@lru_cache(maxsize=1024)
def _draw_volume_views(
    extent: tuple[int, ...], seed: int, settings: VolumeViewSettings
) -> tuple[VolumeViewParameters, ...]:
    draw = _draw(_REGION_DRAWS, seed, _REGION_STREAM)
    scales = (settings.region_depth_scale, settings.region_scale, settings.region_scale)
    start, length = [], []
    for axis, (most, size, scale) in enumerate(zip(extent, settings.size, scales, strict=True)):
        wanted = int(size * _between(scale, draw[f"region_scale_{axis}"]))
        length.append(min(max(wanted, 1), most))
        start.append(_place(most, length[axis], draw[f"region_start_{axis}"]))
    return tuple(
        _draw_volume_view(start, length, seed, view, settings) for view in range(NUM_VIEWS)
    )


def _draw_volume_view(
    region_start: Sequence[int],
    region: Sequence[int],
    seed: int,
    view: int,
    settings: VolumeViewSettings,
) -> VolumeViewParameters:
    draw = _draw(_VOLUME_DRAWS, seed, view)
    scales = (settings.crop_depth_scale, settings.crop_scale, settings.crop_scale)
    start, length = [], []
    for axis, (most, size, scale) in enumerate(zip(region, settings.size, scales, strict=True)):
        wanted = round(size * _between(scale, draw[f"scale_{axis}"]))
        length.append(min(max(wanted, 1), most))
        start.append(region_start[axis] + _place(most, length[axis], draw[f"start_{axis}"]))
    flipped = tuple(draw[f"flip_{axis}"] < settings.flip_probability for axis in range(3))

    def drawn(name: str) -> bool:
        return draw[name] < getattr(settings, f"{name}_probability")[view]

    return VolumeViewParameters(
        box=Box(tuple(start), tuple(length), flipped),
        noise_std=_between(settings.noise_std, draw["noise_std"]) if drawn("noise") else 0.0,
        noise_seed=int(draw["noise_seed"] * 2**53),
        blur_sigma=_between(settings.blur_sigma, draw["blur_sigma"]) if drawn("blur") else 0.0,
        multiplier=_between(settings.multiplier, draw["multiplier_value"])
        if drawn("multiplier")
        else 1.0,
        offset=settings.offset_std * _normal(draw["offset_value"]) if drawn("offset") else 0.0,
        contrast=_about_one(settings.contrast, draw["contrast_factor"])
        if drawn("contrast")
        else 1.0,
        gamma=_about_one(settings.gamma, draw["gamma_exponent"]) if drawn("gamma") else 1.0,
    )


def _draw(names: Sequence[str], seed: int, stream: int) -> dict[str, float]:
    """Draw all numbers of a view at once, as many whatever the settings."""
    sequence = np.random.SeedSequence(seed % 2**64, spawn_key=(_PURPOSE, stream))
    numbers = np.random.Generator(np.random.PCG64(sequence)).random(len(names))
    return dict(zip(names, numbers.tolist(), strict=True))


def _between(bounds: tuple[float, float], number: float) -> float:
    low, high = bounds
    return low + (high - low) * number


def _about_one(bounds: tuple[float, float], number: float) -> float:
    """Draw from the part of the range below one and from that above it equally often."""
    low, high = bounds
    if low >= 1 or high <= 1:
        return _between(bounds, number)
    return (
        _between((low, 1.0), 2 * number) if number < 0.5 else _between((1.0, high), 2 * number - 1)
    )


def _normal(number: float) -> float:
    # The quantile of 0 is infinite.
    return _STANDARD_NORMAL.inv_cdf(max(number, 2**-54))


def _place(most: int, length: int, number: float) -> int:
    """Place `length` in `most` positions, each start being as likely."""
    return int(number * (most - length + 1))
