"""Rows of Parquet files, local or behind an address: one by one, or one file after another.

The datasets library streams Parquet through a scanner of pyarrow whose threads hang or abort the
process when a stream is left before its end (apache/arrow#45214), as an endless stream always is.
So files are opened with `pyarrow.parquet` here, which starts no such threads.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import fsspec
import pyarrow
import pyarrow.parquet
from datasets import Features
from huggingface_hub.errors import OfflineModeIsEnabled

from .errors import one_line

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

# Seconds between attempts to read over a network: about a minute in all.
_PAUSES = (0.5, 1, 2, 4, 8, 16, 30)
_OPEN_FILES = 64
# A value's length comes this early in its page where no statistics precede it.
_LONGEST_PAGE_HEADER = 512
_ADDRESS = re.compile(r"(?P<file>.+)#row=(?P<row>\d+)")


class StreamingError(ConnectionError):
    """A file cannot be read over the network, whether it is damaged or not."""


def row_address(file: str, row: int) -> str:
    """What a record says in place of a path: a row of a Parquet file."""
    return f"{file}#row={row}"


def split_row_address(address: str) -> tuple[str, int] | None:
    """The file and row of a `row_address`; None if it is none."""
    match = _ADDRESS.fullmatch(address)
    return None if match is None else (match["file"], int(match["row"]))


def is_remote(address: str) -> bool:
    """Whether an address is read over a network."""
    return "://" in address


def read_features(file: str) -> Features:
    """The columns of a file.

    Raises:
        OSError, ValueError: as `stream_rows`.
    """
    return _persistent(file, lambda rows: Features.from_arrow_schema(rows.schema))


def read_row(file: str, row: int, column: str) -> tuple[str | None, pyarrow.Buffer]:
    """Read the image of a row.

    Of a local file that is uncompressed and has one row in a row group, the image is not read but
    mapped into memory, so that only those of its pages are read from disk that are looked at.

    Args:
        file: a path, or an address that fsspec opens.
        row: the row's number, from 0.
        column: a column of `{"bytes": binary, "path": string}`.

    Returns:
        The path and the bytes.

    Raises:
        StreamingError: if the network fails for a minute, or the server sends files only whole.
        OSError: if the file is missing or may not be read.
        ValueError: if it is damaged, or has no such row or no such column.
    """
    return _persistent(file, lambda rows: rows.read(row, column))


def stream_rows(files: Sequence[str], column: str) -> Iterator[dict[str, Any]]:
    """Records `{"image": value}` of all rows of a column, file after file.

    Raises:
        StreamingError: if the network fails for a minute, or the server sends files only whole.
        OSError: if a file is missing or may not be read.
        ValueError: if a file is damaged or has no such column.
    """
    for file in files:
        for group in range(_persistent(file, lambda rows: rows.num_groups)):
            read = functools.partial(_Rows.read_group, group=group, column=column)
            for value in _persistent(file, read):
                yield {"image": value.as_py()}


class _Rows:
    """An open Parquet file."""

    def __init__(self, file: str) -> None:
        self._content: pyarrow.Buffer | None = None
        if is_remote(file):
            self._parquet = _open_remote(file)
        else:
            self._content = pyarrow.memory_map(file).read_buffer()
            self._parquet = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(self._content))
        metadata = self._parquet.metadata
        self.num_groups = metadata.num_row_groups
        sizes = (metadata.row_group(group).num_rows for group in range(self.num_groups))
        self._ends = list(itertools.accumulate(sizes))

    @property
    def schema(self) -> pyarrow.Schema:
        return self._parquet.schema_arrow

    def read(self, row: int, column: str) -> tuple[str | None, pyarrow.Buffer]:
        group = bisect.bisect_right(self._ends, row)
        if group == self.num_groups:
            raise LookupError(
                f"it has {self._ends[-1] if self._ends else 0} rows, but not row {row}"
            )
        mapped = self._mapped_value(group, f"{column}.bytes")
        if mapped is not None:
            return self.read_group(group, column, "path")[0]["path"].as_py(), mapped
        first = self._ends[group - 1] if group else 0
        value = self.read_group(group, column)[row - first]
        if value["bytes"].as_buffer() is None:
            raise LookupError(f"its row {row} has no bytes in the column {column!r}")
        return value["path"].as_py(), value["bytes"].as_buffer()

    def read_group(self, group: int, column: str, field: str | None = None) -> pyarrow.ChunkedArray:
        wanted = column if field is None else f"{column}.{field}"
        table = self._parquet.read_row_group(group, columns=[wanted], use_threads=False)
        if not table.num_columns:
            raise LookupError(f"it has no column {wanted!r}, but {self.schema.names}")
        return table.column(column)

    def _mapped_value(self, group: int, name: str) -> pyarrow.Buffer | None:
        """The one value of a column of a row group where it lies, if it lies there as it is.

        A page ends in its values, each of which follows its length in 4 bytes. A row group of one
        row has one page.
        """
        stored = self._parquet.metadata.row_group(group)
        columns = (stored.column(index) for index in range(stored.num_columns))
        chunk = next((column for column in columns if column.path_in_schema == name), None)
        if (
            self._content is None
            or chunk is None
            or stored.num_rows != 1
            or chunk.compression != "UNCOMPRESSED"
            or chunk.has_dictionary_page
        ):
            return None
        size = chunk.total_compressed_size
        page = self._content.slice(chunk.data_page_offset, size)
        head = page.slice(0, min(size, _LONGEST_PAGE_HEADER)).to_pybytes()
        for start in range(4, len(head)):
            if int.from_bytes(head[start - 4 : start], "little") == size - start:
                return page.slice(start)
        return None


def _open_remote(address: str) -> pyarrow.parquet.ParquetFile:
    # Each column of a row group is read by one request. Arrow would read ahead in its own threads,
    # for which a process that was forked, as one that reads for training, waits in vain.
    file = fsspec.open(address, "rb", cache_type="none").open()
    return pyarrow.parquet.ParquetFile(file, pre_buffer=False)


# Handles that a process was forked with share their place in the file with its parent's.
@functools.lru_cache(maxsize=_OPEN_FILES)
def _opened(file: str, process: int) -> _Rows:
    return _Rows(file)


def _persistent(file: str, read: Callable[[_Rows], Result]) -> Result:
    """Read from a file, more than once if the network fails."""
    for attempt in itertools.count():
        try:
            return read(_opened(file, os.getpid()))
        except (pyarrow.ArrowInvalid, LookupError) as error:
            raise ValueError(f"{file} cannot be read as Parquet: {error}") from error
        except Exception as error:
            if not is_remote(file):
                if isinstance(error, FileNotFoundError | PermissionError):
                    raise
                raise OSError(f"{file} cannot be read: {error}") from error
            cause = one_line(error, "").rstrip(".")
            if isinstance(error, ValueError):
                raise StreamingError(
                    f"{file} cannot be streamed ({cause}). Read it with streaming=False, or serve "
                    f"it with a server that sends ranges of bytes."
                ) from error
            if attempt == len(_PAUSES) or _is_final(error):
                tried = f" in {attempt + 1} attempts" if attempt else ""
                raise StreamingError(
                    f"{file} could not be read{tried}: {cause}. Check the network; a run can be "
                    f"continued from its last checkpoint."
                ) from error
            _opened.cache_clear()
            pause = _PAUSES[attempt]
            logger.warning("Reading %s failed (%s); trying again in %s s.", file, cause, pause)
            time.sleep(pause)


def _is_final(error: Exception) -> bool:
    """Whether waiting cannot help: the file is not there, or the network is not to be used."""
    if isinstance(error, FileNotFoundError):
        # fsspec says this of a server that does not answer, too; what came before tells.
        return getattr(error.__cause__, "status", 404) == 404 and not isinstance(
            error.__cause__, OSError
        )
    return isinstance(error, OfflineModeIsEnabled)
