"""Random changes of grey levels, in place, each sample of a batch with parameters of its own.

Volumes follow the definitions of batchgenerators, images those of torchvision's ColorJitter. A
parameter is a column `(batch, 1)`, on the images' device, unless said otherwise.
"""

from collections.abc import Sequence

import torch

_LEVELS = 2**16
# Keeps constant images finite. Those of batchgenerators.
_SMALLEST_RANGE = 1e-7
_SMALLEST_STD = 1e-8


class GaussianNoise:
    """Normal noise by looking up 16 random bits in the table of the normal quantiles.

    That takes less than half the time of torch's generator of normal numbers. The 65,536 levels
    reach 4.3 standard deviations and lie closer than float16 would put them.

    Args:
        device: Where noise is made.
    """

    def __init__(self, device: torch.device):
        self._generator = torch.Generator(device)
        midpoints = (torch.arange(_LEVELS, dtype=torch.float64) + 0.5) / _LEVELS
        self._quantiles = torch.special.ndtri(midpoints).float().to(device)

    def add_(self, image: torch.Tensor, std: float, seed: int) -> None:
        """Add noise to an image, in place.

        Args:
            image: Any shape, float32, contiguous.
            std: Standard deviation. What batchgenerators calls the variance is this.
            seed: Decides on the noise, with the device's kind.
        """
        self._generator.manual_seed(seed)
        words = torch.empty((image.numel() + 3) // 4, dtype=torch.int64, device=image.device)
        words.random_(-(2**63), None, generator=self._generator)
        levels = words.view(torch.int16)[: image.numel()].int().add_(_LEVELS // 2)
        image.view(-1).add_(self._quantiles.index_select(0, levels), alpha=std)


def scale_and_shift_(
    images: torch.Tensor, multiplier: Sequence[float], offset: Sequence[float]
) -> None:
    """Change the brightness: `multiplier * image + offset`, in place.

    Args:
        images: `(batch, ...)`.
        multiplier: One for each sample.
        offset: One for each sample.
    """
    flat = images.flatten(1)
    if any(value != 1 for value in multiplier):
        flat.mul_(column(multiplier, images))
    if any(value != 0 for value in offset):
        flat.add_(column(offset, images))


def stretch_contrast_(images: torch.Tensor, factor: Sequence[float]) -> None:
    """Scale the distances from the sample's mean, and clip to the sample's old range, in place.

    Args:
        images: `(batch, ...)`.
        factor: One for each sample; 1 changes nothing.
    """
    flat, factors = images.flatten(1), column(factor, images)
    low, high = _range(flat)
    mean = flat.mean(1, keepdim=True)
    flat.mul_(factors).add_(mean * (1 - factors))
    if max(factor) > 1:
        # Far faster on a CPU than clamp_ with two tensors.
        flat.clamp_min_(low).clamp_max_(high)


def apply_gamma_(images: torch.Tensor, gamma: Sequence[float]) -> None:
    """Raise the values, scaled to [0, 1] by the sample's range, to a power, in place.

    Afterwards the sample has its old mean and (population) standard deviation again, so scaling
    back to the old range can be left out: it would cancel.

    Args:
        images: `(batch, ...)`.
        gamma: One for each sample.
    """
    flat = images.flatten(1)
    low, high = _range(flat)
    mean, std = _mean_and_std(flat)
    flat.sub_(low).div_(high - low + _SMALLEST_RANGE)
    # Three times faster than pow; log(0) is -inf, whose exponential is 0 again.
    flat.log_().mul_(column(gamma, images)).exp_()
    new_mean, new_std = _mean_and_std(flat)
    flat.sub_(new_mean).mul_(std / (new_std + _SMALLEST_STD)).add_(mean)


def jitter_brightness_(images: torch.Tensor, factor: Sequence[float]) -> None:
    """Multiply, and clip to [0, 1], in place.

    Args:
        images: `(batch, ...)` in [0, 1].
        factor: One for each sample.
    """
    images.flatten(1).mul_(column(factor, images)).clamp_(0, 1)


def jitter_contrast_(images: torch.Tensor, factor: Sequence[float]) -> None:
    """Blend with the sample's mean grey level, and clip to [0, 1], in place.

    Args:
        images: `(batch, ...)` in [0, 1].
        factor: Weight of the image, for each sample; 1 keeps it.
    """
    flat, factors = images.flatten(1), column(factor, images)
    flat_mean = flat.mean(1, keepdim=True)
    flat.mul_(factors).add_(flat_mean * (1 - factors)).clamp_(0, 1)


def column(values: Sequence[float], like: torch.Tensor) -> torch.Tensor:
    """Put a number for each sample where it broadcasts over a flattened batch: `(batch, 1)`."""
    tensor = torch.tensor(values, dtype=like.dtype)[:, None]
    return tensor.to(like.device, non_blocking=True)


def _range(flat: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    # torch.aminmax along an axis takes ten times longer on a CPU than these two passes.
    return flat.amin(1, keepdim=True), flat.amax(1, keepdim=True)


def _mean_and_std(flat: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    # torch.std_mean takes 20 times longer on a CPU than these passes.
    mean = flat.mean(1, keepdim=True)
    norm = torch.linalg.vector_norm(flat - mean, dim=1, keepdim=True)
    return mean, norm / flat.shape[1] ** 0.5
