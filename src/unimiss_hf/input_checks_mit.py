"""What every reader asks of its input, and how messages name it."""

from __future__ import annotations

import difflib
import math
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

Spacing = Sequence[float]


def name_of(source: Any) -> str:
    """What a message calls an input."""
    if isinstance(source, str | Path):
        return str(source)
    if isinstance(source, list | tuple):
        return f"{name_of(source[0])} and {len(source) - 1} more" if source else "an empty list"
    name = getattr(source, "filename", None) or getattr(source, "get_filename", lambda: None)()
    shape = getattr(source, "shape", None) or getattr(source, "size", None)
    if name or isinstance(shape, tuple):
        return str(name or f"the given {type(source).__name__} of shape {tuple(shape)}")
    return f"the given {type(source).__name__} {str(source)[:60]}"


@contextmanager
def decoding(name: str, wanted: str) -> Iterator[None]:
    """Turn what decoders raise for broken files, which is almost anything, into an OSError."""
    try:
        yield
    except (FileNotFoundError, IsADirectoryError, PermissionError, MemoryError):
        raise
    except Exception as error:
        raise OSError(f"{name} is not {wanted}, or is damaged: {error}") from error


def near_matches(path: Path, hidden: bool = True) -> list[Path]:
    """The files and folders beside a path that is not there whose names resemble its own."""
    if not path.parent.is_dir():
        return []
    names = sorted(entry.name for entry in path.parent.iterdir())
    names = [name for name in names if hidden or not name.startswith(".")]
    return [path.parent / name for name in near_names(path.name, names, 0.8)]


def near_names(name: str, names: Iterable[str], likeness: float = 0.75) -> list[str]:
    """Those names that resemble one which is not among them, the nearest first."""
    return difflib.get_close_matches(name, list(names), n=3, cutoff=likeness)


def did_you_mean(names: Sequence[Path | str]) -> str:
    """The end of a message that names near matches; nothing if there are none."""
    return f" Did you mean {', '.join(map(str, names))}?" if names else ""


def warn(message: str) -> None:
    """Warn at the line of the user's that led here, past those of this package and its callers."""
    passed = (__name__.rpartition(".")[0], "transformers")
    frame, level = sys._getframe(1), 2
    while frame.f_back and str(frame.f_globals.get("__name__")).startswith(passed):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)


def require_finite(values: np.ndarray, name: str) -> None:
    """Raise a ValueError that names the input if any value is NaN or infinite."""
    bad = values.size - np.count_nonzero(np.isfinite(values))
    if bad:
        raise ValueError(f"{name} has {bad} NaN or infinite of {values.size} values. Replace them.")


def require_spacing(field: str, value: Any) -> tuple[float, ...]:
    """Return three lengths in mm, or raise a ValueError that names the field."""
    spacing = np.ravel(value)
    numbers = len(spacing) == 3 and spacing.dtype.kind in "iuf"
    if not numbers or not all(0 < length < math.inf for length in spacing):
        raise ValueError(f"{field} must be 3 positive mm, (depth, height, width); got {value!r}.")
    return tuple(spacing.tolist())
