"""The tables that come with data sets."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path


def columns_of(path: Path) -> list[str]:
    """The names of a csv file's columns."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        return next(csv.reader(file), [])


def read_rows(path: Path, columns: Sequence[str], delimiter: str = ",") -> Iterator[dict[str, str]]:
    """Iterate over the rows of a csv file, as values without blanks around them, by column.

    `delimiter` is what stands between two values.

    Raises:
        ValueError: if it has not all of these columns; it names those that it has.
    """
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        rows = csv.DictReader(file, delimiter=delimiter)
        present = rows.fieldnames or []
        missing = [column for column in columns if column not in present]
        if missing:
            raise ValueError(
                f"{path} has no column {', '.join(missing)}; its columns are "
                f"{', '.join(present) or 'none'}. Download it again."
            )
        for row in rows:
            yield {column: (row[column] or "").strip() for column in columns}
