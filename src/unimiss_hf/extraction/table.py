"""A Parquet table of features that a stopped run goes on with, and that no name is in twice."""

import json
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet

from ..data.resumable_output import ResumableOutput
from ..data.whole_files import put_in_place

logger = logging.getLogger(__name__)

METADATA_KEY = b"unimiss_hf"
FORMAT_VERSION = 1
# They may differ between rows that may stand side by side: the digest of the weights decides.
_NAMES = ("model", "commit", "package_version")

# Rows not yet in a part are lost when the process is killed; every part costs a file.
_PART_SECONDS = 30.0
_PART_ROWS = 1000
_PART_BYTES = 64 * 2**20
# Rows of a row group in the finished file, at least, if there are as many.
_GROUP_ROWS = 1000


@dataclass(frozen=True)
class FeatureRow:
    """Features of one input.

    Attributes:
        name: The input's name.
        shape: Its prepared size, `([depth,] height, width)`.
        pooled: float32 `(channels,)`.
        patches: `(channels, [depth,] height, width)`, if they are kept.
    """

    name: str
    shape: tuple[int, ...]
    pooled: np.ndarray
    patches: np.ndarray | None = None


class FeatureTable(ResumableOutput):
    """Collects rows in a folder of parts beside the output, and joins them when all are there.

    Each part is whole or not there, and carries the description of its features. The output is put
    in its place by a rename: before, there is none, or the one of an earlier run. As long as the
    table is open, no other process can write to it.

    Args:
        output: The file to write at last. Its parts are in `<output>.parts`.

    Raises:
        OSError: If the place cannot be written to, or another process writes to it now.
        ValueError: If `output` is a folder.

    ```python
    >>> with FeatureTable(Path("features.parquet")) as table:
    ...     table.begin({"model": "runs/model"}, num_channels=512)
    ...     table.add(row)
    ...     table.finish()
    ```
    """

    def __init__(self, output: Path):
        self.output = output
        self.parts = output.with_name(f"{output.name}.parts")
        super().__init__(output, self.parts, f"{output} or its parts")
        self.names: set[str] = set()
        self._rows: list[FeatureRow] = []
        self._bytes = 0
        self._written_at = time.monotonic()
        if output.is_dir():
            raise ValueError(f"The output {output} is a folder; wanted the name of a file.")

    def begin(self, description: dict[str, Any], num_channels: int) -> None:
        """Find the rows of earlier runs, whose names are then in `names`.

        Args:
            description: All that features depend on, as plain JSON values; with `"patches"` and
                `"patches_dtype"`.
            num_channels: Length of the pooled features.

        Raises:
            ValueError: If earlier rows were made with other settings, or the output is a file that
                no extraction wrote.
            OSError: If earlier rows cannot be read.
        """
        self._description = description
        self._schema = _schema(description, num_channels)
        if self.output.exists():
            self._require_same(self.output)
            self.names.update(_names(self.output))
        for part in self._part_files():
            try:
                pyarrow.parquet.read_metadata(part)
            except (pyarrow.ArrowException, OSError) as error:
                logger.warning("%s is damaged and extracted anew: %s.", part, error)
                part.unlink()
                continue
            self._require_same(part)
            self.names.update(_names(part))
        for leftover in self.parts.glob("*.partial"):
            leftover.unlink()
        self._written_at = time.monotonic()

    def add(self, row: FeatureRow) -> None:
        """Take a row; write a part now and then.

        Raises:
            ValueError: If its name is in the table.
            OSError: If a part cannot be written.
        """
        if row.name in self.names:
            raise ValueError(f"{row.name} is in {self.output} twice.")
        self.names.add(row.name)
        self._rows.append(row)
        self._bytes += row.pooled.nbytes + (0 if row.patches is None else row.patches.nbytes)
        if (
            len(self._rows) >= _PART_ROWS
            or self._bytes >= _PART_BYTES
            or time.monotonic() - self._written_at >= _PART_SECONDS
        ):
            self.write_rows()

    def write_rows(self) -> None:
        """Write the rows that are in no part yet.

        Raises:
            OSError: If they cannot be written; parts written before remain.
        """
        if not self._rows:
            return
        numbers = [int(part.stem.removeprefix("part-")) for part in self._part_files()]
        part = self.parts / f"part-{max(numbers, default=-1) + 1:06d}.parquet"
        with self.explained(), put_in_place(part, self.parts) as partial:
            pyarrow.parquet.write_table(_table(self._rows, self._schema), partial)
        self._rows, self._bytes, self._written_at = [], 0, time.monotonic()

    def finish(self) -> bool:
        """Join all rows into the output, and delete the parts.

        Returns:
            Whether there were rows that the output did not hold before.

        Raises:
            OSError: If the output cannot be written; the parts remain.
        """
        self.write_rows()
        parts = self._part_files()
        if not parts:
            return False
        earlier = [self.output] if self.output.exists() else []
        with (
            self.explained(),
            put_in_place(self.output, self.parts) as partial,
            pyarrow.parquet.ParquetWriter(partial, self._schema) as writer,
        ):
            for table in _row_groups([*earlier, *parts]):
                # The schema of now: names of models and versions may have changed.
                writer.write_table(table.replace_schema_metadata(self._schema.metadata))
        for part in parts:
            part.unlink()
        return True

    def _part_files(self) -> list[Path]:
        return sorted(self.parts.glob("part-*.parquet"))

    def _require_same(self, path: Path) -> None:
        wanted = "Give another output, or delete it to begin anew"
        try:
            metadata = pyarrow.parquet.read_schema(path).metadata or {}
            earlier = json.loads(metadata[METADATA_KEY])
        except (ValueError, KeyError) as error:
            raise ValueError(f"{path} was not written by an extraction. {wanted}.") from error
        if earlier.get("format_version") != FORMAT_VERSION:
            raise ValueError(
                f"{path} has format {earlier.get('format_version')}, and this version of "
                f"unimiss_hf writes format {FORMAT_VERSION}. {wanted}."
            )
        changes = [
            _change(name, earlier, self._description)
            for name in self._description
            if name not in _NAMES and earlier.get(name) != self._description[name]
        ]
        if changes:
            place = self.output if path == self.output else self.parts
            raise ValueError(
                f"{place} holds features made with other settings: {'; '.join(changes)}. {wanted}."
            )


