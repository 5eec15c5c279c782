"""Two global views of each sample of a batch, made on the batch's device (UniMiSS, section 3.3).

Random numbers come from the sample's seed and the view's number alone, so a sample's views do not
depend on its batch, on workers or on processes. On a CPU, samples are handled one by one: a view
stays in the processor's cache, and its values do not depend on the batch to the last bit (with the
same number of threads). Elsewhere a batch is handled at once, and rounding may differ with it.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch

from . import intensity
from .resampling import blur, crop_and_resize
from .view_parameters import (
    NUM_VIEWS,
    ImageViewParameters,
    VolumeViewParameters,
    draw_image_view,
    draw_volume_views,
)
from .view_settings import ImageViewSettings, VolumeViewSettings

__all__ = ["ImageViewSettings", "VolumeViewSettings", "make_image_views", "make_volume_views"]

_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


@torch.no_grad()
def make_image_views(
    images: torch.Tensor,
    extents: torch.Tensor,
    seeds: torch.Tensor,
    settings: ImageViewSettings | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Make two views of each image.

    >>> images, extents = torch.rand(2, 1, 512, 512), torch.tensor([[512, 400], [512, 512]])
    >>> first, second = make_image_views(images, extents, torch.tensor([3, 4]))
    >>> first.shape
    torch.Size([2, 1, 224, 224])

    Args:
        images: `(batch, 1, height, width)`, float32 in [0, 1].
        extents: `(batch, 2)`, integers: the image is valid in `[0:extent]` of each axis.
        seeds: `(batch,)`, integers.
        settings: The official recipe by default.

    Returns:
        Two views `(batch, 1, *settings.size)`, float32 in [0, 1], on the images' device.

    Raises:
        ValueError: If a shape or type is another, or an extent is not within the image.
    """
    settings = settings or ImageViewSettings()
    samples = _check_batch("images", images, extents, seeds, smallest=(1, 1))
    plans = [
        [draw_image_view(extent, seed, view, settings) for extent, seed in samples]
        for view in range(NUM_VIEWS)
    ]
    return _make(images, plans, settings.size, _render_images)


