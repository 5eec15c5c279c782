"""What a command writes row by row, so that the same command goes on when it was stopped."""

import abc
import contextlib
from pathlib import Path
from types import TracebackType
from typing import Self

import filelock

from ..folder_locks import take_lock
from .whole_files import explained_writes


class ResumableOutput(abc.ABC):
    """Lets one process at a time write, and writes the rows at hand when it is left.

    Args:
        output: What the command writes to.
        folder: Where the lock lies; made when the output is entered, and deleted when it is left
            and nothing else lies in it.
        written: What an error of the system was about, in words.

    Raises:
        OSError: When entered, if the folder cannot be written to, or another process writes now.
    """

    def __init__(self, output: Path, folder: Path, written: str):
        self._output = output
        self._written = written
        self._lock = filelock.FileLock(folder / ".lock", timeout=0)

    @abc.abstractmethod
    def write_rows(self) -> None:
        """Write the rows that are not written yet.

        Raises:
            OSError: If they cannot be written; what was written before remains.
        """

    def explained(self) -> contextlib.AbstractContextManager[None]:
        """Say of an error of the system that it was about this output."""
        return explained_writes(
            self._written,
            "What was written before remains. Put this right (make room, give write permission) "
            "and run again.",
        )

    def __enter__(self) -> Self:
        with self.explained():
            take_lock(
                self._lock,
                f"Another process writes to {self._output} now. Wait for it, or give another "
                "output.",
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self.write_rows()
            else:
                # The first error tells more than what follows from it.
                with contextlib.suppress(OSError):
                    self.write_rows()
        finally:
            # Before the lock is let go, as the next may take it and write at once.
            with contextlib.suppress(OSError):
                file = Path(self._lock.lock_file)
                file.unlink(missing_ok=True)
                file.parent.rmdir()
            self._lock.release()
