"""Cropping, resizing, flipping and blurring, which are one matrix for each axis of an image.

All four are linear and separable, so a batch of samples that are each cropped and scaled in their
own way takes one product with a matrix per axis. An accelerator multiplies all samples at once. On
a CPU, one image at a time skips the zeros of its matrices.
"""

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from .band_matrices import BandMatrix, gaussian_matrix, resize_matrix


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


def crop_and_resize(
    images: torch.Tensor, boxes: Sequence[Box], size: Sequence[int], factor: float = 1.0
) -> torch.Tensor:
    """Cut a box out of each image, flip it, and resize it linearly.

    Only what lies in the box is read, so values outside, even NaN, never get into the result.

    Args:
        images: `(batch, 1, height, width)` or `(batch, 1, depth, height, width)`, float32 or int16.
        boxes: A box for each image.
        size: Wanted size along each spatial axis.
        factor: What to multiply by as well.

    Returns:
        `(batch, 1, *size)`, float32, in memory of its own.
    """
    lengths = np.array([box.length for box in boxes])
    crops = _crop(images, boxes)
    resized = [axis for axis in range(len(size)) if (lengths[:, axis] != size[axis]).any()]
    # What shrinks most comes first, so that least is left to multiply.
    for axis in sorted(resized, key=lambda axis: size[axis] / lengths[:, axis].mean()):
        matrices = [resize_matrix(box.length[axis], size[axis]) for box in boxes]
        crops = multiply_axis(crops, matrices, axis - len(size))
    return crops if factor == 1 else crops.mul_(factor)


def blur(images: torch.Tensor, sigmas: Sequence[float]) -> torch.Tensor:
    """Blur each image with a Gaussian, the same along all its axes.

    Args:
        images: `(batch, 1, height, width)` or `(batch, 1, depth, height, width)`, float32.
        sigmas: Standard deviation for each image, in pixels or voxels.

    Returns:
        The blurred images, of the same shape, in memory of their own.
    """
    lengths = images.shape[2:]
    stacks = {
        length: _stack([gaussian_matrix(length, sigma) for sigma in sigmas], length, images.device)
        for length in set(lengths)
    }
    for axis, length in enumerate(lengths):
        images = _multiply(images, stacks[length], axis - len(lengths))
    return images


def by_height(image: torch.Tensor) -> torch.Tensor:
    """Turn (depth,) height, width into height, (depth,) width; both are the same in 2D."""
    return image.transpose(0, -2)


def multiply_axis(images: torch.Tensor, matrices: Sequence[BandMatrix], axis: int) -> torch.Tensor:
    """Multiply one axis of each image by a matrix of its own, all images at once.

    Args:
        images: `(batch, ...)`, float32.
        matrices: A matrix for each image, all with the same new length. Where one has fewer columns
            than the axis is long, the rest of the axis is left out.
        axis: The axis, counted from the end: -1 is the last.

    Returns:
        `(batch, ...)` with the new length along the axis.
    """
    return _multiply(images, _stack(matrices, images.shape[axis], images.device), axis)


def _stack(matrices: Sequence[BandMatrix], length: int, device: torch.device) -> torch.Tensor:
    """Put matrices of an axis of a length into one tensor, `(batch, new length, length)`."""
    stacked = torch.zeros(len(matrices), matrices[0].shape[0], length)
    for row, matrix in zip(stacked, matrices, strict=True):
        row[:, : matrix.shape[1]] = matrix.dense()
    return stacked.to(device, non_blocking=True)


def _multiply(images: torch.Tensor, stacked: torch.Tensor, axis: int) -> torch.Tensor:
    between = (1,) * (images.ndim - 3) if axis == -1 else (1,) * (images.ndim + axis - 1)
    stacked = stacked.view(len(stacked), *between, *stacked.shape[1:])
    if axis == -1:
        return images @ stacked.mT
    trailing = images.shape[axis + 1 :]
    return (stacked @ images.flatten(axis + 1)).unflatten(-1, trailing)


def _crop(images: torch.Tensor, boxes: Sequence[Box]) -> torch.Tensor:
    """Cut the boxes out, flip them, and put each in a corner of zeros."""
    largest = [max(lengths) for lengths in zip(*(box.length for box in boxes), strict=True)]
    corners = images.new_zeros(len(boxes), 1, *largest, dtype=torch.float32)
    for corner, image, box in zip(corners, images, boxes, strict=True):
        corner[0][tuple(slice(length) for length in box.length)] = _cut(image[0], box)
    return corners


def _cut(image: torch.Tensor, box: Box) -> torch.Tensor:
    """Cut a box out of an image without channels, and flip it."""
    crop = image[box.slices]
    axes = [axis for axis, flipped in enumerate(box.flipped) if flipped]
    return crop.flip(axes) if axes else crop