def _schema(description: dict[str, Any], num_channels: int) -> pyarrow.Schema:
    fields = {
        "name": pyarrow.string(),
        "dimension": pyarrow.string(),
        "shape": pyarrow.list_(pyarrow.int32()),
        "pooled": pyarrow.list_(pyarrow.float32(), num_channels),
    }
    if description["patches"]:
        half = description["patches_dtype"] == "float16"
        fields["patches"] = pyarrow.list_(pyarrow.float16() if half else pyarrow.float32())
        fields["patch_shape"] = pyarrow.list_(pyarrow.int32())
    metadata = {METADATA_KEY: json.dumps({"format_version": FORMAT_VERSION, **description})}
    return pyarrow.schema(list(fields.items()), metadata)


def _table(rows: list[FeatureRow], schema: pyarrow.Schema) -> pyarrow.Table:
    columns: dict[str, Any] = {
        "name": [row.name for row in rows],
        "dimension": [f"{len(row.shape)}d" for row in rows],
        "shape": [row.shape for row in rows],
        "pooled": [row.pooled for row in rows],
    }
    if "patches" in schema.names:
        values = schema.field("patches").type.value_type.to_pandas_dtype()
        columns["patches"] = [row.patches.astype(values).reshape(-1) for row in rows]
        columns["patch_shape"] = [row.patches.shape for row in rows]
    return pyarrow.table(columns, schema=schema)


def _names(path: Path) -> list[str]:
    return pyarrow.parquet.read_table(path, columns=["name"])["name"].to_pylist()


def _row_groups(paths: list[Path]) -> Iterator[pyarrow.Table]:
    """The rows of all files, each name once, in groups that are worth reading at once."""
    seen: set[str] = set()
    waiting: list[pyarrow.Table] = []
    for path in paths:
        with pyarrow.parquet.ParquetFile(path) as file:
            for index in range(file.num_row_groups):
                table = file.read_row_group(index)
                # A run that was killed behind the rename left parts that the output holds already.
                fresh = [name not in seen for name in table["name"].to_pylist()]
                seen.update(table["name"].to_pylist())
                waiting.append(table if all(fresh) else table.filter(pyarrow.array(fresh)))
                if (
                    sum(table.num_rows for table in waiting) >= _GROUP_ROWS
                    or sum(table.nbytes for table in waiting) >= _PART_BYTES
                ):
                    yield pyarrow.concat_tables(waiting)
                    waiting = []
    if waiting:
        yield pyarrow.concat_tables(waiting)


def _change(name: str, earlier: dict[str, Any], now: dict[str, Any]) -> str:
    """Say in which way a setting differs."""
    if name == "weights":
        if earlier.get("model") != now.get("model"):
            return f"model {earlier.get('model')!r} (now {now.get('model')!r})"
        return f"other weights of the model {now.get('model')!r}"
    before, after = earlier.get(name), now[name]
    if isinstance(before, dict) and isinstance(after, dict):
        inner = [key for key in {**before, **after} if before.get(key) != after.get(key)]
        return ", ".join(
            f"{name} {key} {before.get(key)!r} (now {after.get(key)!r})" for key in inner
        )
    return f"{name} {before!r} (now {after!r})"
