"""Random changes of grey levels, each sample of a batch with parameters of its own.

Volumes follow the definitions of batchgenerators, images those of torchvision's ColorJitter.
"""

import hashlib
import math
from collections.abc import Sequence
from typing import TypeVar

import torch

# Where a noise may begin in a field of it.
_BITS_OF_A_PLACE = 21
_PLACES = 2**_BITS_OF_A_PLACE
# Keeps constant images finite. Those of batchgenerators.
_SMALLEST_RANGE = 1e-7
_SMALLEST_STD = 1e-8

_Numbers = TypeVar("_Numbers", float, torch.Tensor)


class GaussianNoise:
    """Normal noise that is put together from two fixed fields of it.

    A seed chooses a part of each field, and the weights of their sum. So each noise is normal and
    white, as the fields are, and the same on every device, and it takes two sums, where drawing
    normal numbers would take a third of the time of a view. The price is that the noises of two
    seeds are not quite independent: if their parts of a field overlap, as those of one pair in four
    do, they are correlated at that distance from one another.

    Args:
        device: Where noise is made.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self._length = 0
        self._fields: tuple[torch.Tensor, ...] = ()

    def add_(self, image: torch.Tensor, std: float, seed: int) -> None:
        """Add noise to an image, in place.

        Args:
            image: Any shape, float32. The noise is laid out in the order of its axes.
            std: Standard deviation. What batchgenerators calls the variance is this.
            seed: Decides on the noise, from 0.
        """
        for part, weight in self.parts(image.numel(), std, seed):
            image.add_(part.view(image.shape), alpha=weight)

    def parts(self, count: int, std: float, seed: int) -> list[tuple[torch.Tensor, float]]:
        """Return two parts of the fields, `(count,)`, and their weights: noise is their sum."""
        bits = _mix(seed)
        angle = math.tau * (bits >> 2 * _BITS_OF_A_PLACE) / 2 ** (64 - 2 * _BITS_OF_A_PLACE)
        first, second = bits % _PLACES, (bits >> _BITS_OF_A_PLACE) % _PLACES
        fields = self._of_length(_PLACES + count)
        return [
            (fields[0][first : first + count], std * math.cos(angle)),
            (fields[1][second : second + count], std * math.sin(angle)),
        ]

    def _of_length(self, length: int) -> tuple[torch.Tensor, ...]:
        """The fields, at least so long. Longer ones begin with the same numbers."""
        if self._length < length:
            # Torch draws normal numbers by sixteens, but for a rest.
            self._length = length + -length % 16
            self._fields = tuple(
                torch.randn(self._length, generator=torch.Generator().manual_seed(seed)).to(
                    self.device
                )
                for seed in (1, 2)
            )
        return self._fields


def _mix(seed: int) -> int:
    """64 bits that differ throughout for neighbouring seeds."""
    digest = hashlib.blake2b(seed.to_bytes(8, "little"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def change_grey_levels(
    images: torch.Tensor,
    multiplier: Sequence[float],
    offset: Sequence[float],
    contrast: Sequence[float],
    gamma: Sequence[float],
    out: torch.Tensor,
) -> None:
    """Change brightness, contrast and gamma, in this order.

    * Brightness: `multiplier * image + offset`.
    * Contrast: distances from the sample's mean are scaled, and clipped to the sample's old range.
    * Gamma: the values, scaled to [0, 1] by the sample's range, are raised to a power; then the
      sample gets its old mean and (population) standard deviation again, so scaling back to the
      old range can be left out: it would cancel.

    All but the power is linear up to the clip, so range and mean after each step follow from those
    of the images, and the steps between two passes over the images are one.

    Args:
        images: `(batch, ...)`, which are overwritten.
        multiplier: One for each sample, from 0; 1 changes nothing.
        offset: One for each sample; 0 changes nothing.
        contrast: One for each sample, from 0; 1 changes nothing.
        gamma: One for each sample, above 0; 1 changes nothing.
        out: Where the result goes, of the shape of the images; may be the images.
    """
    axes = tuple(range(1, images.ndim))
    scale, shift, low, high = _linear_part(
        images.amin(axes, keepdim=True),
        images.amax(axes, keepdim=True),
        images.mean(axes, keepdim=True),
        *(column(values, images) for values in (multiplier, offset, contrast)),
        column([min(factor, 1.0) for factor in contrast], images),
    )
    if all(exponent == 1 for exponent in gamma):
        torch.clamp(torch.addcmul(shift, images, scale), low, high, out=out)
        return
    length = high - low + _SMALLEST_RANGE
    images = torch.addcmul((shift - low) / length, images, scale / length)
    # Rounding alone could make a value negative, which has no power.
    images.clamp_(torch.zeros_like(low), (high - low) / length)
    std, mean = torch.std_mean(images, axes, correction=0, keepdim=True)
    images.log2_().mul_(column(gamma, images)).exp2_()
    new_std, new_mean = torch.std_mean(images, axes, correction=0, keepdim=True)
    ratio = length * std / (new_std + _SMALLEST_STD)
    torch.addcmul(low + length * mean - ratio * new_mean, images, ratio, out=out)


def change_grey_levels_of_one(
    image: torch.Tensor,
    multiplier: float,
    offset: float,
    contrast: float,
    gamma: float,
    out: torch.Tensor,
) -> None:
    """Do as `change_grey_levels` for one image on a CPU.

    Args:
        image: Any shape, contiguous, which is overwritten.
        multiplier: From 0; 1 changes nothing.
        offset: 0 changes nothing.
        contrast: From 0; 1 changes nothing.
        gamma: Above 0; 1 changes nothing.
        out: Where the result goes, of the shape of the image; may be the image.
    """
    if multiplier == contrast == gamma == 1 and offset == 0:
        out.copy_(image)
        return
    flat = image.view(-1)
    low, high = flat.aminmax()
    scale, shift, low, high = _linear_part(
        low.item(),
        high.item(),
        flat.sum().item() / flat.numel(),
        multiplier,
        offset,
        contrast,
        min(contrast, 1.0),
    )
    if gamma == 1:
        _scale_and_shift(image, scale, shift, out)
        if contrast > 1:
            out.clamp_(low, high)
        return
    length = high - low + _SMALLEST_RANGE
    _scale_and_shift(flat, scale / length, (shift - low) / length, flat)
    flat.clamp_(0, (high - low) / length)
    mean, std = _mean_and_std(flat)
    # Three times faster than pow; log2(0) is -inf, whose power of 2 is 0 again.
    flat.log2_().mul_(gamma).exp2_()
    new_mean, new_std = _mean_and_std(flat)
    ratio = length * std / (new_std + _SMALLEST_STD)
    _scale_and_shift(image, ratio, low + length * mean - ratio * new_mean, out)


def jitter_brightness_(images: torch.Tensor, factor: Sequence[float]) -> None:
    """Multiply, and clip to [0, 1], in place.

    Args:
        images: `(batch, ...)` in [0, 1].
        factor: One for each sample.
    """
    images.mul_(column(factor, images)).clamp_(0, 1)


def jitter_contrast_(images: torch.Tensor, factor: Sequence[float]) -> None:
    """Blend with the sample's mean grey level, and clip to [0, 1], in place.

    Args:
        images: `(batch, ...)` in [0, 1].
        factor: Weight of the image, for each sample; 1 keeps it.
    """
    factors = column(factor, images)
    mean = images.mean(tuple(range(1, images.ndim)), keepdim=True)
    images.mul_(factors).add_(mean * (1 - factors)).clamp_(0, 1)


def column(values: Sequence[float], images: torch.Tensor) -> torch.Tensor:
    """Put a number for each sample where it broadcasts over its image: `(batch, 1, ...)`."""
    tensor = torch.tensor(values, dtype=torch.float32).view(-1, *(1,) * (images.ndim - 1))
    return tensor.to(images.device, non_blocking=True)


def _linear_part(
    low: _Numbers,
    high: _Numbers,
    mean: _Numbers,
    multiplier: _Numbers,
    offset: _Numbers,
    contrast: _Numbers,
    narrowing: _Numbers,
) -> tuple[_Numbers, _Numbers, _Numbers, _Numbers]:
    """Return by what brightness and contrast scale, then shift, and the range they leave.

    Where contrast grows, the clip leaves the old range: the narrowing is 1. Otherwise it is the
    contrast, and there is nothing to clip.
    """
    low, high, mean = (multiplier * value + offset for value in (low, high, mean))
    shift = contrast * offset + (1 - contrast) * mean
    low, high = (mean + narrowing * (value - mean) for value in (low, high))
    return contrast * multiplier, shift, low, high


def _scale_and_shift(image: torch.Tensor, scale: float, shift: float, out: torch.Tensor) -> None:
    # One pass: a sum with a factor.
    torch.add(torch.scalar_tensor(shift), image, alpha=scale, out=out)


def _mean_and_std(flat: torch.Tensor) -> tuple[float, float]:
    # torch.std_mean takes 20 times longer on a CPU than these passes.
    mean = flat.sum().item() / flat.numel()
    square = torch.dot(flat, flat).item() / flat.numel()
    return mean, math.sqrt(max(square - mean**2, 0))
