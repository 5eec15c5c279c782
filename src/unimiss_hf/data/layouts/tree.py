"""Looking into the folders of a downloaded data set: a few names to know it, all to list it."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ..image_files import is_image_file
from ..sources import suffix_of
from .item import Problem, SourceItem

# How much of a folder is looked at to tell what it is: it may hold a million files.
_MOST_ENTRIES = 1000
_MOST_FOLDERS = 100
# What browsers, gsutil, aria2, wget-like tools and the NBIA Data Retriever call unfinished files.
_UNFINISHED = (".part", ".partial", ".crdownload", ".download", ".gstmp", ".aria2", ".tmp")


def find_root(folder: Path, patterns: Sequence[str]) -> Path | None:
    """The folder of a data set: `folder`, or the one folder in it, as a download wraps it.

    Args:
        folder: where to look.
        patterns: paths below a data set's folder of which it has at least one: regular expressions
            of names, joined by "/". Hidden names never match.

    Returns:
        The folder; `None` if neither looks like it.
    """
    for candidate in (folder, *_wrapped_in(folder)):
        if any(has_path(candidate, pattern) for pattern in patterns):
            return candidate
    return None


def has_root(folder: Path, patterns: Sequence[str]) -> bool:
    """Whether a folder is, or wraps, that of a data set, see `find_root`."""
    return find_root(folder, patterns) is not None


def require_root(folder: Path, patterns: Sequence[str], title: str) -> Path:
    """The folder of a data set, see `find_root`.

    Raises:
        ValueError: if there is none.
    """
    root = find_root(folder, patterns)
    if root is None:
        raise ValueError(
            f"{folder} does not look like {title}: it has no path like {patterns[0]}. Pass the "
            f"folder that was unpacked."
        )
    return root


def has_path(folder: Path, pattern: str) -> bool:
    """Whether a folder has a path whose names match, see `find_root`; of many, some are tried."""
    name, _, rest = pattern.partition("/")
    for entry in _first_entries(folder):
        if re.fullmatch(name, entry.name) and (
            not rest or (entry.is_dir() and has_path(Path(entry.path), rest))
        ):
            return True
    return False


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, sorted, hidden ones left out; of many, the first that are found."""
    found = [Path(entry.path) for entry in _first_entries(folder) if entry.is_dir()]
    return sorted(found)[:_MOST_FOLDERS]


def _wrapped_in(folder: Path) -> list[Path]:
    """The one folder in a folder; none if there are several, or images beside it."""
    entries = _first_entries(folder)
    folders = [entry for entry in entries if entry.is_dir()]
    if len(folders) != 1:
        return []
    # Images beside the data set would be lost without a word.
    if any(entry.is_file() and is_image_file(Path(entry.path)) for entry in entries):
        return []
    return [Path(folders[0].path)]


def _first_entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            visible = (entry for entry in entries if not entry.name.startswith("."))
            return list(itertools.islice(visible, _MOST_ENTRIES))
    except (PermissionError, NotADirectoryError):
        # A disk's lost+found, say: nothing that could be prepared.
        return []


def path_below(root: Path, path: Path) -> str:
    """A path below a data set's folder as text, with "/" on every system."""
    return path.relative_to(root).as_posix()


def stem_of(path: Path) -> str:
    """A file's name without its suffix; `.nii.gz` is one."""
    return path.name[: -len(suffix_of(path))] if suffix_of(path) else path.name


def unfinished(root: Path, files: Iterable[Path]) -> Iterator[Problem]:
    """Yield a problem for each file that a download left unfinished."""
    for path in files:
        if path.name.lower().endswith(_UNFINISHED):
            yield Problem(path_below(root, path), "is an unfinished download. Download it again.")


def each_once(contents: Iterable[SourceItem | Problem]) -> Iterator[SourceItem | Problem]:
    """Pass contents on; a second item of a name becomes a problem that says where both lie."""
    seen: dict[str, Path] = {}
    for content in contents:
        if isinstance(content, SourceItem):
            first = seen.setdefault(content.name, content.files[0])
            if first != content.files[0]:
                reason = f"is there twice: {content.files[0]} is passed over for {first}."
                yield Problem(content.name, reason, is_missing=False)
                continue
        yield content
