"""Two global views of each sample of a batch, made on the batch's device (UniMiSS, section 3.3).

Random numbers come from the sample's seed and the view's number alone, so a sample's views do not
depend on its batch, on workers or on processes. On a CPU, samples are handled one by one: a view
stays in the processor's cache, and its values do not depend on the batch to the last bit (with the
same number of threads). Elsewhere a batch is handled at once, and rounding may differ with it.
"""

import operator
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch

from ..hounsfield_mit import HU_SCALE
from . import intensity
from .resampling import SingleImageResampler, blur, by_height, crop_and_resize
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
_RESAMPLER = SingleImageResampler()


@torch.no_grad()
def make_image_views(
    images: torch.Tensor,
    extents: torch.Tensor,
    seeds: torch.Tensor,
    settings: ImageViewSettings | None = None,
    shared: bool = False,
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
        shared: Whether another process is to have the views without copying them, on a CPU.

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
    return _make(images, plans, settings.size, shared, _render_images, _render_image)


@torch.no_grad()
def make_volume_views(
    volumes: torch.Tensor,
    extents: torch.Tensor,
    seeds: torch.Tensor,
    settings: VolumeViewSettings | None = None,
    starts: torch.Tensor | None = None,
    shared: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Make two views of each volume.

    >>> volumes, extents = torch.rand(1, 1, 24, 172, 172), torch.tensor([[24, 172, 172]])
    >>> first, second = make_volume_views(volumes, extents, torch.tensor([3]))
    >>> first.shape
    torch.Size([1, 1, 16, 96, 96])

    Args:
        volumes: `(batch, 1, depth, height, width)`, float32, HU / 1024, or int16, HU.
        extents: `(batch, 3)`, integers: the volume is valid in `[0:extent]` of each axis, which is
            a view's size or more. Regions and crops that would be larger are as large as it is.
        seeds: `(batch,)`, integers.
        settings: The official recipe by default.
        starts: `(batch, 3)`, integers: where each volume begins, if no more of it is given than its
            views need (see `needed_region`). The extent is that of the whole all the same.
        shared: Whether another process is to have the views without copying them, on a CPU.

    Returns:
        Two views `(batch, 1, *settings.size)`, float32, HU / 1024, on the volumes' device.

    Raises:
        ValueError: If a shape or type is another, or an extent is not within the volume or is
            smaller than a view, or a part does not hold what its views need.
    """
    settings = settings or VolumeViewSettings()
    samples = _check_batch(
        "volumes", volumes, extents, seeds, smallest=settings.size, whole=starts is None
    )
    drawn = [draw_volume_views(extent, seed, settings) for extent, seed in samples]
    if starts is not None:
        _check_numbers("starts", starts, (len(samples), 3), "volumes", volumes)
        drawn = [
            [_in_part(view, start, volumes.shape[2:], index) for view in views]
            for index, (views, start) in enumerate(zip(drawn, starts.tolist(), strict=True))
        ]
    plans = [[views[view] for views in drawn] for view in range(NUM_VIEWS)]
    factor = 1.0 if volumes.is_floating_point() else 1 / HU_SCALE
    return _make(volumes, plans, settings.size, shared, _render_volumes, _render_volume, factor)


def _in_part(
    view: VolumeViewParameters, start: Sequence[int], size: Sequence[int], index: int
) -> VolumeViewParameters:
    """Place a view in a part of the volume that it was drawn for."""
    box = view.box
    moved = tuple(map(operator.sub, box.start, start))
    if any(not 0 <= s <= n - k for s, k, n in zip(moved, box.length, size, strict=True)):
        raise ValueError(
            f"The part of volume {index} begins at {tuple(start)} and is at most {tuple(size)} "
            f"voxels large, so it does not hold the view of {box.length} voxels at {box.start}. "
            f"Give the part that needed_region tells of the same extent, seed and settings."
        )
    return replace(view, box=replace(box, start=moved))


def _make(
    images: torch.Tensor,
    plans: list[list[Any]],
    size: Sequence[int],
    shared: bool,
    render: Callable[[torch.Tensor, list[Any]], torch.Tensor],
    render_one: Callable[[torch.Tensor, Any, float, torch.Tensor], None],
    factor: float = 1.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    if images.device.type != "cpu":
        return tuple(
            render(crop_and_resize(images, [plan.box for plan in of_view], size, factor), of_view)
            for of_view in plans
        )
    both = torch.empty(NUM_VIEWS, images.shape[0], 1, *size)
    views = (both.share_memory_() if shared else both).unbind()
    for index, image in enumerate(images):
        for view, of_view in zip(views, plans, strict=True):
            render_one(image[0], of_view[index], factor, view[index, 0])
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


def _render_image(
    image: torch.Tensor, plan: ImageViewParameters, factor: float, out: torch.Tensor
) -> None:
    view = _RESAMPLER.crop_and_resize(image, plan.box, out.shape, factor)
    steps = [
        (intensity.jitter_brightness_, plan.brightness),
        (intensity.jitter_contrast_, plan.contrast),
    ]
    for step, strength in reversed(steps) if plan.contrast_first else steps:
        if strength != 1:
            step(view[None], [strength])
    out.copy_(_RESAMPLER.blur(view, plan.blur_sigma) if plan.blur_sigma > 0 else view)


def _render_volumes(volumes: torch.Tensor, plans: list[VolumeViewParameters]) -> torch.Tensor:
    noise = _noise(volumes.device)
    for volume, plan in zip(volumes, plans, strict=True):
        if plan.noise_std > 0:
            noise.add_(by_height(volume[0]), plan.noise_std, plan.noise_seed)
    sigmas = [plan.blur_sigma for plan in plans]
    volumes = _apply(blur, volumes, [sigma > 0 for sigma in sigmas], sigmas)
    intensity.change_grey_levels(
        volumes,
        [plan.multiplier for plan in plans],
        [plan.offset for plan in plans],
        [plan.contrast for plan in plans],
        [plan.gamma for plan in plans],
        out=volumes,
    )
    return volumes


def _render_volume(
    volume: torch.Tensor, plan: VolumeViewParameters, factor: float, out: torch.Tensor
) -> None:
    noise = ()
    if plan.noise_std > 0:
        noise = _noise(volume.device).parts(out.numel(), plan.noise_std, plan.noise_seed)
    view = _RESAMPLER.crop_and_resize(volume, plan.box, out.shape, factor, plus=noise)
    if plan.blur_sigma > 0:
        view = _RESAMPLER.blur(view, plan.blur_sigma)
    intensity.change_grey_levels_of_one(
        view, plan.multiplier, plan.offset, plan.contrast, plan.gamma, out=by_height(out)
    )


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
    whole: bool = True,
) -> list[tuple[list[int], int]]:
    """Return the extent and seed of each sample."""
    axes = len(smallest)
    types = (torch.float32,) if axes == 2 else (torch.float32, torch.int16)
    if images.ndim != axes + 2 or images.shape[1] != 1 or images.dtype not in types:
        wanted = "height, width" if axes == 2 else "depth, height, width"
        raise ValueError(
            f"{name} have shape {tuple(images.shape)} and type {images.dtype}; they must be "
            f"(batch, 1, {wanted}) and {' or '.join(map(str, types))}."
        )
    _check_numbers("extents", extents, (len(images), axes), name, images)
    _check_numbers("seeds", seeds, (len(images),), name, images)
    samples = list(zip(extents.tolist(), seeds.tolist(), strict=True))
    window = images.shape[2:]
    for index, (extent, _) in enumerate(samples):
        if any(n > e for n, e in zip(smallest, extent, strict=True)) or (
            whole and any(e > w for e, w in zip(extent, window, strict=True))
        ):
            raise ValueError(
                f"The extent of sample {index} is {tuple(extent)}; it must be at least "
                f"{tuple(smallest)} and at most the window of {name}, {tuple(window)}. Pad what is "
                f"smaller, and count that padding in the extent."
            )
    return samples


def _check_numbers(
    name: str, numbers: torch.Tensor, shape: tuple[int, ...], of: str, images: torch.Tensor
) -> None:
    if tuple(numbers.shape) != shape or numbers.dtype not in _INTEGERS:
        raise ValueError(
            f"{name} have shape {tuple(numbers.shape)} and type {numbers.dtype}; for {of} of shape "
            f"{tuple(images.shape)} they must be integers of shape {shape}."
        )
