"""A shard: its samples converted one by one, into a file that is complete or not there."""

import contextlib
import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import pyarrow
import pyarrow.parquet
from datasets import Features

from ..errors import one_line
from ..prepared import RADIOGRAPH_FEATURES, VOLUME_FEATURES
from ..whole_files import put_in_place
from .conversion import convert
from .planning import Sample, Shard
from .settings import PreparationSettings

FEATURES: dict[str, Features] = {"volumes": VOLUME_FEATURES, "radiographs": RADIOGRAPH_FEATURES}
# A reader that wants one row reads its whole group.
_GROUP_ROWS = {"volumes": 1, "radiographs": 32}


@dataclass(frozen=True)
class Outcome:
    """What became of a sample.

    Attributes:
        name: The sample's name.
        state: "prepared" or "failed".
        reason: Why it failed, in one line.
        warnings: What its reader warned of.
        source_bytes: Size of its files.
    """

    name: str
    state: str
    reason: str = ""
    warnings: tuple[str, ...] = ()
    source_bytes: int = 0


@dataclass(frozen=True)
class ShardRecord:
    """What is in a shard that is done.

    Attributes:
        part: "volumes" or "radiographs".
        split: Such as "train".
        key: The shard's key.
        num_samples: Rows of its file; it has no file if there are none.
        num_bytes: Size of its file.
        outcomes: What became of each sample of its plan.
    """

    part: str
    split: str
    key: str
    num_samples: int
    num_bytes: int
    outcomes: tuple[Outcome, ...]

    @property
    def num_failed(self) -> int:
        """How many of its samples failed."""
        return len(self.outcomes) - self.num_samples

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a record that `write_shard` wrote.

        Raises:
            OSError, ValueError, TypeError: If it cannot be read, or is no record.
        """
        values = json.loads(path.read_text(encoding="utf-8"))
        outcomes = [{**o, "warnings": tuple(o["warnings"])} for o in values.pop("outcomes")]
        return cls(**values, outcomes=tuple(Outcome(**outcome) for outcome in outcomes))


def write_shard(
    shard: Shard,
    settings: PreparationSettings,
    folder: Path,
    partial: Path,
    lost: Mapping[str, str] | None = None,
    on_begun: Callable[[str], None] = lambda name: None,
    on_done: Callable[[Outcome], None] = lambda outcome: None,
) -> ShardRecord:
    """Convert the samples of a shard and write `key.parquet`, then `key.json`, its record.

    Rows are written as they come, so that one decoded image is held at a time. A shard without rows
    has a record only.

    Args:
        shard: What to write.
        settings: How.
        folder: Where to.
        partial: Where files lie until they are complete; of this process alone.
        lost: Samples that are not to be tried, and why.
        on_begun: Called with the name of each sample before it is read.
        on_done: Called with what became of it.

    Returns:
        The record.

    Raises:
        OSError: If the files cannot be written. What is wrong with a sample is in the record.
    """
    outcomes: list[Outcome] = []
    path = folder / f"{shard.key}.parquet"
    with _RowWriter(path, shard.part, partial) as writer:
        for sample in shard.samples:
            on_begun(sample.name)
            reason = (lost or {}).get(sample.name)
            if reason is None:
                row, outcome = _attempt(sample, settings)
            else:
                row, outcome = None, Outcome(sample.name, "failed", reason)
            if row is not None:
                writer.add(row)
            outcomes.append(outcome)
            on_done(outcome)
    size = path.stat().st_size if writer.num_rows else 0
    record = ShardRecord(shard.part, shard.split, shard.key, writer.num_rows, size, tuple(outcomes))
    with put_in_place(folder / f"{shard.key}.json", partial) as unfinished:
        unfinished.write_text(json.dumps(asdict(record)), encoding="utf-8")
    return record


def _attempt(
    sample: Sample, settings: PreparationSettings
) -> tuple[dict[str, Any] | None, Outcome]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # Damaged files make decoders raise nearly any type of error, MemoryError among them.
        try:
            row, reason = convert(sample, settings), ""
            size = sum(path.stat().st_size for path in sample.item.files)
        except Exception as error:
            row, reason, size = None, _local(one_line(error, ""), sample), 0
    told = tuple(dict.fromkeys(_local(str(warning.message), sample) for warning in caught))
    return row, Outcome(sample.name, "failed" if reason else "prepared", reason, told, size)


def _local(message: str, sample: Sample) -> str:
    """A message that names a sample's files by their own names, without the folders they lie in."""
    for parent in dict.fromkeys(file.parent for file in sample.item.files):
        message = message.replace(f"{parent}/", "").replace(str(parent), parent.name)
    return " ".join(message.split())


class _RowWriter:
    """Rows of a Parquet file that is put in its place when all are there; no rows, no file."""

    def __init__(self, path: Path, part: str, partial: Path):
        self.num_rows = 0
        self._path, self._partial = path, partial
        self._schema = FEATURES[part].arrow_schema
        self._group_rows = _GROUP_ROWS[part]
        self._waiting: list[dict[str, Any]] = []
        self._writer: pyarrow.parquet.ParquetWriter | None = None
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        if error[0] is None:
            with self._stack:
                self._write_group()
        else:
            self._stack.__exit__(*error)

    def add(self, row: dict[str, Any]) -> None:
        self._waiting.append(row)
        self.num_rows += 1
        if len(self._waiting) == self._group_rows:
            self._write_group()

    def _write_group(self) -> None:
        if not self._waiting:
            return
        if self._writer is None:
            unfinished = self._stack.enter_context(put_in_place(self._path, self._partial))
            # Images are compressed already, and the smallest and largest of them tell nothing.
            self._writer = self._stack.enter_context(
                pyarrow.parquet.ParquetWriter(
                    unfinished,
                    self._schema,
                    compression="NONE",
                    use_dictionary=False,
                    write_statistics=False,
                )
            )
        self._writer.write_table(pyarrow.Table.from_pylist(self._waiting, self._schema))
        self._waiting = []
