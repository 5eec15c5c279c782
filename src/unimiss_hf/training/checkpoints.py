"""Checkpoint folders that are either complete or not there."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .ranking import Ranking

logger = logging.getLogger(__name__)

MANIFEST = "checkpoint.json"
# A link to the best checkpoint, for people and programs; which one that is, manifests alone tell.
_BEST = "best"
_FORMAT_VERSION = 1
_COMPLETE = re.compile(r"step-(\d{8,})")
# A complete checkpoint that was set aside for a new one of the same step, not yet in place.
_SET_ASIDE = re.compile(r"\.step-(\d{8,})\.replaced")
_LEFTOVER = re.compile(r"\.step-\d{8,}\.(?:partial|deleted)-\d+")
# Below this much free space (bytes), a failed write is put down to a full disk.
_FULL = 2**20
# How safetensors' errors end that come from the system
_RUST_ERROR = re.compile(r"\(os error (\d+)\)")
# Windows flushes only what is open for writing.
_FLUSHABLE = "r+b" if os.name == "nt" else "rb"


class _DamageError(Exception):
    """What is wrong with a checkpoint."""


class CheckpointStore:
    """A folder of checkpoints `step-00000120`, safe against a kill at any moment.

    A checkpoint is filled under another name, flushed to the disk, described by a manifest
    `checkpoint.json` with the size and checksum of each file, and renamed into place. It is deleted
    the other way round: renamed first. So a folder of that name is complete, and the manifest tells
    whether it still is what was written.

    With a ranking, the manifest also holds the checkpoint's value. The best checkpoint is kept
    beyond `max_checkpoints`, and a link `best` leads to it.

    One process writes; any number may call [`latest`] and [`steps`], which change nothing.

    Args:
        folder: Where the checkpoints are. It is made at the first save.
        max_checkpoints: How many to keep; `None` keeps all.
        ranking: Which of them is the best; `None`: nothing says so.

    Raises:
        NotADirectoryError: If `folder` is something else than a folder.
        ValueError: If `max_checkpoints` is less than 1.

    ```python
    >>> store = CheckpointStore(Path("run/checkpoints"))
    >>> store.save(120, lambda folder: model.save_pretrained(folder))
    PosixPath('run/checkpoints/step-00000120')
    ```
    """

    def __init__(
        self, folder: Path, max_checkpoints: int | None = 3, ranking: Ranking | None = None
    ):
        if max_checkpoints is not None and max_checkpoints < 1:
            raise ValueError(
                f"max_checkpoints is {max_checkpoints}; give at least 1, or None to keep all."
            )
        self.folder = Path(folder)
        self.max_checkpoints = max_checkpoints
        self.ranking = ranking
        self._check_folder()

    def steps(self) -> list[int]:
        """List the steps of the complete checkpoints, in order, whether or not they are intact."""
        return sorted(self._complete())

    def latest(self) -> Path | None:
        """Find the newest checkpoint whose files are all as they were written.

        Each damaged one is named in a warning, and the one before it is taken.

        Returns:
            Its folder, or `None` if there is none.

        Raises:
            NotADirectoryError: If the store's folder is something else than a folder.
            ValueError: If the newest intact one was written by a newer version of this library.
        """
        checkpoints = self._complete()
        for step in sorted(checkpoints, reverse=True):
            try:
                _check(checkpoints[step], step)
            except _DamageError as damage:
                logger.warning(
                    "Checkpoint %s is damaged and passed over: %s.", checkpoints[step], damage
                )
            else:
                return checkpoints[step]
        if checkpoints:
            logger.warning(
                "None of the %d checkpoints in %s is intact.", len(checkpoints), self.folder
            )
        return None

    def folder_of(self, step: int) -> Path:
        """Where the checkpoint of a step is, once it is written."""
        return self.folder / f"step-{step:08d}"

    def best(self, until: int | None = None) -> tuple[int, float] | None:
        """Find the best checkpoint, the earliest of equal ones, whether or not it is intact.

        Args:
            until: The last step that counts; `None` counts all.

        Returns:
            Its step and its value, or `None` if none has a value, or if there is no ranking.
        """
        if self.ranking is None:
            return None
        values = {
            step: value
            for step, checkpoint in self._complete().items()
            if (until is None or step <= until) and (value := self._value(checkpoint)) is not None
        }
        if not values:
            return None
        step = min(values, key=lambda step: (self.ranking.key(values[step]), step))
        return step, values[step]

    def save(self, step: int, write: Callable[[Path], None], value: float | None = None) -> Path:
        """Write a checkpoint, then delete those beyond `max_checkpoints`, but for the best one.

        A checkpoint of the same step is replaced. Those of later steps, which a run leaves behind
        when it continued from an earlier one, are the first to be deleted.

        Args:
            step: Optimiser steps taken so far.
            write: Fills the empty folder that it is called with.
            value: What the ranking judges it by; `None`: it is not judged.

        Returns:
            The folder `step-...`.

        Raises:
            OSError: If it cannot be written: disk full, no permission. Earlier checkpoints remain.
            ValueError: If `step` is negative or `write` makes a file `checkpoint.json`.
        """
        if step < 0:
            raise ValueError(f"A checkpoint's step cannot be negative, got {step}.")
        target = self.folder_of(step)
        partial = self.folder / f".{target.name}.partial-{os.getpid()}"
        try:
            self._check_folder()
            if target.exists() and not target.is_dir():
                raise FileExistsError(errno.EEXIST, "a file of this name is in the way", target)
            self.folder.mkdir(parents=True, exist_ok=True)
            self._clean()
            partial.mkdir()
            write(partial)
            _seal(partial, step, self._score(value))
            self._put_in_place(partial, target)
        except BaseException as error:
            number = self._system_error(error)
            # What cannot be deleted now is ignored, and deleted at the next save.
            with contextlib.suppress(OSError):
                _delete(partial)
            if isinstance(error, OSError) or number is not None:
                raise self._explain(error, number, target) from error
            error.add_note(f"The checkpoint {target} was not written; earlier ones remain.")
            raise
        best, _ = self.best(until=step) or (None, None)
        self._link_best(best)
        self._prune(step, kept=best)
        return target

    # ------------------------------------------------------------------------------- one save

    def _put_in_place(self, partial: Path, target: Path) -> None:
        # A folder that is not empty cannot be renamed over. Between these two renames, the old
        # checkpoint still counts under the name that it is set aside by.
        set_aside = target.with_name(f".{target.name}.replaced")
        replaces = target.exists()
        if replaces:
            target.replace(set_aside)
        try:
            partial.replace(target)
        except BaseException:
            if replaces and not target.exists():
                set_aside.replace(target)
            raise
        _flush_folder(self.folder)
        if replaces:
            self._discard(set_aside)

    def _clean(self) -> None:
        """Put right what a kill left behind."""
        for path in list(self.folder.iterdir()):
            if set_aside := _SET_ASIDE.fullmatch(path.name):
                target = self.folder / f"step-{set_aside[1]}"
                if target.exists():
                    self._discard(path)
                else:
                    path.replace(target)
            elif _LEFTOVER.fullmatch(path.name):
                try:
                    _delete(path)
                except OSError as error:
                    logger.warning("%s, left by a kill, could not be deleted: %s.", path, error)

    def _prune(self, written: int, kept: int | None) -> None:
        if self.max_checkpoints is None:
            return
        others = sorted(set(self.steps()) - {written}, key=lambda step: (step > written, -step))
        for step in others[self.max_checkpoints - 1 :]:
            if step != kept:
                self._discard(self._complete()[step])

    def _discard(self, checkpoint: Path) -> None:
        doomed = checkpoint.with_name(
            f".{checkpoint.name.removeprefix('.').removesuffix('.replaced')}.deleted-{os.getpid()}"
        )
        try:
            checkpoint.replace(doomed)
            _delete(doomed)
        except OSError as error:
            # The new checkpoint is there; a run does not end for an old one.
            logger.warning("The old checkpoint %s could not be deleted: %s.", checkpoint, error)

    # ------------------------------------------------------------------------------- the best

    def _score(self, value: float | None) -> dict[str, Any] | None:
        if self.ranking is None or value is None:
            return None
        return {"metric": self.ranking.metric, "value": value}

    def _value(self, checkpoint: Path) -> float | None:
        """Read a checkpoint's value of the ranking's metric, if it has one."""
        try:
            score = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))["score"]
            return float(score["value"]) if score["metric"] == self.ranking.metric else None
        except (OSError, ValueError, KeyError, TypeError):
            # Judged by nothing, or damaged: that is told where a checkpoint is opened.
            return None

    def _link_best(self, step: int | None) -> None:
        link = self.folder / _BEST
        try:
            if step is None:
                if link.is_symlink():
                    link.unlink()
                return
            target = self.folder_of(step).name
            partial = self.folder / f".{target}.partial-{os.getpid()}"
            if not link.is_symlink() or link.readlink() != Path(target):
                partial.symlink_to(target, target_is_directory=True)
                partial.replace(link)
        except OSError as error:
            # Not every file system has links, and the manifests tell as much.
            logger.warning("The link %s to the best checkpoint cannot be set: %s.", link, error)

    # ------------------------------------------------------------------------------- the folder

    def _complete(self) -> dict[int, Path]:
        self._check_folder()
        if not self.folder.exists():
            return {}
        found = {}
        for path in sorted(self.folder.iterdir()):
            # "." sorts before "s": what is in place wins over what was set aside.
            match = _COMPLETE.fullmatch(path.name) or _SET_ASIDE.fullmatch(path.name)
            if match:
                found[int(match[1])] = path
        return found

    def _check_folder(self) -> None:
        if self.folder.exists() and not self.folder.is_dir():
            raise NotADirectoryError(
                errno.ENOTDIR,
                "Checkpoints need a folder, and this is a file; move it away or give another",
                str(self.folder),
            )

    def _system_error(self, error: BaseException) -> int | None:
        """Find the system's error number behind an error, also where a library hides it."""
        if isinstance(error, OSError):
            return error.errno
        if not isinstance(error, Exception):
            return None
        # safetensors hands on the text of a Rust error, torch.save not even that.
        if match := _RUST_ERROR.search(str(error)):
            return int(match[1])
        with contextlib.suppress(OSError):
            if shutil.disk_usage(self.folder).free < _FULL:
                return errno.ENOSPC
        return None

    def _explain(self, error: BaseException, number: int | None, target: Path) -> OSError:
        reason, detail = os.strerror(number) if number is not None else str(error), str(error)
        if isinstance(error, OSError):
            reason, detail = error.strerror or reason, error.filename
        message = (
            f"Cannot write the checkpoint {target.name} in {self.folder}: {reason}"
            f"{f' ({detail})' if detail is not None else ''}. Checkpoints written before remain. "
            "Put this right (make room, give write permission) and run again."
        )
        return OSError(message) if number is None else OSError(number, message)


