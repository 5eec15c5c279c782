"""What an extraction tells while it runs: progress, bad inputs, the first of all warnings."""

import csv
import io
import sys
import time
import warnings
from collections.abc import Collection, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from tqdm import tqdm

from .preparation import BadInput
from .table import put_in_place

# Readers warn of each file's oddities: a hundred thousand files would bury everything else.
_MOST_WARNINGS = 10
_SECONDS_BETWEEN_LINES = 30.0


class Reporter:
    """Shows progress, a bar on a terminal and a line now and then elsewhere; collects bad inputs.

    Args:
        total: Number of inputs, if it is known.
        initial: How many of them had features before.
        file: Where to show it; standard error by default.
    """

    def __init__(self, total: int | None, initial: int, file: TextIO | None = None):
        self.bad: list[BadInput] = []
        self._file = sys.stderr if file is None else file
        self._total, self._done = total, initial
        self._warnings = 0
        self._caught = warnings.catch_warnings()
        self._bar: tqdm | None = None
        if self._file.isatty():
            self._bar = tqdm(
                total=total, initial=initial, unit="input", file=self._file, dynamic_ncols=True
            )
        self._said_at = time.monotonic()

    def __enter__(self) -> Self:
        self._caught.__enter__()
        warnings.showwarning = self._show_warning
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._caught.__exit__(kind, error, traceback)
        if self._bar is not None:
            self._bar.close()
        if self._warnings > _MOST_WARNINGS:
            print(f"{self._warnings - _MOST_WARNINGS} more warnings", file=self._file)

    def done(self) -> None:
        """Note that an input has been dealt with."""
        self._done += 1
        if self._bar is not None:
            self._bar.update()
        elif time.monotonic() - self._said_at >= _SECONDS_BETWEEN_LINES:
            self._said_at = time.monotonic()
            of_all = "" if self._total is None else f" of {self._total}"
            self.say(f"{self._done}{of_all} inputs")

    def add_bad(self, bad: BadInput) -> None:
        """Note an input that gives no features, and show it."""
        self.bad.append(bad)
        self.say(f"bad: {bad.name}: {bad.cause}")
        self.done()

    def say(self, message: str) -> None:
        """Show a line, above the bar if there is one."""
        if self._bar is not None:
            tqdm.write(message, file=self._file)
        else:
            print(message, file=self._file, flush=True)

    def _show_warning(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        self._warnings += 1
        if self._warnings <= _MOST_WARNINGS:
            self.say(f"warning: {message}")


def write_bad_inputs(path: Path, bad: Sequence[BadInput], done: Collection[str]) -> None:
    """Write the inputs that gave no features as CSV, `name,error`; no file if there are none.

    Those that earlier runs listed stay, unless they are among those done by now or told anew, or
    are files that are gone.

    Raises:
        OSError: If it cannot be written.
    """
    known = {*done, *(item.name for item in bad)}
    earlier = [
        item
        for item in _listed(path)
        # Records of data sets, which end in a bracket, are no files.
        if item.name not in known and (item.name.endswith("]") or Path(item.name).exists())
    ]
    bad = [*earlier, *bad]
    if not bad:
        path.unlink(missing_ok=True)
        return
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", "error"])
    writer.writerows([item.name, item.cause] for item in bad)
    with put_in_place(path, path.parent) as partial:
        partial.write_text(text.getvalue(), encoding="utf-8")


def _listed(path: Path) -> list[BadInput]:
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [BadInput(row["name"], row["error"]) for row in csv.DictReader(file)]


def error_file(output: Path) -> Path:
    """Where the bad inputs of an output are listed: `features.errors.csv`."""
    return output.with_name(f"{output.stem}.errors.csv")
