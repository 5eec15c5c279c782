"""The matrices of resizing and of blurring an axis, which are zero but for a band."""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
import torch

# Short blocks skip more zeros, long ones make faster products. Best on a CPU for narrow bands and
# for wide ones.
_ROWS_TO_RESIZE = 16
_ROWS_TO_BLUR = 32
# Like scipy.ndimage.gaussian_filter.
_STANDARD_DEVIATIONS_KEPT = 4.0


class Layout(NamedTuple):
    """Blocks of rows of a band matrix, each of which is zero outside some of its columns.

    Attributes:
        num_blocks: Number of blocks.
        rows: Number of rows of a block.
        columns: Number of columns of a block that may hold something.
        step: A block's columns begin so many after those of the block before.
    """

    num_blocks: int
    rows: int
    columns: int
    step: int


@dataclass(frozen=True)
class BandMatrix:
    """A matrix that is zero but for a band.

    Attributes:
        shape: New length and length of the axis that it is for.
        blocks: What blocks of its rows may hold, `(num_blocks, rows, columns)`, float32.
        step: A block's columns begin so many after those of the block before.
    """

    shape: tuple[int, int]
    blocks: torch.Tensor
    step: int

    def dense(self) -> torch.Tensor:
        """Return the whole matrix, `(new length, length)`."""
        _, rows, columns = self.blocks.shape
        if self.blocks.shape == (1, *self.shape):
            return self.blocks[0]
        matrix = torch.zeros(self.shape)
        for number, block in enumerate(self.blocks):
            row, column = number * rows, number * self.step
            matrix[row : row + rows, column : column + columns] = block
        return matrix

    @cached_property
    def sparse(self) -> torch.Tensor:
        """The whole matrix as a sparse tensor."""
        return self.dense().to_sparse_coo()


@lru_cache(maxsize=1024)
def resize_matrix(length: int, new_length: int, factor: float = 1.0) -> BandMatrix:
    """Return the matrix of linear, antialiased resizing along an axis.

    Positions are pixel centres, and the ends of the axis stay in place. Where the axis shrinks, the
    triangle filter widens by the same factor. Pillow's and torch's antialiased bilinear resizing
    are defined so too.

    Args:
        length: Positions along the axis.
        new_length: Wanted positions.
        factor: What to multiply by as well.
    """
    scale = length / new_length
    radius = max(scale, 1.0)
    centres = (np.arange(new_length) + 0.5) * scale
    distances = np.arange(length) + 0.5 - centres[:, None]
    weights = np.maximum(1 - np.abs(distances) / radius, 0)
    weights *= factor / weights.sum(1, keepdims=True)
    values = weights.astype(np.float32)
    ends = (np.argmax(values > 0, 1), length - np.argmax(values[:, ::-1] > 0, 1))
    layout = _lay_out(*(tuple(end.tolist()) for end in ends), length, _ROWS_TO_RESIZE)
    # They are kept, and are many in 2D, so the zeros are not.
    return BandMatrix(values.shape, _blocks(values, layout).contiguous(), layout.step)


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
    # The axis and its mirror image repeat themselves after twice the length.
    period = np.bincount(offsets % (2 * length), kernel / kernel.sum(), minlength=2 * length)
    line = np.concatenate((period, period)).astype(np.float32)
    step, square = line.itemsize, (length, length)
    # By the distance of a position from each and from its mirror image.
    upright = np.ndarray(square, line.dtype, line, 2 * length * step, (-step, step))
    mirrored = np.ndarray(square, line.dtype, line, step, (step, step))
    layout = _lay_out_around(length, radius)
    return BandMatrix(square, _blocks(upright + mirrored, layout), layout.step)


def _blocks(matrix: np.ndarray, layout: Layout) -> torch.Tensor:
    """The blocks `(num_blocks, rows, columns)` of a contiguous matrix, without a copy."""
    num_blocks, rows, columns, step = layout
    length = matrix.shape[1]
    return torch.from_numpy(matrix).as_strided(
        (num_blocks, rows, columns), (rows * length + step, length, 1)
    )


@lru_cache(maxsize=256)
def _lay_out_around(length: int, radius: int) -> Layout:
    firsts = tuple(max(row - radius, 0) for row in range(length))
    ends = tuple(min(row + radius + 1, length) for row in range(length))
    return _lay_out(firsts, ends, length, _ROWS_TO_BLUR)


def _lay_out(
    firsts: tuple[int, ...], ends: tuple[int, ...], length: int, wanted_rows: int
) -> Layout:
    """Find equal blocks of about the wanted number of rows, whose columns begin at equal steps.

    Args:
        firsts: The first column of each row that holds something.
        ends: The column after the last that does.
        length: Number of columns.
        wanted_rows: How many rows a block should have.
    """
    # A length with no divisor of about that size, as a prime, is one block with all its zeros.
    fitting = [rows for rows in range(wanted_rows, 3 * wanted_rows) if len(firsts) % rows == 0]
    rows = fitting[0] if fitting else len(firsts)
    starts = range(0, len(firsts), rows)
    needed = [(min(firsts[r : r + rows]), max(ends[r : r + rows])) for r in starts]
    for columns in range(max(end - first for first, end in needed), length + 1):
        step, rest = divmod(length - columns, max(len(needed) - 1, 1))
        if not rest and all(
            block * step <= first and end <= block * step + columns
            for block, (first, end) in enumerate(needed)
        ):
            return Layout(len(needed), rows, columns, step)
    return Layout(1, len(firsts), length, 0)
