"""Arrays, tensors and `.npy` files: which of them are images, which volumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from .input_checks_mit import decoding


def is_array_file(path: str | Path) -> bool:
    """Whether a file's name says that it is numpy's."""
    return str(path).lower().endswith(".npy")


def open_array(source: Any) -> np.ndarray:
    """Open a `.npy` file, or turn a tensor into an array; values are read when they are needed.

    Raises:
        OSError: if the file is missing, truncated, not numpy's, or holds pickled objects.
    """
    if isinstance(source, torch.Tensor):
        tensor = source.detach().cpu()
        return (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    if isinstance(source, str | Path):
        with decoding(str(source), "an array that numpy saved (.npy)"):
            return np.load(source, mmap_mode="r", allow_pickle=False)
    return source


def array_dimension(array: np.ndarray | torch.Tensor, name: str) -> int:
    """2 for an image, 3 for a volume, from the shape of an array.

    Images are `(height, width)`, `(1 or 3, height, width)` and `(height, width, 1 or 3)`; volumes
    are `(depth, height, width)` with at least 4 slices, `(1, depth, height, width)` unless depth is
    1 or 3, and `(1, 1, depth, height, width)`.

    Raises:
        ValueError: if the array is empty, holds no real numbers, or has a shape that may be read in
            several ways.
    """
    shape = tuple(array.shape)
    kind = open_array(array).dtype.kind if isinstance(array, torch.Tensor) else array.dtype.kind
    if isinstance(array, np.ma.MaskedArray):
        raise ValueError(f"{name} has a mask, which would be lost. Pass array.filled(value).")
    if kind not in "iufb":
        raise ValueError(f"{name} has values of type {array.dtype}, not real numbers.")
    if 0 in shape:
        raise ValueError(f"{name} is empty: its shape is {shape}.")
    first, last = shape[:1], shape[-1:]
    channels_first, channels_last = first in ((1,), (3,)), last in ((1,), (3,))
    if len(shape) == 2 or (len(shape) == 3 and channels_first != channels_last):
        return 2
    # A last axis of 2 or 4 may be grey or colour with transparency.
    volume = first >= (4,) and last > (4,)
    # (1, 3, height, width) is most often a batch of one colour image.
    single = len(shape) == 4 and first == (1,) and shape[1] not in (1, 3)
    if (len(shape) == 3 and volume) or single or (len(shape) == 5 and shape[:2] == (1, 1)):
        return 3
    raise ValueError(
        f"{name}: an array of shape {shape} can be read in several ways. Pass a volume as "
        f"(1, 1, depth, height, width), an image as (height, width), and a batch as a list."
    )


def image_of(array: np.ndarray) -> np.ndarray:
    """`(channels, height, width)` of an array that is an image."""
    image = array.reshape((-1, *array.shape)[-3:])
    return np.moveaxis(image, -1, 0) if image.shape[0] not in (1, 3) else image


def volume_of(array: np.ndarray) -> np.ndarray:
    """A copy `(depth, height, width)`, float32, of an array that is a volume."""
    return np.array(array.reshape(array.shape[-3:]), dtype=np.float32, order="C")
