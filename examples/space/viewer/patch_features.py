"""Features of an image's patches, and their principal components as colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from .images import Source

# Stages of the encoder whose maps are joined: finer ones show edges, coarser ones cannot be seen.
_STAGES = (2, 3)
# Of a slab in plane, in voxels: that of most bodies at 1 mm, and a multiple of all strides.
_LONGEST_WINDOW = 384
_PERCENTILES = (2.0, 98.0)


@dataclass(frozen=True)
class PatchFeatures:
    """Features on a grid of patches that covers an image.

    Attributes:
        vectors: `(depth, height, width, channels)`, float16; depth is 1 in 2D.
        patches: How many patches are as long as the image along each axis; the grid is that,
            rounded up.
    """

    vectors: np.ndarray
    patches: tuple[float, float, float]

    @property
    def grid(self) -> tuple[int, int, int]:
        """The number of patches along each axis."""
        depth, height, width, _ = self.vectors.shape
        return depth, height, width

    def patch_of(self, voxel: Sequence[int], shape: Sequence[int]) -> tuple[int, int, int]:
        """The patch that a voxel of an image of a shape lies in."""
        depth, height, width = (
            min(int((at + 0.5) / length * count), most - 1)
            for at, length, count, most in zip(voxel, shape, self.patches, self.grid, strict=True)
        )
        return depth, height, width

    def edges(self, patch: Sequence[int], shape: Sequence[int]) -> np.ndarray:
        """Where a patch begins and ends along each axis, in voxels of an image: `(3, 2)`."""
        sides = zip(patch, shape, self.patches, strict=True)
        return np.array(
            [
                (at * length / count, min((at + 1) * length / count, length))
                for at, length, count in sides
            ]
        )


def extract_patches(extract: Any, source: Source) -> PatchFeatures:
    """Extract the features of all patches of an image or volume.

    The maps of the encoder's second and third stage are joined on the grid of the second. A volume
    goes through in slabs of the encoder's own depth that overlap by half. They hold the whole plane
    where they can: the encoder normalises what it sees together, so that windows of air and of bone
    would not be comparable. Ends are filled up with the volume's own minimum, which is air.

    Args:
        extract: The pipeline `medical-feature-extraction`.
        source: What its processor takes.

    Raises:
        OSError, ValueError, TypeError, ImportError: As the processor does.
    """
    processor, model = extract.image_processor, extract.model
    batch = processor(
        source if isinstance(source, str) else [source], return_tensors="pt", volume_size=None
    )
    pixels = batch["pixel_values"]
    size = tuple(pixels.shape[2:])
    native = model.config.image_size if len(size) == 2 else model.config.volume_size
    strides = _strides(model, native)
    lengths = [_whole(n, stride) for n, stride in zip(size, strides["coarsest"], strict=True)]
    missing = [(0, length - n) for n, length in zip(size, lengths, strict=True)]
    filled = functional.pad(
        pixels, [side for sides in reversed(missing) for side in sides], value=float(pixels.min())
    )
    with torch.no_grad():
        if len(size) == 2:
            joined = _joined_maps(model, filled)
        else:
            from monai.inferers import sliding_window_inference

            depth = _whole(native[0], strides["coarsest"][0])
            window = (depth, _LONGEST_WINDOW, _LONGEST_WINDOW)
            joined = sliding_window_inference(
                filled,
                [min(n, length) for n, length in zip(window, lengths, strict=True)],
                sw_batch_size=1,
                predictor=lambda voxels: _joined_maps(model, voxels),
                overlap=(0.5, 0.25, 0.25),
                mode="gaussian",
                device="cpu",
            )
    finest = strides["finest"]
    grid = [math.ceil(n / stride) for n, stride in zip(size, finest, strict=True)]
    vectors = joined[(0, slice(None), *(slice(n) for n in grid))].movedim(0, -1)
    patches = [n / stride for n, stride in zip(size, finest, strict=True)]
    if len(size) == 2:
        vectors, patches = vectors[None], [1.0, *patches]
    return PatchFeatures(vectors.to(torch.float16).numpy(), tuple(patches))


def _joined_maps(model: Any, pixels: torch.Tensor) -> torch.Tensor:
    """`(batch, channels, *grid)` of both stages, on the finer one's grid, on the CPU."""
    states = model(pixels.to(model.device, model.dtype), output_hidden_states=True).hidden_states
    # The stem comes first.
    maps = [states[stage].float().cpu() for stage in _STAGES]
    mode = "trilinear" if pixels.ndim == 5 else "bilinear"
    grid = tuple(maps[0].shape[2:])
    return torch.cat([functional.interpolate(each, grid, mode=mode) for each in maps], dim=1)


def _strides(model: Any, native: Sequence[int]) -> dict[str, list[int]]:
    """How many voxels a patch of the map that is used, and of the last one, stands for."""
    with torch.no_grad():
        states = model(
            torch.zeros(1, 1, *native, device=model.device, dtype=model.dtype),
            output_hidden_states=True,
        ).hidden_states
    return {
        name: [
            2 ** round(math.log2(n / length))
            for n, length in zip(native, states[stage].shape[2:], strict=True)
        ]
        for name, stage in (("finest", _STAGES[0]), ("coarsest", -1))
    }


def _whole(length: int, step: int) -> int:
    return math.ceil(length / step) * step


def principal_colours(features: PatchFeatures) -> np.ndarray:
    """The first three principal components of all of an image's patches, as red, green and blue.

    They are found over the whole image or volume, so a colour means the same in all its slices.
    Each channel is standardised first. Of each component the 2nd percentile is 0 and the 98th 1;
    each one's largest loading is positive, so the answer is always the same.

    Returns:
        `(depth, height, width, 3)`, float32 in [0, 1].
    """
    vectors = features.vectors.reshape(-1, features.vectors.shape[-1]).astype(np.float32)
    vectors -= vectors.mean(axis=0)
    vectors /= np.maximum(vectors.std(axis=0), 1e-6)
    _, directions = np.linalg.eigh((vectors.T @ vectors).astype(np.float64) / len(vectors))
    directions = directions[:, ::-1][:, :3].astype(np.float32)
    largest = np.abs(directions).argmax(axis=0)
    directions *= np.sign(directions[largest, range(directions.shape[1])])
    components = vectors @ directions
    low, high = np.percentile(components, _PERCENTILES, axis=0)
    colours = (components - low) / np.maximum(high - low, 1e-6)
    return colours.clip(0, 1).astype(np.float32).reshape(*features.grid, -1)
