"""How far a piece of work is: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from types import TracebackType
from typing import Self, TextIO

from tqdm import tqdm

_SECONDS_BETWEEN_LINES = 30.0


class ProgressLine:
    """Counts what has been done, and shows messages without tearing the bar.

    Args:
        total: How many there are to do, if it is known.
        initial: How many were done before.
        unit: What one of them is called.
        file: Where to show it; standard error by default.
    """

    def __init__(
        self, total: int | None, initial: int = 0, unit: str = "input", file: TextIO | None = None
    ):
        self._file = sys.stderr if file is None else file
        self._total, self._done, self._unit = total, initial, unit
        self._note = ""
        self._bar: tqdm | None = None
        if self._file.isatty():
            self._bar = tqdm(
                total=total, initial=initial, unit=unit, file=self._file, dynamic_ncols=True
            )
        self._said_at = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def done(self, count: int = 1, note: str = "") -> None:
        """Note that some more are done; a negative count takes back what must be done again.

        Args:
            count: How many.
            note: What to show behind the numbers.
        """
        self._done += count
        if self._bar is not None:
            if note != self._note:
                self._note = note
                self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(count)
        elif time.monotonic() - self._said_at >= _SECONDS_BETWEEN_LINES:
            self._said_at = time.monotonic()
            of_all = "" if self._total is None else f" of {self._total}"
            self.say(f"{self._done}{of_all} {self._unit}s" + (f", {note}" if note else ""))

    def say(self, message: str) -> None:
        """Show a line, above the bar if there is one."""
        if self._bar is not None:
            tqdm.write(message, file=self._file)
        else:
            print(message, file=self._file, flush=True)
