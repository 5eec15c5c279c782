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


@contextlib.contextmanager
def explained_writes(output: str, advice: str) -> Iterator[None]:
    """Say of an error of the system what it was about; that another process writes is said already.

    Args:
        output: what is written.
        advice: what remains, and what to do.

    Raises:
        OSError: if anything within raised one.
    """
    try:
        yield
    except BlockingIOError:
        raise
    except OSError as error:
        reason = error.strerror or error
        raise OSError(f"Cannot write {output}: {reason}. {advice}") from error
