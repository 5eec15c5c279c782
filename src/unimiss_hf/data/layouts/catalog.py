"""The data sets whose folders are known by name, and telling which of them a folder is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ...input_checks_mit import did_you_mean, near_matches, near_names
from .chestxray14 import CHESTXRAY14
from .covid19 import CT_IMAGES_IN_COVID_19
from .deeplesion import DEEPLESION
from .item import Layout
from .lidc import LIDC_IDRI
from .mots import MOTS
from .ribfrac import RIBFRAC
from .tianchi import TIANCHI
from .tree import subfolders

LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        LIDC_IDRI,
        TIANCHI,
        RIBFRAC,
        CT_IMAGES_IN_COVID_19,
        MOTS,
        DEEPLESION,
        CHESTXRAY14,
    )
}
"""By name: the CT data sets of UniMiSS and UniMiSS+, then their radiographs."""


def find_layout(folder: str | Path, name: str | None = None) -> Layout | None:
    """Tell which data set a folder is.

    Args:
        folder: the data set's own folder, or the one that its download wraps it in.
        name: the data set's name, a key of `LAYOUTS`, where the caller knows it.

    Returns:
        The layout; `None` if no `name` is given, and neither the folder nor one in it is such a
        data set.

    Raises:
        FileNotFoundError, NotADirectoryError: if there is no such folder.
        ValueError: if there is no layout called `name`, or the folder does not look like it; if it
            looks like several; if not the folder but one in it looks like a data set: the message
            says which.
    """
    folder = Path(folder).expanduser()
    if not folder.exists():
        raise FileNotFoundError(
            f"There is no folder {folder}.{did_you_mean(near_matches(folder, hidden=False))}"
        )
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; wanted the folder of a data set.")
    candidates = LAYOUTS if name is None else {name: _named(name)}
    found = [layout for layout in candidates.values() if layout.recognise(folder)]
    if len(found) > 1:
        raise ValueError(
            f"{folder} looks like several data sets: {', '.join(layout.name for layout in found)}. "
            f"Say which it is, or pass one of its folders."
        )
    if found:
        return found[0]
    inside = list(_recognised_inside(folder, candidates))
    if inside:
        listing = ", ".join(f"{path} ({layout.title})" for path, layout in inside)
        raise ValueError(
            f"{folder} is no data set by itself, but holds some: pass {listing}. Or say that its "
            f"layout is folder, to take every image below it, labels among them."
        )
    if name is None:
        return None
    raise ValueError(
        f"{folder} does not look like {LAYOUTS[name].title}: its folders and names are not those "
        f"of the download ({LAYOUTS[name].homepage})."
    )


def _named(name: str) -> Layout:
    if name not in LAYOUTS:
        raise ValueError(
            f"There is no layout {name!r}; there are {', '.join(LAYOUTS)}."
            f"{did_you_mean(near_names(name, LAYOUTS))}"
        )
    return LAYOUTS[name]


def _recognised_inside(
    folder: Path, candidates: dict[str, Layout]
) -> Iterator[tuple[Path, Layout]]:
    for path in subfolders(folder):
        yield from ((path, layout) for layout in candidates.values() if layout.recognise(path))
