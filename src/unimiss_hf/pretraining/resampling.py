"""Cropping, resizing, flipping and blurring, which are one matrix for each axis of an image.

All four are linear and separable, so a batch of samples that are each cropped and scaled in their
own way takes one product with a matrix per axis. The matrices are banded: an output position needs
its nearest inputs only. A CPU skips the zeros by multiplying blocks of rows; an accelerator
multiplies all samples at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

# Fewer rows skip more zeros, more rows make faster products: 24 to 48 are alike on a CPU.
_ROWS_OF_A_BLOCK = 32
# Like scipy.ndimage.gaussian_filter.
_STANDARD_DEVIATIONS_KEPT = 4.0


@dataclass(frozen=True)
class Box:
    """Where a view is taken from an image, and which axes are reversed.

    Attributes:
        start: First pixel or voxel along each axis.
        length: Number of pixels or voxels along each axis.
        flipped: Whether each axis is reversed.
    """

    start: tuple[int, ...]
    length: tuple[int, ...]
    flipped: tuple[bool, ...]

    @property
    def slices(self) -> tuple[slice, ...]:
        """The box as an index of an image without channels."""
        ends = (start + length for start, length in zip(self.start, self.length, strict=True))
        return tuple(slice(start, end) for start, end in zip(self.start, ends, strict=True))


@dataclass(frozen=True)
class BandMatrix:
    """A matrix `(new length, length)` that is zero outside blocks.

    Attributes:
        shape: New length and length of the axis.
        blocks: `(first row, first column, values)`; together they cover each row once.
    """

    shape: tuple[int, int]
    blocks: tuple[tuple[int, int, torch.Tensor], ...]

    def dense(self) -> torch.Tensor:
        """Return the whole matrix, `(new length, length)`, float32."""
        matrix = torch.zeros(self.shape)
        for row, column, values in self.blocks:
            rows, columns = values.shape
            matrix[row : row + rows, column : column + columns] = values
        return matrix


@lru_cache(maxsize=512)
def resize_matrix(length: int, new_length: int, flipped: bool = False) -> BandMatrix:
    """Return the matrix of linear, antialiased resizing along an axis.

    Positions are pixel centres, and the ends of the axis stay in place. Where the axis shrinks, the
    triangle filter widens by the same factor. Pillow's and torch's antialiased bilinear resizing
    are defined so too.

    Args:
        length: Positions along the axis.
        new_length: Wanted positions.
        flipped: Whether to reverse the axis as well.
    """
    scale = length / new_length
    radius = max(scale, 1.0)
    blocks = []
    for row in range(0, new_length, _ROWS_OF_A_BLOCK):
        rows = np.arange(row, min(row + _ROWS_OF_A_BLOCK, new_length))
        centres = (rows + 0.5) * scale
        first = max(int(centres[0] - radius - 0.5), 0)
        last = min(int(centres[-1] + radius + 0.5), length - 1)
        distances = np.arange(first, last + 1) + 0.5 - centres[:, None]
        weights = np.maximum(1 - np.abs(distances) / radius, 0)
        weights /= weights.sum(1, keepdims=True)
        if flipped:
            row, weights = new_length - 1 - rows[-1], weights[::-1]
        blocks.append((int(row), first, torch.from_numpy(weights.astype(np.float32))))
    return BandMatrix((new_length, length), tuple(sorted(blocks, key=lambda block: block[0])))


def gaussian_matrix(length: int, sigma: float) -> BandMatrix:
    """Return the matrix of a Gaussian blur along an axis, which is mirrored at its ends.

    The kernel ends after four standard deviations and sums to one, like that of
    `scipy.ndimage.gaussian_filter` with its mode "reflect".

    Args:
        length: Positions along the axis.
        sigma: Standard deviation in positions; 0 does not blur.
    """
    radius = int(_STANDARD_DEVIATIONS_KEPT * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (offsets / sigma) ** 2) if radius else np.ones(1)
    kernel /= kernel.sum()
    # Near the ends, several of the kernel's weights fall on one cell.
    weights = np.bincount(
        _kernel_cells(length, radius), np.tile(kernel, length), minlength=length * length
    )
    matrix = torch.from_numpy(weights.astype(np.float32).reshape(length, length))
    blocks = []
    for row in range(0, length, _ROWS_OF_A_BLOCK):
        end = min(row + _ROWS_OF_A_BLOCK, length)
        first, last = max(row - radius, 0), min(end + radius, length)
        blocks.append((row, first, matrix[row:end, first:last]))
    return BandMatrix((length, length), tuple(blocks))


@lru_cache(maxsize=64)
def _kernel_cells(length: int, radius: int) -> np.ndarray:
    """Flat indices of the matrix's cells that a kernel falls on, row by row."""
    rows = np.arange(length)[:, None]
    # The mirrored axis repeats itself after twice its length.
    sources = (rows + np.arange(-radius, radius + 1)) % (2 * length)
    sources = np.where(sources < length, sources, 2 * length - 1 - sources)
    return (rows * length + sources).ravel()


