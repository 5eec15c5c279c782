"""Named inputs in, tensors out: read and prepared by threads, in order, a few ahead."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch

from ..label_restoring_mit import InputGrid
from .errors import one_line
from .inputs import NamedInput

# Inputs that each thread may be ahead: one at work, one done.
_AHEAD = 2


@dataclass(frozen=True)
class PreparedInput:
    """An input as the network takes it.

    Attributes:
        name: The input's name.
        place: As of `NamedInput`.
        pixel_values: `(1, channels, [depth,] height, width)`, float32.
        grid: Where they lie on the input's own grid.
    """

    name: str
    place: str
    pixel_values: torch.Tensor
    grid: InputGrid


@dataclass(frozen=True)
class BadInput:
    """An input that cannot be read or computed, and why, in one line."""

    name: str
    cause: str


def prepare_inputs(
    inputs: Iterable[NamedInput],
    processor: Callable[..., Any],
    workers: int,
    source_spacing: Sequence[float] | None = None,
) -> Iterator[PreparedInput | BadInput]:
    """Read and prepare inputs, in their order.

    Decoding and resampling release Python's lock for most of their time, so threads read while the
    network computes.

    Args:
        inputs: What to read. Iterated over in the calling thread, a few inputs ahead.
        processor: A `MiTImageProcessor`.
        workers: Threads; 0 prepares each input when it is asked for.
        source_spacing: The true spacing of volumes in mm, (depth, height, width), where headers are
            wrong.

    Yields:
        One result for each input, whatever is wrong with it.

    Raises:
        ImportError: If a package that a kind of file needs is missing.
    """
    if workers == 0:
        for item in inputs:
            yield _prepare(item, processor, source_spacing)
        return
    remaining = iter(inputs)
    running: deque[Future[PreparedInput | BadInput]] = deque()
    executor = ThreadPoolExecutor(workers, thread_name_prefix="prepare")
    try:
        while True:
            for item in islice(remaining, _AHEAD * workers - len(running)):
                running.append(executor.submit(_prepare, item, processor, source_spacing))
            if not running:
                return
            yield running.popleft().result()
    finally:
        executor.shutdown(cancel_futures=True)


def _prepare(
    item: NamedInput, processor: Callable[..., Any], source_spacing: Sequence[float] | None
) -> PreparedInput | BadInput:
    # Damaged files make decoders raise nearly any type of error, MemoryError among them.
    try:
        # A list in a list: the slices of one volume.
        groups = processor(
            [item.open()],
            source_spacing=source_spacing,
            group_by_dimension=True,
            return_tensors="pt",
        )
        (prepared,) = groups.values()
    except ImportError:
        raise
    except Exception as error:
        return BadInput(item.name, one_line(error, item.name))
    return PreparedInput(item.name, item.place, prepared["pixel_values"], prepared.grids[0])
