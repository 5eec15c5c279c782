"""Augmentation of batches, on the device of training: MONAI computes."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.networks.layers import AffineTransform
from monai.transforms import AdjustContrast, GaussianSmooth
from monai.transforms.utils import create_rotate, create_scale

from ..input_checks_mit import did_you_mean, near_names


@dataclass(frozen=True)
class AugmentationSettings:
    """How samples are varied. Each kind is drawn by itself for each sample.

    Attributes:
        rotation: largest angle in degrees: of a volume around the depth axis, of an image.
        tilt: largest angle in degrees of a volume around the other two axes, as if voxels were
            cubes: leave it at 0 for slices that are much thicker.
        scale: smallest and largest factor of size; above 1, what is seen becomes larger.
        spatial_probability: share of samples that are turned and scaled.
        flip_axes: axes, 0 for the first, that are flipped in half of all samples. None by default:
            left and right differ in a body.
        noise: largest standard deviation of Gaussian noise, in the image's own scale.
        blur: largest sigma of Gaussian blur, in voxels.
        brightness: largest factor's distance from 1.
        contrast: the same, around the sample's mean.
        gamma: smallest and largest exponent, of the sample's range.
        intensity_probability: share of samples that each of the five is done to.

    Raises:
        ValueError: if a value cannot be.
    """

    rotation: float = 15.0
    tilt: float = 0.0
    scale: tuple[float, float] = (0.85, 1.2)
    spatial_probability: float = 0.5
    flip_axes: tuple[int, ...] = ()
    noise: float = 0.05
    blur: float = 1.0
    brightness: float = 0.1
    contrast: float = 0.25
    gamma: tuple[float, float] = (0.8, 1.25)
    intensity_probability: float = 0.2

    def __post_init__(self):
        for name in ("spatial_probability", "intensity_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must lie in [0, 1].")
        for name in ("scale", "gamma"):
            value = getattr(self, name)
            if len(value) != 2 or not 0 < value[0] <= value[1]:
                raise ValueError(f"{name} is {value}; wanted two positive numbers, rising.")
        for name in ("rotation", "tilt", "noise", "blur", "brightness", "contrast"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 0 or more.")

    @classmethod
    def of(cls, values: dict[str, Any] | None) -> AugmentationSettings:
        """Make settings from a recipe's mapping.

        Raises:
            ValueError: if there is no setting of a name, or a value cannot be.
        """
        known = [entry.name for entry in dataclasses.fields(cls)]
        for name in values or {}:
            if name not in known:
                raise ValueError(
                    f"augmentation has no setting {name!r}; it has {', '.join(known)}."
                    f"{did_you_mean(near_names(name, known))}"
                )
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in (values or {}).items()})


class Augmentation:
    """Varies a batch of images and their label maps alike.

    Every sample's variation depends on its seed alone, and not on the batch that it is in.

    Args:
        settings: How.
        num_axes: 2 for images, 3 for volumes.

    Raises:
        ValueError: If an axis that is to be flipped is not there.
    """

    def __init__(self, settings: AugmentationSettings, num_axes: int):
        if any(not 0 <= axis < num_axes for axis in settings.flip_axes):
            raise ValueError(
                f"flip_axes is {list(settings.flip_axes)}; a {num_axes}D sample has the axes "
                f"{list(range(num_axes))}."
            )
        self.settings = settings
        self.num_axes = num_axes

    def __call__(
        self, images: torch.Tensor, maps: torch.Tensor | None, seeds: list[int]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Vary a batch.

        Args:
            images: `(batch, channels, [depth,] height, width)`, float32.
            maps: `(batch, classes or 1, [depth,] height, width)`, float32, or `None`.
            seeds: One for each sample.

        Returns:
            New images and maps; maps take the nearest voxel's value.
        """
        randoms = [np.random.default_rng(seed) for seed in seeds]
        matrices = [self._matrix(random) for random in randoms]
        images, maps = self._transform(images, maps, matrices)
        return torch.stack(
            [self._intensity(image, r) for image, r in zip(images, randoms, strict=True)]
        ), maps

    # ------------------------------------------------------------------------------- space

    def _matrix(self, random: np.random.Generator) -> np.ndarray:
        """Draw the affine matrix of a sample, `(axes + 1, axes + 1)`; the identity for most."""
        settings, axes = self.settings, self.num_axes
        matrix = np.eye(axes + 1)
        for axis in settings.flip_axes:
            if random.random() < 0.5:
                matrix[axis, axis] = -1
        angle = math.radians(random.uniform(-settings.rotation, settings.rotation))
        tilts = np.radians(random.uniform(-settings.tilt, settings.tilt, 2))
        factor = math.exp(random.uniform(*np.log(settings.scale)))
        if random.random() < settings.spatial_probability:
            # the first angle turns height and width, in 2D and 3D alike
            angles = angle if axes == 2 else (angle, *tilts)
            # the matrix leads from the new sample to the old one
            scaling = create_scale(axes, [1 / factor] * axes)
            matrix = create_rotate(axes, angles) @ scaling @ matrix
        return matrix

    def _transform(
        self, images: torch.Tensor, maps: torch.Tensor | None, matrices: list[np.ndarray]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        moved = [i for i, m in enumerate(matrices) if not np.array_equal(m, np.eye(len(m)))]
        if not moved:
            return images, maps
        size = images.shape[2:]
        # Turned in voxels around the centre; MONAI's matrices go from -1 to 1 along each axis.
        lengths = np.array([*(n - 1 for n in size), 1.0]).clip(min=1)
        theta = np.stack([np.diag(1 / lengths) @ matrices[i] @ np.diag(lengths) for i in moved])
        theta = torch.from_numpy(theta).to(images)
        images = images.clone()
        images[moved] = _resample(images[moved], theta, "bilinear")
        if maps is not None:
            maps = maps.clone()
            maps[moved] = _resample(maps[moved], theta, "nearest")
        return images, maps

    # ------------------------------------------------------------------------------- intensity

    def _intensity(self, image: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
        """Vary the grey levels of `(channels, ...)`."""
        settings = self.settings
        # All are drawn, whether or not they are used: none hangs on another's strength.
        used = random.random(5) < settings.intensity_probability
        sigma, deviation = random.uniform(0.5, 1) * settings.blur, random.uniform() * settings.noise
        brightness, contrast = 1 + random.uniform(-1, 1, 2) * (
            settings.brightness,
            settings.contrast,
        )
        gamma = math.exp(random.uniform(*np.log(settings.gamma)))
        noise_seed = int(random.integers(2**31))
        if used[0] and sigma > 0:
            image = _plain(GaussianSmooth(sigma)(image))
        if used[1]:
            image = image * brightness
        if used[2]:
            mean = image.mean()
            image = (image - mean) * contrast + mean
        if used[3]:
            image = _plain(AdjustContrast(gamma)(image))
        if used[4]:
            # From the CPU's generator, so that every device draws the same.
            generator = torch.Generator().manual_seed(noise_seed)
            noise = torch.randn(image.shape, generator=generator)
            image = image + deviation * noise.to(image)
        return image


def _plain(image: torch.Tensor) -> torch.Tensor:
    """Take off what MONAI notes on a tensor, which costs at each operation."""
    return image.as_tensor() if isinstance(image, MetaTensor) else image


def _resample(images: torch.Tensor, theta: torch.Tensor, mode: str) -> torch.Tensor:
    transform = AffineTransform(
        normalized=True, mode=mode, padding_mode="border", align_corners=True, reverse_indexing=True
    )
    return transform(images, theta)
