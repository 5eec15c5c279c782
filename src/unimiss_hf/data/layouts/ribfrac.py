"""RibFrac, as it is unpacked: `ribfrac-train-images-1/Part1/RibFrac1-image.nii.gz` and so on."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path

from ..sources import visible_files
from .item import Layout, Problem, SourceItem
from .licenses import CC_BY_NC_4
from .tables import read_rows
from .tree import each_once, has_root, require_root, unfinished

_TITLE = "RibFrac"
_IMAGE = r"RibFrac(\d+)-image\.nii(?:\.gz)?"
_FOLDER = r"(?:ribfrac-)?(?:train|val|test)(?:ing|idation)?(?:-images(?:-\d)?)?|Part\d|images"
_PATTERNS = tuple(f"(?:{_FOLDER})/" * depth + _IMAGE for depth in range(4))
_TABLE = r"ribfrac-.*info.*\.csv"
_FIRST_OF_VALIDATION, _FIRST_OF_TEST = 421, 501


def _items(folder: Path) -> Iterator[SourceItem | Problem]:
    root = require_root(folder, _PATTERNS, _TITLE)
    files = visible_files(root)
    yield from unfinished(root, files)
    found = {path: match for path in files if (match := re.fullmatch(_IMAGE, path.name))}
    yield from each_once(
        SourceItem(name, "3d", (path,), _split(int(match[1])), patient=name)
        for path, match in found.items()
        for name in [f"RibFrac{match[1]}"]
    )
    names = {f"RibFrac{match[1]}" for match in found.values()}
    for table in files:
        if re.fullmatch(_TABLE, table.name):
            listed = dict.fromkeys(row["public_id"] for row in read_rows(table, ["public_id"]))
            for name in listed:
                if name not in names:
                    yield Problem(
                        name, f"is listed in {table}, but not there. Download its images again."
                    )


def _split(number: int) -> str:
    """The split of a number: the folders of the download can be renamed, numbers stay."""
    if number < _FIRST_OF_VALIDATION:
        return "train"
    return "validation" if number < _FIRST_OF_TEST else "test"


RIBFRAC = Layout(
    name="ribfrac",
    title=_TITLE,
    homepage="https://ribfrac.grand-challenge.org/dataset/",
    license=CC_BY_NC_4,
    citation=(
        "Jin L, Yang J, Kuang K, et al. Deep-learning-assisted detection and segmentation of rib "
        "fractures from CT scans: development and validation of FracNet. EBioMedicine 62, 103106 "
        "(2020). https://doi.org/10.1016/j.ebiom.2020.103106"
    ),
    dimensions=("3d",),
    recognise=functools.partial(has_root, patterns=_PATTERNS),
    items=_items,
)
"""Chest CTs of 660 patients: 420 to train with, 80 for validation, 160 to test."""