def _seal(folder: Path, step: int, score: dict[str, Any] | None) -> None:
    """Flush a folder's files to the disk, and describe them in its manifest."""
    manifest = folder / MANIFEST
    if manifest.exists():
        raise ValueError(
            f"A file {MANIFEST} was written into the checkpoint of step {step}; the store keeps "
            "that name for its list of files. Write it under another name."
        )
    files = {}
    for path in _files(folder):
        with path.open(_FLUSHABLE) as file:
            checksum = hashlib.file_digest(file, "blake2b").hexdigest()
            os.fsync(file.fileno())
        files[path.relative_to(folder).as_posix()] = {
            "size": path.stat().st_size,
            "blake2b": checksum,
        }
    content = {"format_version": _FORMAT_VERSION, "step": step, "files": files}
    if score is not None:
        content["score"] = score
    with manifest.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    for path in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        _flush_folder(path)


def _check(folder: Path, step: int) -> None:
    """Compare a checkpoint with its manifest."""
    files = _read_manifest(folder, step)
    try:
        # Sizes first: they tell of most damage without reading the files.
        for name, (size, _) in files.items():
            found = (folder / name).stat().st_size
            if found != size:
                raise _DamageError(f"{name} has {found} bytes instead of {size}")
        for name, (_, checksum) in files.items():
            with (folder / name).open("rb") as file:
                if hashlib.file_digest(file, "blake2b").hexdigest() != checksum:
                    raise _DamageError(f"{name} has another checksum than when it was written")
    except OSError as error:
        raise _DamageError(f"{error.filename} cannot be read ({error.strerror})") from error


def _read_manifest(folder: Path, step: int) -> dict[str, tuple[int, str]]:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        version = int(manifest["format_version"])
    except OSError as error:
        raise _DamageError(f"{MANIFEST} cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise _DamageError(f"{MANIFEST} is not what was written ({error!r})") from error
    if version > _FORMAT_VERSION:
        raise ValueError(
            f"{folder} has checkpoint format {version}, and this version of unimiss_hf reads up to "
            f"{_FORMAT_VERSION}. Update unimiss_hf to continue this run."
        )
    try:
        written_step = manifest["step"]
        files = {
            name: (entry["size"], entry["blake2b"]) for name, entry in manifest["files"].items()
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise _DamageError(f"{MANIFEST} is not what was written ({error!r})") from error
    if written_step != step:
        raise _DamageError(f"{MANIFEST} says step {written_step}")
    return files


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _flush_folder(folder: Path) -> None:
    if os.name == "nt":
        # Windows opens no folders; its file system keeps renames in a journal.
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
