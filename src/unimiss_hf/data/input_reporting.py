"""What a run over many inputs tells: progress, bad inputs, the first of all warnings."""

import csv
import io
import warnings
from collections.abc import Collection, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from .input_preparation import BadInput
from .progress_line import ProgressLine
from .whole_files import put_in_place

# Readers warn of each file's oddities: a hundred thousand files would bury everything else.
_MOST_WARNINGS = 10


class Reporter:
    """Shows progress, a bar on a terminal and a line now and then elsewhere; collects bad inputs.

    Args:
        total: Number of inputs, if it is known.
        initial: How many of them were done before.
        file: Where to show it; standard error by default.
    """

    def __init__(self, total: int | None, initial: int, file: TextIO | None = None):
        self.bad: list[BadInput] = []
        self._line = ProgressLine(total, initial, file=file)
        self._warnings = 0
        self._caught = warnings.catch_warnings()

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
        self._line.__exit__(kind, error, traceback)
        if self._warnings > _MOST_WARNINGS:
            self._line.say(f"{self._warnings - _MOST_WARNINGS} more warnings")

    def done(self) -> None:
        """Note that an input has been dealt with."""
        self._line.done()

    def add_bad(self, bad: BadInput) -> None:
        """Note an input that gives no result, and show it."""
        self.bad.append(bad)
        self.say(f"bad: {bad.name}: {bad.cause}")
        self.done()

    def say(self, message: str) -> None:
        """Show a line, above the bar if there is one."""
        self._line.say(message)

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
    """Write the inputs that gave no result as CSV, `name,error`; no file if there are none.

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
