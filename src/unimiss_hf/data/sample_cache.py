"""Decoded samples in memory, up to a bound."""

from collections import OrderedDict
from typing import Any

import numpy as np


class SampleCache:
    """Decoded samples by key, the least recently used dropped first.

    A volume is worth keeping, as decompressing and resampling it takes far longer than cutting a
    window. The very float32 array is kept: resampled Hounsfield units are no integers, so int16 or
    float16 would make a sample depend on whether the cache held it. Kept arrays are read-only. A
    copy that is sent to another process starts empty, so the bound holds for each process.

    Args:
        max_bytes: bound on the sum of the arrays' sizes in bytes; 0 keeps nothing.

    Raises:
        ValueError: if `max_bytes` is negative.
    """

    def __init__(self, max_bytes: int) -> None:
        if max_bytes < 0:
            raise ValueError(f"max_bytes must be 0 (no cache) or more; got {max_bytes}.")
        self.max_bytes = max_bytes
        self.num_bytes = 0
        self._arrays: OrderedDict[Any, np.ndarray] = OrderedDict()

    def __len__(self) -> int:
        return len(self._arrays)

    def __reduce__(self) -> tuple:
        return type(self), (self.max_bytes,)

    def get(self, key: Any) -> np.ndarray | None:
        """The array kept under `key`, which becomes the most recently used, or None."""
        if key not in self._arrays:
            return None
        self._arrays.move_to_end(key)
        return self._arrays[key]

    def put(self, key: Any, array: np.ndarray) -> None:
        """Keep `array`, made read-only, unless it is larger than the whole cache."""
        if array.nbytes > self.max_bytes:
            return
        if key in self._arrays:
            self.num_bytes -= self._arrays.pop(key).nbytes
        array.setflags(write=False)
        self._arrays[key] = array
        self.num_bytes += array.nbytes
        while self.num_bytes > self.max_bytes:
            self.num_bytes -= self._arrays.popitem(last=False)[1].nbytes
