"""Absolute paths in files that are about to be published: they tell of a machine and its users."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_TEXTS = (".json", ".jsonl", ".md", ".txt", ".csv", ".yaml", ".yml", ".toml")
# A path begins behind white space, a quote or a bracket, unlike the end of an address, and has
# two parts at least, unlike a lone slash in a sentence.
_UNIX = re.compile(r"(?:^|(?<=[\s\"'`(=\[{<,:]))(?:file://)?/(?:[\w.+@~-]+/)+[\w.+@~-]*")
_WINDOWS = re.compile(
    r"(?<![\w])[A-Za-z]:[\\/]+[\w.+@~ -]+(?:[\\/]+[\w.+@~ -]*)*|\\\\\w[\w.$-]*\\\w+"
)


def find_absolute_path(path: Path) -> str | None:
    """Find the first absolute path in a text file, by its name's ending.

    Args:
        path: The file; of other kinds than JSON, Markdown, YAML, tables and plain text, as code and
            pictures are, nothing is looked at.

    Returns:
        `"line 3: /home/me/data"`, or `None` if there is none.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is no text.
    """
    if path.suffix.lower() not in _TEXTS:
        return None
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8 ({error}).") from error
    if path.suffix.lower() == ".json":
        found = next(_in_json(text), None)
        # As the file writes it.
        written = json.dumps(found, ensure_ascii=False)[1:-1]
        lines = text.splitlines()
        number = next((n for n, line in enumerate(lines, 1) if written in line), 1)
        return None if found is None else f"line {number}: {found}"
    search = _in_json if path.suffix.lower() == ".jsonl" else _in_text
    for number, line in enumerate(text.splitlines(), 1):
        found = next(search(line), None)
        if found is not None:
            return f"line {number}: {found}"
    return None


def _in_json(text: str) -> Iterator[str]:
    try:
        value = json.loads(text)
    except ValueError:  # torn
        yield from _in_text(text)
    else:
        yield from _in_values(value)


def _in_text(text: str) -> Iterator[str]:
    for pattern in (_UNIX, _WINDOWS):
        yield from (match[0].strip() for match in pattern.finditer(text))


def _in_values(value: Any) -> Iterator[str]:
    """The absolute paths among the strings of a value that JSON held."""
    if isinstance(value, dict):
        for key, entry in value.items():
            yield from _in_values(key)
            yield from _in_values(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from _in_values(entry)
    elif isinstance(value, str):
        yield from _in_text(value)


__all__ = ["find_absolute_path"]