@torch.no_grad()
def make_volume_views(
    volumes: torch.Tensor,
    extents: torch.Tensor,
    seeds: torch.Tensor,
    settings: VolumeViewSettings | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Make two views of each volume.

    >>> volumes, extents = torch.rand(1, 1, 24, 172, 172), torch.tensor([[24, 172, 172]])
    >>> first, second = make_volume_views(volumes, extents, torch.tensor([3]))
    >>> first.shape
    torch.Size([1, 1, 16, 96, 96])

    Args:
        volumes: `(batch, 1, depth, height, width)`, float32, HU / 1024.
        extents: `(batch, 3)`, integers: the volume is valid in `[0:extent]` of each axis, which is
            a view's size or more. Regions and crops that would be larger are as large as it is.
        seeds: `(batch,)`, integers.
        settings: The official recipe by default.

    Returns:
        Two views `(batch, 1, *settings.size)`, float32, on the volumes' device.

    Raises:
        ValueError: If a shape or type is another, or an extent is not within the volume or is
            smaller than a view.
    """
    settings = settings or VolumeViewSettings()
    samples = _check_batch("volumes", volumes, extents, seeds, smallest=settings.size)
    drawn = [draw_volume_views(extent, seed, settings) for extent, seed in samples]
    plans = [[views[view] for views in drawn] for view in range(NUM_VIEWS)]
    return _make(volumes, plans, settings.size, _render_volumes)


def _make(
    images: torch.Tensor,
    plans: list[list[Any]],
    size: Sequence[int],
    render: Callable[[torch.Tensor, list[Any]], torch.Tensor],
) -> tuple[torch.Tensor, torch.Tensor]:
    at_once = 1 if images.device.type == "cpu" else max(len(images), 1)
    views = tuple(images.new_empty(len(images), 1, *size) for _ in plans)
    for start in range(0, len(images), at_once):
        chunk = slice(start, start + at_once)
        for view, plans_of_view in zip(views, plans, strict=True):
            boxes = [plan.box for plan in plans_of_view[chunk]]
            cropped = crop_and_resize(images[chunk], boxes, size)
            view[chunk] = render(cropped, plans_of_view[chunk])
    return views


def _render_images(images: torch.Tensor, plans: list[ImageViewParameters]) -> torch.Tensor:
    for contrast_first in (False, True):
        chosen = [plan.contrast_first == contrast_first for plan in plans]
        steps = [
            (intensity.jitter_brightness_, [plan.brightness for plan in plans]),
            (intensity.jitter_contrast_, [plan.contrast for plan in plans]),
        ]
        for step, factors in reversed(steps) if contrast_first else steps:
            drawn = [use and f != 1 for use, f in zip(chosen, factors, strict=True)]
            images = _apply(step, images, drawn, factors)
    sigmas = [plan.blur_sigma for plan in plans]
    return _apply(blur, images, [sigma > 0 for sigma in sigmas], sigmas)


def _render_volumes(volumes: torch.Tensor, plans: list[VolumeViewParameters]) -> torch.Tensor:
    noise = _noise(volumes.device)
    for volume, plan in zip(volumes, plans, strict=True):
        if plan.noise_std > 0:
            noise.add_(volume, plan.noise_std, plan.noise_seed)
    sigmas = [plan.blur_sigma for plan in plans]
    volumes = _apply(blur, volumes, [sigma > 0 for sigma in sigmas], sigmas)
    intensity.scale_and_shift_(
        volumes, [plan.multiplier for plan in plans], [plan.offset for plan in plans]
    )
    for step, values in (
        (intensity.stretch_contrast_, [plan.contrast for plan in plans]),
        (intensity.apply_gamma_, [plan.gamma for plan in plans]),
    ):
        volumes = _apply(step, volumes, [value != 1 for value in values], values)
    return volumes


def _apply(
    step: Callable[[torch.Tensor, Sequence[float]], torch.Tensor | None],
    images: torch.Tensor,
    drawn: Sequence[bool],
    values: Sequence[float],
) -> torch.Tensor:
    """Take a step, in place or not, for those samples that drew it."""
    rows = [row for row, is_drawn in enumerate(drawn) if is_drawn]
    if not rows:
        return images
    if len(rows) == len(images):
        result = step(images, values)
        return images if result is None else result
    index = torch.tensor(rows).to(images.device, non_blocking=True)
    chosen = images[index]
    result = step(chosen, [values[row] for row in rows])
    return images.index_copy_(0, index, chosen if result is None else result)


@lru_cache(maxsize=8)
def _noise(device: torch.device) -> intensity.GaussianNoise:
    return intensity.GaussianNoise(device)


def _check_batch(
    name: str,
    images: torch.Tensor,
    extents: torch.Tensor,
    seeds: torch.Tensor,
    smallest: Sequence[int],
) -> list[tuple[list[int], int]]:
    """Return the extent and seed of each sample."""
    axes = len(smallest)
    if images.ndim != axes + 2 or images.shape[1] != 1 or images.dtype != torch.float32:
        wanted = ("height, width" if axes == 2 else "depth, height, width").join("()")
        raise ValueError(
            f"{name} have shape {tuple(images.shape)} and type {images.dtype}; they must be "
            f"(batch, 1, {wanted[1:-1]}) and torch.float32."
        )
    for other_name, other, shape in (
        ("extents", extents, (len(images), axes)),
        ("seeds", seeds, (len(images),)),
    ):
        if tuple(other.shape) != shape or other.dtype not in _INTEGERS:
            raise ValueError(
                f"{other_name} have shape {tuple(other.shape)} and type {other.dtype}; for {name} "
                f"of shape {tuple(images.shape)} they must be integers of shape {shape}."
            )
    samples = list(zip(extents.tolist(), seeds.tolist(), strict=True))
    window = images.shape[2:]
    for index, (extent, _) in enumerate(samples):
        if any(not n <= e <= w for n, e, w in zip(smallest, extent, window, strict=True)):
            raise ValueError(
                f"The extent of sample {index} is {tuple(extent)}; it must be at least "
                f"{tuple(smallest)} and at most the window of {name}, {tuple(window)}. Pad what is "
                f"smaller, and count that padding in the extent."
            )
    return samples
