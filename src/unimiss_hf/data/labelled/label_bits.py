"""Masks of structures that overlap, as one label map: bit `c` of a voxel is set where `c` is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

# An int64 has 63 bits beside its sign.
MOST_CLASSES = 63


def pack_masks(masks: Sequence[np.ndarray]) -> np.ndarray:
    """Join masks to one map, so that whatever moves label maps moves all of them together.

    Args:
        masks: one for each class, in the order of the classes' numbers, all of one shape; a voxel
            is inside where it is not 0.

    Returns:
        int64, of the masks' shape.

    Raises:
        ValueError: if there are no masks or more than 63, or their shapes differ.
    """
    if not 1 <= len(masks) <= MOST_CLASSES:
        raise ValueError(f"Got {len(masks)} masks; wanted 1 to {MOST_CLASSES}.")
    shapes = {np.shape(mask) for mask in masks}
    if len(shapes) > 1:
        raise ValueError(f"Masks of one image have one shape; got {sorted(shapes)}.")
    packed = np.zeros(shapes.pop(), dtype=np.int64)
    for number, mask in enumerate(masks):
        packed |= (np.asarray(mask) != 0).astype(np.int64) << number
    return packed


def unpack_masks(packed: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Turn a map of bits into masks.

    Args:
        packed: `(batch, [depth,] height, width)`, int64, see [`pack_masks`].
        num_classes: number of classes.

    Returns:
        `(batch, num_classes, [depth,] height, width)`, float32, 0 or 1.

    Raises:
        ValueError: if a voxel has a bit that no class has.
    """
    if packed.numel() and int(packed.max()) >= 1 << num_classes:
        raise ValueError(
            f"A map of bits holds {int(packed.max())}, but {num_classes} classes make "
            f"{(1 << num_classes) - 1} at most."
        )
    bits = torch.arange(num_classes, device=packed.device)
    bits = bits.reshape(-1, *(1,) * (packed.ndim - 1))
    return (packed[:, None] >> bits & 1).float()
