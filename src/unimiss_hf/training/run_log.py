"""The log of a run: one JSON object a line, in step order."""

import json
import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

logger = logging.getLogger(__name__)

_NON_FINITE = "non_finite"

Scalar = bool | int | float | str | None


class RunLog:
    """Appends lines to `log.jsonl`, each of which is in the file when [`write`] returns.

    JSON has neither NaN nor infinity: such values are written as null, and their names listed in a
    field `"non_finite"` of the line.

    Args:
        path: The file. It is made at the first line.

    ```python
    >>> log = RunLog(Path("run/log.jsonl"))
    >>> log.write({"step": 12, "loss": 9.87, "dimension": "3d"})
    >>> log.read()
    [{'step': 12, 'loss': 9.87, 'dimension': '3d'}]
    ```
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def write(self, values: Mapping[str, Any]) -> None:
        """Append a line.

        Args:
            values: `"step"`, an integer, and any other scalars: numbers, text, booleans, `None`,
                and NumPy scalars and tensors without axes.

        Raises:
            TypeError: If a value is not a scalar, or the step not an integer.
            ValueError: If there is no step, or a field `"non_finite"`.
            OSError: If the file cannot be written.
        """
        line = _encode(values)
        try:
            if self._file is None:
                self._file = self._open()
            while line:
                line = line[self._file.write(line) :]
        except OSError as error:
            # Opening again drops what was written of this line.
            self.close()
            raise OSError(
                error.errno, f"Cannot write the log {self.path}: {error.strerror}"
            ) from error

    def read(self) -> list[dict[str, Any]]:
        """Read all lines; those that are torn or not of a log are passed over with a warning."""
        return [line for _, line in self._lines()]

    def truncate_after(self, step: int) -> int:
        """Drop the lines of later steps, at once or not at all.

        Args:
            step: The last step to keep.

        Returns:
            How many lines were dropped.

        Raises:
            OSError: If the file cannot be written.
        """
        self.close()
        lines = self._lines()
        kept = [raw for raw, line in lines if line["step"] <= step]
        content = b"".join(raw + b"\n" for raw in kept)
        if self.path.exists() and content != self.path.read_bytes():
            partial = self.path.with_name(f".{self.path.name}.partial")
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self.path)
        return len(lines) - len(kept)

    def flush(self) -> None:
        """Bring what was written to the disk, where it outlives a crash of the machine.

        Raises:
            OSError: If the disk does not take it.
        """
        if self._file is not None:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file; a later line opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> BinaryIO:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = self.path.open("ab", buffering=0)
        content = self.path.read_bytes()
        if content and not content.endswith(b"\n"):
            # A new line must not be joined to what a kill left of the last one.
            end = content.rfind(b"\n") + 1
            if _decode(content[end:]) is None:
                self._warn(content.count(b"\n") + 1)
                file.truncate(end)
            else:
                file.write(b"\n")
        return file

    def _lines(self) -> list[tuple[bytes, dict[str, Any]]]:
        if not self.path.exists():
            return []
        lines = []
        for number, raw in enumerate(self.path.read_bytes().split(b"\n"), start=1):
            line = _decode(raw)
            if line is not None:
                lines.append((raw, line))
            elif raw:
                self._warn(number)
        return lines

    def _warn(self, number: int) -> None:
        logger.warning(
            "Line %d of %s is torn or not a line of a log, and is dropped.", number, self.path
        )


def _encode(values: Mapping[str, Any]) -> bytes:
    if "step" not in values:
        raise ValueError(f"A line of the log needs a 'step'; it has {sorted(values)}.")
    if _NON_FINITE in values:
        raise ValueError(f"The log keeps the name {_NON_FINITE!r} for itself; take another.")
    line: dict[str, Any] = {name: _scalar(name, value) for name, value in values.items()}
    step = line["step"]
    if isinstance(step, bool) or not isinstance(step, int):
        raise TypeError(f"A step is an integer, got {step!r}.")
    non_finite = [
        name
        for name, value in line.items()
        if isinstance(value, float) and not math.isfinite(value)
    ]
    if non_finite:
        line.update(dict.fromkeys(non_finite))
        line[_NON_FINITE] = non_finite
    return json.dumps(line, allow_nan=False).encode() + b"\n"


def _scalar(name: str, value: Any) -> Scalar:
    # NumPy scalars, and arrays and tensors without axes
    if getattr(value, "ndim", None) == 0:
        value = value.item()
    if value is not None and not isinstance(value, (bool, int, float, str)):
        raise TypeError(
            f"The log takes scalars, and {name!r} is a {type(value).__name__}. Log its parts under "
            "names of their own."
        )
    return value


def _decode(raw: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(raw)
    except ValueError:
        return None
    return line if isinstance(line, dict) and isinstance(line.get("step"), int) else None
