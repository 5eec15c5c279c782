"""How a process gets the memory in which a CPU works, and whether it gives it back."""

import ctypes
import os

# Of glibc's malloc.h.
_TRIM_THRESHOLD = -1
_MMAP_MAX = -4
_HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"


def keep_freed_memory() -> bool:
    """Let this process keep what it frees, and let torch ask for huge pages.

    A step on a CPU frees and takes gigabytes, and so do those that read. By default glibc returns
    large arrays to Linux at once, which hands out the next ones as pages of 4 KiB that it clears
    at their first use. With this, memory is cleared once, in pages of 2 MiB where Linux has them.
    The price is that memory stays with the process until it ends. It holds for the whole process
    and for those that it forks, and changes no result.

    A `THP_MEM_ALLOC_ENABLE` in the environment is left as it is.

    Returns:
        Whether the C library could be told; other libraries than glibc cannot.
    """
    # Torch reads it when it first takes memory for a large array.
    os.environ.setdefault(_HUGE_PAGES, "1")
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(set_option(_MMAP_MAX, 0) and set_option(_TRIM_THRESHOLD, -1))