class SingleImageResampler(threading.local):
    """Crops, resizes and blurs one image at a time on a CPU.

    The image lies in memory by height, depth, width meanwhile, so that the two axes that are
    resized are the first, whose rows a sparse matrix adds up, and the last, which is multiplied
    block by block.

    Results lie in memory that is used again, as new memory takes longer to get than what follows
    takes to fill it: they last until the next image. Each thread has memory of its own.
    """

    def __init__(self) -> None:
        # What an operation reads lies in one of them, and what it writes in the other.
        self._memory = [torch.empty(0), torch.empty(0)]

    def crop_and_resize(
        self,
        image: torch.Tensor,
        box: Box,
        size: Sequence[int],
        factor: float = 1.0,
        plus: Sequence[tuple[torch.Tensor, float]] = (),
    ) -> torch.Tensor:
        """Do as the function of that name, and add something to the result.

        Args:
            image: `(height, width)` or `(depth, height, width)`, float32 or int16.
            box: Its box.
            size: Wanted size along each axis.
            factor: What to multiply by as well.
            plus: What to add: as many values as the result has, in its order, and their weight.

        Returns:
            Float32, contiguous `(height, width)` or `(height, depth, width)`.
        """
        crop = by_height(_cut(image, box))
        result = self._take(crop.shape).copy_(crop)
        height, *depth, width = crop.shape
        *wanted_depth, wanted_height, wanted_width = size
        if depth != wanted_depth:
            result = self._multiply_second(result, resize_matrix(*depth, *wanted_depth))
        if width != wanted_width:
            result = self._multiply_last(result, resize_matrix(width, wanted_width, factor))
        elif factor != 1:
            result.mul_(factor)
        if height != wanted_height:
            # The first summand costs nothing here: the product is added to it.
            result = self._add_up_first(result, resize_matrix(height, wanted_height), plus[:1])
            plus = plus[1:]
        for values, weight in plus:
            result.add_(values.view(result.shape), alpha=weight)
        return result

    def blur(self, image: torch.Tensor, sigma: float) -> torch.Tensor:
        """Do as the function of that name.

        Args:
            image: What `crop_and_resize` returned.
            sigma: Standard deviation, in pixels or voxels.

        Returns:
            The blurred image, of the same shape, contiguous.
        """
        height, *depth, width = image.shape
        matrices = {length: gaussian_matrix(length, sigma) for length in {height, *depth, width}}
        image = self._multiply_last(image, matrices[width])
        image = self._multiply_first(image, matrices[height])
        return self._multiply_second(image, matrices[depth[0]]) if depth else image

    def _take(self, shape: Sequence[int]) -> torch.Tensor:
        count = math.prod(shape)
        memory = self._memory.pop(0)
        if memory.numel() < count:
            memory = torch.empty(count)
        self._memory.append(memory)
        return memory[:count].view(shape)

    def _add_up_first(
        self,
        image: torch.Tensor,
        matrix: BandMatrix,
        plus: Sequence[tuple[torch.Tensor, float]],
    ) -> torch.Tensor:
        """Multiply the first axis by a matrix of few values in a row; add one summand or none."""
        length, *others = image.shape
        flat = image.view(length, -1)
        product = self._take((matrix.shape[0], flat.shape[1]))
        if plus:
            [(values, weight)] = plus
            summand = values.view(product.shape)
            torch.addmm(summand, matrix.sparse, flat, beta=weight, out=product)
        else:
            torch.mm(matrix.sparse, flat, out=product)
        return product.view(-1, *others)

    def _multiply_first(self, image: torch.Tensor, matrix: BandMatrix) -> torch.Tensor:
        """Multiply the first axis by a matrix."""
        num_blocks, rows, columns = matrix.blocks.shape
        length, *others = image.shape
        row = image.numel() // length
        parts = image.as_strided((num_blocks, columns, row), (matrix.step * row, row, 1))
        product = self._take((num_blocks, rows, row))
        return torch.bmm(matrix.blocks, parts, out=product).view(-1, *others)

    def _multiply_second(self, image: torch.Tensor, matrix: BandMatrix) -> torch.Tensor:
        """Multiply the second of three axes, which is short, by a matrix."""
        first, _, last = image.shape
        product = self._take((first, matrix.shape[0], last))
        return torch.bmm(matrix.dense().expand(first, -1, -1), image, out=product)

    def _multiply_last(self, image: torch.Tensor, matrix: BandMatrix) -> torch.Tensor:
        """Multiply the last axis by a matrix."""
        num_blocks, rows, columns = matrix.blocks.shape
        *others, length = image.shape
        count = image.numel() // length
        parts = image.as_strided((num_blocks, count, columns), (matrix.step, length, 1))
        product = self._take((*others, matrix.shape[0]))
        blocks = product.as_strided((num_blocks, count, rows), (rows, matrix.shape[0], 1))
        torch.bmm(parts, matrix.blocks.mT, out=blocks)
        return product
