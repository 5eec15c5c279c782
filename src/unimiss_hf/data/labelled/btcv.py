"""BTCV, as Synapse gives it away: `RawData/Training/img/img0001.nii.gz` and `label/label0001...`.

The labels of the 20 scans in `Testing` are not given away, so publications split the 30 others.
UniMiSS and CoTr train with 21 of them and test with those from number 32 on, as CoTr's conversion
(github.com/YtongXie/CoTr, Task017) writes them down; TransUNet and those who follow it test with 12
others.

The `averaged-training-images` of the same page are taken too; their names (`DET0000101_avg`) are
numbers of another kind, so these splits cannot be told of them.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path

from ..layouts.item import Problem
from ..layouts.licenses import unstated
from ..layouts.tree import has_root, require_root, stem_of, unfinished
from ..sources import visible_files
from .case import LabelledCase, LabelledData, LabelledLayout, Split
from .image_and_label import by_key, join_labels, sorted_out
from .label_values import label_image
from .options import refuse_unknown, require_choice

_TITLE = "BTCV"
_HOMEPAGE = "https://www.synapse.org/Synapse:syn3193805"
_NIFTI = r"\.nii(?:\.gz)?"
_IMAGE = rf"(?:img(\d{{4}})|(DET\d{{7}})_avg){_NIFTI}"
_LABEL = rf"(?:label(\d{{4}})|(DET\d{{7}})_avg_seg){_NIFTI}"
_PATTERNS = (
    rf"Training/img/{_IMAGE}",
    rf"RawData/Training/img/{_IMAGE}",
    rf"averaged-training-images/{_IMAGE}",
    rf"img/{_IMAGE}",
)
_UNLABELLED = re.compile("testing", re.IGNORECASE)

ORGANS = (
    "spleen",
    "right kidney",
    "left kidney",
    "gallbladder",
    "esophagus",
    "liver",
    "stomach",
    "aorta",
    "inferior vena cava",
    "portal vein and splenic vein",
    "pancreas",
    "right adrenal gland",
    "left adrenal gland",
)
"""In the order of their label values, from 1."""

_NAMES = ("background", *ORGANS)
_NUMBERS = {value: value for value in range(len(_NAMES))}
# Which labelled scans test; the others train.
_TESTED = {
    "cotr": frozenset(range(32, 41)),
    "transunet": frozenset((1, 2, 3, 4, 8, 22, 25, 29, 32, 35, 36, 38)),
    "none": frozenset[int](),
}
_OPTIONS = {
    "split": "cotr: 21 labelled scans train, 9 test, as of UniMiSS; transunet: 18 and 12; none"
}


def _read(folder: Path, *, split: str = "cotr", **others: object) -> LabelledData:
    refuse_unknown(others, _OPTIONS, _TITLE)
    split = require_choice("split", split, _TESTED, _TITLE)
    root = require_root(folder, _PATTERNS, _TITLE)
    cases, problems = sorted_out(_contents(root, split))
    return LabelledData(_NAMES, cases, problems=problems)


def _contents(root: Path, split: str) -> Iterator[LabelledCase | Problem]:
    files = visible_files(root)
    yield from unfinished(root, files)
    images, further_images = by_key(root, files, functools.partial(_key, _IMAGE))
    labels, further_labels = by_key(root, files, functools.partial(_key, _LABEL))
    yield from [*further_images, *further_labels]
    hidden = {key for key, path in images.items() if _is_unlabelled(root, path)}
    case_of = functools.partial(_case, split=split, hidden=hidden)
    yield from join_labels(images, labels, root, case_of, hidden.__contains__)
    if split != "none" and any(not key.isdigit() for key in images):
        reason = "says not which scan it is: averaged scans belong to no published split."
        yield Problem("DET..._avg", reason, is_missing=False)


def _key(pattern: str, path: Path) -> str:
    """The number of a scan; "" if the file is no such file."""
    match = re.fullmatch(pattern, path.name)
    return (match[1] or match[2]) if match else ""


def _is_unlabelled(root: Path, image: Path) -> bool:
    places = (root.resolve().name, *image.relative_to(root).parts[:-1])
    return any(_UNLABELLED.search(place) for place in places)


def _case(
    key: str, image: Path, label: Path | None, *, split: str, hidden: set[str]
) -> LabelledCase:
    return LabelledCase(
        name=stem_of(image),
        dimension="3d",
        files=(image,),
        split="test" if key in hidden else _split(key, split),
        patient=stem_of(image),
        label_files=() if label is None else (label,),
        load_labels=_labels,
    )


def _split(key: str, split: str) -> Split | None:
    if split == "none" or not key.isdigit():
        return None
    return "test" if int(key) in _TESTED[split] else "train"


def _labels(case: LabelledCase) -> object:
    return label_image(case, _NUMBERS)


BTCV = LabelledLayout(
    name="btcv",
    title=_TITLE,
    homepage=_HOMEPAGE,
    license=unstated(_HOMEPAGE),
    citation=(
        "Landman B, Xu Z, Igelsias JE, Styner M, Langerak TR, Klein A. MICCAI multi-atlas labeling "
        "beyond the cranial vault: workshop and challenge (2015). "
        "https://doi.org/10.7303/syn3193805"
    ),
    task="segmentation",
    dimension="3d",
    recognise=functools.partial(has_root, patterns=_PATTERNS),
    read=_read,
    options=_OPTIONS,
)
"""Abdominal CTs, portal venous phase: 30 with 13 organs drawn, 20 without."""