def multiply_axis(images: torch.Tensor, matrices: Sequence[BandMatrix], axis: int) -> torch.Tensor:
    """Multiply one axis of each image by a matrix of its own.

    Args:
        images: `(batch, ...)`, float32.
        matrices: A matrix for each image, all with the same new length. Where one has fewer columns
            than the axis is long, the rest of the axis is left out.
        axis: The axis, counted from the end: -1 is the last.

    Returns:
        `(batch, ...)` with the new length along the axis.
    """
    if len(matrices) == 1:
        return _multiply_blocks(images, matrices[0], axis)
    new_length = matrices[0].shape[0]
    stacked = torch.zeros(len(matrices), new_length, images.shape[axis])
    for row, matrix in zip(stacked, matrices, strict=True):
        row[:, : matrix.shape[1]] = matrix.dense()
    stacked = stacked.to(images.device, non_blocking=True)
    between = (1,) * (images.ndim - 3) if axis == -1 else (1,) * (images.ndim + axis - 1)
    stacked = stacked.view(len(matrices), *between, new_length, -1)
    if axis == -1:
        return images @ stacked.mT
    trailing = images.shape[axis + 1 :]
    return (stacked @ images.flatten(axis + 1)).unflatten(-1, trailing)


def _multiply_blocks(images: torch.Tensor, matrix: BandMatrix, axis: int) -> torch.Tensor:
    """Multiply the axis of all images by one matrix, leaving out the zeros between its blocks.

    Plain matrix products of the axis with all others flattened need fewer copies than batched ones.
    """
    blocks = [(column, values.to(images.device)) for _, column, values in matrix.blocks]
    if axis == -1:
        flat = images.reshape(-1, images.shape[-1])
        parts = [flat.narrow(1, column, v.shape[1]) @ v.mT for column, v in blocks]
        return torch.cat(parts, 1).view(*images.shape[:-1], -1)
    moved = images.movedim(axis, 0)
    flat = moved.reshape(len(moved), -1)
    product = images.new_empty(matrix.shape[0], flat.shape[1])
    for (row, _, _), (column, v) in zip(matrix.blocks, blocks, strict=True):
        rows, columns = v.shape
        torch.mm(v, flat.narrow(0, column, columns), out=product.narrow(0, row, rows))
    return product.view(-1, *moved.shape[1:]).movedim(0, axis)


def crop_and_resize(
    images: torch.Tensor, boxes: Sequence[Box], size: Sequence[int]
) -> torch.Tensor:
    """Cut a box out of each image, flip it, and resize it linearly.

    Only what lies in the box is read, so values outside, even NaN, never get into the result.

    Args:
        images: `(batch, 1, height, width)` or `(batch, 1, depth, height, width)`, float32.
        boxes: A box for each image.
        size: Wanted size along each spatial axis.

    Returns:
        `(batch, 1, *size)`, float32, contiguous, in memory of its own.
    """
    lengths = np.array([box.length for box in boxes])
    resized = [axis for axis in range(len(size)) if (lengths[:, axis] != size[axis]).any()]
    copied = [axis for axis in range(len(size)) if axis not in resized]
    crops = _crop(images, boxes, flipped_axes=copied)
    # What shrinks most comes first, so that least is left to multiply.
    for axis in sorted(resized, key=lambda axis: size[axis] / lengths[:, axis].mean()):
        matrices = [resize_matrix(box.length[axis], size[axis], box.flipped[axis]) for box in boxes]
        crops = multiply_axis(crops, matrices, axis - len(size))
    shared = crops.untyped_storage().data_ptr() == images.untyped_storage().data_ptr()
    return crops.clone(memory_format=torch.contiguous_format) if shared else crops.contiguous()


def _crop(images: torch.Tensor, boxes: Sequence[Box], flipped_axes: Sequence[int]) -> torch.Tensor:
    """Cut the boxes out, each in a corner of zeros if there are several; flip those axes only."""
    crops = []
    for image, box in zip(images, boxes, strict=True):
        crop = image[(slice(None), *box.slices)]
        axes = [axis + 1 for axis in flipped_axes if box.flipped[axis]]
        crops.append(crop.flip(axes) if axes else crop)
    if len(crops) == 1:
        return crops[0][None]
    largest = [max(lengths) for lengths in zip(*(box.length for box in boxes), strict=True)]
    corners = images.new_zeros(len(boxes), 1, *largest)
    for corner, crop, box in zip(corners, crops, boxes, strict=True):
        corner[(slice(None), *(slice(length) for length in box.length))] = crop
    return corners


def blur(images: torch.Tensor, sigmas: Sequence[float]) -> torch.Tensor:
    """Blur each image with a Gaussian, the same along all its axes.

    Args:
        images: `(batch, 1, height, width)` or `(batch, 1, depth, height, width)`, float32.
        sigmas: Standard deviation for each image, in pixels or voxels.

    Returns:
        The blurred images, of the same shape, contiguous.
    """
    lengths = images.shape[2:]
    matrices = {
        length: [gaussian_matrix(length, sigma) for sigma in sigmas] for length in set(lengths)
    }
    for axis, length in enumerate(lengths):
        images = multiply_axis(images, matrices[length], axis - len(lengths))
    return images.contiguous()
