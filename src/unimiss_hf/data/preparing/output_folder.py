"""The folder that a preparation writes: what is in it, what is done, when it is complete.

While a preparation is under way, its files are in the hidden folder `.preparation`, so that nothing
opens half a data set. When every shard is done, they are moved to their places; `prepared.json`
comes last. The records of shards stay, to go on from if one is to be made again.
"""

import contextlib
import json
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import filelock

from ...folder_locks import take_lock
from ..prepared import PART_OF_DIMENSION
from ..prepared_folders import NOTE
from ..whole_files import explained_writes, put_in_place
from .planning import Plan
from .settings import PreparationSettings
from .shard_writing import ShardRecord

REPORT = "report.csv"
CARD = "README.md"
# How an error ends after which shards remain.
HOW_TO_GO_ON = (
    "Shards that are complete stay. Put this right (make room, give write permission) and run the "
    "same command again."
)
_HIDDEN = ".preparation"
_PLAN_VERSION = 1
_PARTS = tuple(PART_OF_DIMENSION.values())
_OURS = {NOTE, REPORT, CARD, _HIDDEN, *_PARTS}
# What an upload to a Hub leaves in a folder.
_HARMLESS = {".cache", ".gitattributes"}
_MOST_NAMES = 3


class OutputFolder:
    """An output, locked for this process as long as it is entered.

    Args:
        path: The folder; made when it is entered.

    Raises:
        OSError: If it cannot be written, or another process writes to it now.
        ValueError: If it holds something else.
    """

    def __init__(self, path: Path):
        self.path = path
        self.hidden = path / _HIDDEN
        self.partial = self.hidden / "partial"
        self._plan = self.hidden / "plan.json"
        self._places = self.hidden / "places.json"
        self._lock = filelock.FileLock(self.hidden / ".lock", timeout=0)

    @property
    def is_complete(self) -> bool:
        """Whether everything is in its place."""
        return (self.path / NOTE).is_file()

    def __enter__(self) -> Self:
        self._check()
        with self._explained():
            take_lock(
                self._lock,
                f"Another process prepares {self.path} now. Wait for it, or give another OUT.",
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        shutil.rmtree(self.partial, ignore_errors=True)
        if self._plan.exists():
            self._lock.release()
            return
        # Nothing was begun: leave nothing behind.
        with contextlib.suppress(OSError):
            Path(self._lock.lock_file).unlink(missing_ok=True)
            self._lock.release()
            self.hidden.rmdir()
            self.path.rmdir()

    def _check(self) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise NotADirectoryError(f"{self.path} is a file; wanted a folder to write to.")
        with self._explained():
            names = {entry.name for entry in self.path.iterdir()} if self.path.exists() else set()
        names -= _HARMLESS
        foreign = sorted(names - _OURS if names & {_HIDDEN, NOTE} else names)
        if foreign:
            raise ValueError(
                f"{self.path} is not empty: it holds {', '.join(foreign[:_MOST_NAMES])}, which no "
                "preparation wrote. Give another OUT, or an empty folder."
            )

    def begin(self, plan: Plan, settings: PreparationSettings) -> dict[str, ShardRecord]:
        """Note what is to be done, or find what earlier runs have done of it.

        Args:
            plan: What is to be prepared.
            settings: How; `overwrite` deletes what is there, `retry_failed` forgets shards in which
                a sample failed.

        Returns:
            The records of the shards that are done, by key.

        Raises:
            ValueError: If an earlier run had other settings or sources.
            OSError: If the folder cannot be written.
        """
        samples = {shard.key: [sample.name for sample in shard.samples] for shard in plan.shards}
        wanted = {
            "format_version": _PLAN_VERSION,
            "settings": settings.content(),
            "samples": samples,
        }
        with self._explained():
            if settings.overwrite:
                self._clear()
            elif self._plan.exists():
                self._require_same(wanted)
            elif self.is_complete:
                raise ValueError(
                    f"{self.path} is complete, but the notes of its preparation are gone, so it "
                    "cannot be gone on with. Give another OUT, or begin anew with --overwrite."
                )
            shutil.rmtree(self.partial, ignore_errors=True)
            self.partial.mkdir()
            if not self._plan.exists():
                self.write(self._plan, json.dumps(wanted))
            return self._records(samples.keys(), settings.retry_failed)

    def finish(self, records: Collection[ShardRecord], texts: Mapping[str, str]) -> None:
        """Put everything in its place.

        Args:
            records: Those of all shards.
            texts: Other files to write, by name, in this order.

        Raises:
            OSError: If it cannot be done; the next run will go on.
        """
        places = places_of(records)
        with self._explained():
            self.write(self._places, json.dumps(places))
            for key, name in places.items():
                target = self.path / name
                target.parent.mkdir(exist_ok=True)
                if self._shard_file(key).exists():
                    self._shard_file(key).replace(target)
            for name, text in texts.items():
                self.write(self.path / name, text)

    def write(self, path: Path, text: str) -> None:
        """Write a text file that is complete or not there.

        Raises:
            OSError: If it cannot be written.
        """
        with self._explained(), put_in_place(path, self.partial) as unfinished:
            unfinished.write_text(text, encoding="utf-8")

    def _require_same(self, wanted: Mapping[str, Any]) -> None:
        advice = "Give another OUT, or begin anew with --overwrite"
        try:
            earlier = json.loads(self._plan.read_text(encoding="utf-8"))
            version, settings, samples = (earlier[key] for key in wanted)
        except (ValueError, KeyError) as error:
            raise ValueError(f"{self._plan} is damaged. {advice}.") from error
        if version != _PLAN_VERSION:
            raise ValueError(
                f"{self.path} was begun by another version of unimiss_hf (plan {version}, and this "
                f"one writes {_PLAN_VERSION}). {advice}."
            )
        changes = [
            f"{name} {settings.get(name)!r} (now {value!r})"
            for name, value in wanted["settings"].items()
            if settings.get(name) != value
        ]
        if changes:
            raise ValueError(
                f"{self.path} was begun with other settings: {'; '.join(changes)}. {advice}."
            )
        before, now = _names(samples), _names(wanted["samples"])
        if before != now:
            changed = [_described(now - before, "new"), _described(before - now, "gone")]
            raise ValueError(
                f"The sources are not those that {self.path} was begun with: "
                f"{'; '.join(filter(None, changed))}. Put them back as they were, prepare new "
                "images into a folder of their own, or begin anew with --overwrite."
            )
        if samples != wanted["samples"]:
            raise ValueError(f"{self.path} was begun with other splits. {advice}.")

    def _clear(self) -> None:
        """Delete what preparations wrote, but for the lock, which is held."""
        for name in (NOTE, REPORT, CARD):
            (self.path / name).unlink(missing_ok=True)
        for folder in (*(self.path / part for part in _PARTS), self.partial):
            if folder.is_dir():
                shutil.rmtree(folder)
        for entry in self.hidden.iterdir():
            if entry != Path(self._lock.lock_file):
                entry.unlink()

    def _records(self, keys: Collection[str], retry_failed: bool) -> dict[str, ShardRecord]:
        records: dict[str, ShardRecord] = {}
        for key in keys:
            # One that is missing or damaged is of a shard that is not done.
            with contextlib.suppress(OSError, ValueError, TypeError):
                records[key] = ShardRecord.load(self._record_file(key))
        places = self._noted_places()
        again = [
            key
            for key, record in records.items()
            if (retry_failed and record.num_failed) or not self._is_whole(record, places.get(key))
        ]
        if again or len(records) < len(keys):
            self._take_back(places)
        for key in again:
            self._record_file(key).unlink()
            del records[key]
        return records

    def _noted_places(self) -> dict[str, Path]:
        """Where the files of shards were put, or were about to be, by key."""
        if not self._places.exists():
            return {}
        noted = json.loads(self._places.read_text(encoding="utf-8"))
        return {key: self.path / name for key, name in noted.items()}

    def _is_whole(self, record: ShardRecord, place: Path | None) -> bool:
        """Whether the file of a shard is there, in its place or in the hidden folder."""
        files = [self._shard_file(record.key), *([place] if place else [])]
        sizes = [file.stat().st_size for file in files if file.is_file()]
        return not record.num_samples or record.num_bytes in sizes

    def _take_back(self, places: Mapping[str, Path]) -> None:
        """Make a complete folder one that is under way again."""
        (self.path / NOTE).unlink(missing_ok=True)
        for key, place in places.items():
            if place.exists():
                place.replace(self._shard_file(key))
        self._places.unlink(missing_ok=True)

    def _record_file(self, key: str) -> Path:
        return self.hidden / f"{key}.json"

    def _shard_file(self, key: str) -> Path:
        return self.hidden / f"{key}.parquet"

    def _explained(self) -> contextlib.AbstractContextManager[None]:
        return explained_writes(str(self.path), HOW_TO_GO_ON)


def places_of(records: Collection[ShardRecord]) -> dict[str, str]:
    """Where the files of shards belong in a complete folder, by key.

    They are numbered without gaps: a shard without rows has no file.
    """
    groups: dict[tuple[str, str], list[str]] = {}
    for record in sorted(records, key=lambda record: record.key):
        if record.num_samples:
            groups.setdefault((record.part, record.split), []).append(record.key)
    return {
        key: f"{part}/{split}-{index:05d}-of-{len(keys):05d}.parquet"
        for (part, split), keys in groups.items()
        for index, key in enumerate(keys)
    }


def _names(samples: Mapping[str, Sequence[str]]) -> set[str]:
    return {name for names in samples.values() for name in names}


def _described(names: Collection[str], state: str) -> str:
    """`5 are new (a, b, c, ...)`; "" if there are none."""
    if not names:
        return ""
    some = ", ".join(sorted(names)[:_MOST_NAMES]) + ", ..." * (len(names) > _MOST_NAMES)
    return f"{len(names)} {'is' if len(names) == 1 else 'are'} {state} ({some})"
