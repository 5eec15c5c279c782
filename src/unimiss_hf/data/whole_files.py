"""Files that are complete or not there."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def put_in_place(path: Path, folder: Path) -> Iterator[Path]:
    """Give a name in a folder to write to; what is there at the end is renamed to `path`.

    Args:
        path: the file to write.
        folder: where it lies until it is complete; on the same disk.

    Raises:
        OSError: if it cannot be written. Then `path` is as it was before.
    """
    partial = folder / f".{path.name}.partial"
    try:
        yield partial
        with partial.open("r+b") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
