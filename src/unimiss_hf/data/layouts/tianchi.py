"""The lung nodule competition of Tianchi, as it is unpacked: `train_subset00/LKDS-00001.mhd`."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path

from ..sources import visible_files
from .item import Layout, Problem, SourceItem
from .licenses import unstated
from .metaimage import load_metaimage, voxel_file
from .tables import read_rows
from .tree import each_once, has_root, path_below, require_root, unfinished

_TITLE = "Tianchi lung nodules"
_HOMEPAGE = "https://tianchi.aliyun.com/competition/entrance/231601"
_HEADER = r"LKDS-\d+\.mhd"
_VOXELS = r"LKDS-\d+\.z?raw"
_FOLDER = r"(train|val|test)(?:_subset\d+)?"
_PATTERNS = tuple(f"{_FOLDER}/" * depth + _HEADER for depth in (1, 0, 2))
_SPLITS = {"train": "train", "val": "validation", "test": "test"}
_TABLE = "annotations.csv"


def _items(folder: Path) -> Iterator[SourceItem | Problem]:
    root = require_root(folder, _PATTERNS, _TITLE)
    files = visible_files(root)
    yield from unfinished(root, files)
    headers = [path for path in files if re.fullmatch(_HEADER, path.name)]
    yield from each_once(_of_header(root, header) for header in headers)
    present = {path.stem for path in headers}
    for path in files:
        if re.fullmatch(_VOXELS, path.name) and path.stem not in present:
            reason = "has voxels, but no header (.mhd) beside it. Download it again."
            yield Problem(path_below(root, path), reason)
        if path.name == _TABLE:
            yield from _missing(path, present)


def _of_header(root: Path, header: Path) -> SourceItem | Problem:
    try:
        voxels = voxel_file(header)
    except (OSError, ValueError) as error:
        return Problem(header.stem, str(error))
    if not voxels.is_file():
        reason = f"has a header, {header}, but its voxels, {voxels.name}, are not there."
        return Problem(header.stem, f"{reason} Download them again.")
    return SourceItem(
        name=header.stem,
        dimension="3d",
        files=tuple(dict.fromkeys((header, voxels))),
        split=_split(root, header),
        patient=header.stem,
        load=load_metaimage,
    )


def _split(root: Path, header: Path) -> str:
    """By the nearest folder that says it; its own folder may be all that was passed."""
    for part in reversed((root.resolve().name, *header.relative_to(root).parts)):
        match = re.fullmatch(_FOLDER, part)
        if match:
            return _SPLITS[match[1]]
    return "train"


def _missing(table: Path, present: set[str]) -> Iterator[Problem]:
    for series in dict.fromkeys(row["seriesuid"] for row in read_rows(table, ["seriesuid"])):
        name = series.replace("_", "-")
        if name not in present:
            yield Problem(name, f"is listed in {table}, but not there. Download it again.")


TIANCHI = Layout(
    name="tianchi",
    title=_TITLE,
    homepage=_HOMEPAGE,
    license=unstated(_HOMEPAGE),
    citation=f"Tianchi medical AI competition, season 1: lung nodules (2017). {_HOMEPAGE}",
    dimensions=("3d",),
    recognise=functools.partial(has_root, patterns=_PATTERNS),
    items=_items,
)
"""Chest CTs of patients with lung nodules, a scan each, as MetaImage."""
