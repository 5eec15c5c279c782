"""Folders that one process at a time writes to."""

from pathlib import Path

import filelock


def take_lock(lock: filelock.BaseFileLock, busy: str) -> None:
    """Take the lock of a folder, which is made if it is not there.

    Args:
        lock: whose file lies in the folder; who lets go of it may delete both.
        busy: what the error says if another process has it.

    Raises:
        BlockingIOError: if another process has the lock.
        OSError: if the folder cannot be written.
    """
    file = Path(lock.lock_file)
    while True:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except filelock.Timeout as error:
            raise BlockingIOError(busy) from error
        if file.exists():
            return
        # Another run has just ended and deleted the file that was locked here.
        lock.release()
