"""ChestX-ray14 (ChestX-ray8 with more labels), as the NIH Clinical Center gives it away.

Images are `images/00000001_000.png`, or `images_001/images/...` to `images_012/images/...`. Beside
these lie `Data_Entry_2017.csv` or `Data_Entry_2017_v2020.csv`, which list all images, and the
official split by patient, `train_val_list.txt` and `test_list.txt`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from ..sources import visible_files
from .item import Layout, License, Problem, SourceItem
from .tables import read_rows
from .tree import each_once, has_root, require_root, unfinished

TITLE = "ChestX-ray14"
_HOMEPAGE = "https://nihcc.app.box.com/v/ChestXray-NIHCC"
_IMAGE = r"(\d{8})_\d{3}\.png"
PATTERNS = (f"images/{_IMAGE}", rf"images_\d{{3}}/images/{_IMAGE}", rf"images_\d{{3}}/{_IMAGE}")
TABLES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
SPLITS = {"train_val_list.txt": "train", "test_list.txt": "test"}


def _items(folder: Path) -> Iterator[SourceItem | Problem]:
    root = require_root(folder, PATTERNS, TITLE)
    files = visible_files(root)
    yield from unfinished(root, files)
    table = next((name for name in TABLES if (root / name).is_file()), None)
    patients = _patients(root / table) if table else {}
    lists = {name: _images_of(root / name) for name in SPLITS if (root / name).is_file()}
    splits = {image: SPLITS[name] for name, images in lists.items() for image in images}
    found = {path: match for path in files if (match := re.fullmatch(_IMAGE, path.name))}
    yield from each_once(
        SourceItem(
            name=path.stem,
            dimension="2d",
            files=(path,),
            split=splits.get(path.name, "train"),
            patient=patients.get(path.name) or match[1],
        )
        for path, match in found.items()
    )
    present = {path.name for path in found}
    if table is None:
        reason = "is not there, so that nothing tells whether all images are. Download it."
        yield Problem(" or ".join(TABLES), reason, is_missing=False)
    for name in SPLITS.keys() - lists:
        reason = "is not there: images that no list names are taken as train. Download it."
        yield Problem(name, reason, is_missing=False)
    listings = ({table: set(patients)} if table else {}) | lists
    yield from _not_there(listings, present)
    not_in_table = present - patients.keys() if table else set()
    yield from _not_listed(not_in_table, f"in {table}; it is taken all the same")
    if len(lists) == len(SPLITS):
        not_in_lists = present - splits.keys() - not_in_table
        yield from _not_listed(not_in_lists, f"in {' or '.join(SPLITS)}; it is taken as train")


def _patients(table: Path) -> dict[str, str]:
    """Image file → patient, in the eight digits that file names have."""
    rows = read_rows(table, ("Image Index", "Patient ID"))
    return {row["Image Index"]: row["Patient ID"].zfill(8) for row in rows}


def _images_of(split_list: Path) -> set[str]:
    return set(split_list.read_text(encoding="utf-8-sig").split())


def _not_there(listings: Mapping[str, set[str]], present: set[str]) -> Iterator[Problem]:
    for image in sorted(set().union(*listings.values()) - present):
        places = " and ".join(name for name, images in listings.items() if image in images)
        yield Problem(Path(image).stem, f"is listed in {places}, but not there. Download it again.")


def _not_listed(images: Iterable[str], place: str) -> Iterator[Problem]:
    for image in sorted(images):
        yield Problem(Path(image).stem, f"is not listed {place}.", is_missing=False)


CHESTXRAY14 = Layout(
    name="chestxray14",
    title=TITLE,
    homepage=_HOMEPAGE,
    license=License(
        "other", "unrestricted, with attribution to the NIH Clinical Center", _HOMEPAGE
    ),
    citation=(
        "Wang X, Peng Y, Lu L, Lu Z, Bagheri M, Summers RM. ChestX-ray8: hospital-scale chest "
        "X-ray database and benchmarks on weakly-supervised classification and localization of "
        "common thorax diseases. CVPR (2017)."
    ),
    dimensions=("2d",),
    recognise=functools.partial(has_root, patterns=PATTERNS),
    items=_items,
)
"""112,120 frontal radiographs of 30,805 patients of the NIH Clinical Center."""
