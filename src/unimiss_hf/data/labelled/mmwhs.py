"""MM-WHS, as it is unpacked: `ct_train/ct_train_1001_image.nii.gz`, `mr_train/...` and so on."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path

from ..layouts.item import Problem
from ..layouts.licenses import unstated
from ..layouts.tree import has_root, require_root, unfinished
from ..sources import visible_files
from .case import LabelledCase, LabelledData, LabelledLayout
from .image_and_label import by_key, join_labels, sorted_out
from .label_values import label_image
from .options import refuse_unknown, require_choice

_TITLE = "MM-WHS"
_HOMEPAGE = "https://zmiclab.github.io/zxh/0/mmwhs/"
_FILE = r"((ct|mr)_(train|test)_\d{4})_(image|label)\.nii(?:\.gz)?"
_FOLDER = r"(?:ct|mr)_(?:train|test)\d?"
_PATTERNS = (f"{_FOLDER}/{_FILE}", _FILE)

STRUCTURES = {
    "left ventricle": 500,
    "right ventricle": 600,
    "left atrium": 420,
    "right atrium": 550,
    "left ventricular myocardium": 205,
    "ascending aorta": 820,
    "pulmonary artery": 850,
}
"""What is drawn, with the values that the files have for it."""

_NAMES = ("background", *STRUCTURES)
_NUMBERS = {0: 0} | {value: number for number, value in enumerate(STRUCTURES.values(), start=1)}
# A few voxels of the left atrium of mr_train_1010 are written so.
_MISWRITTEN = {421: _NUMBERS[420]}
_OPTIONS = {"modality": "ct (default) or mr"}


def _read(folder: Path, *, modality: str = "ct", **others: object) -> LabelledData:
    refuse_unknown(others, _OPTIONS, _TITLE)
    modality = require_choice("modality", modality, ("ct", "mr"), _TITLE)
    root = require_root(folder, _PATTERNS, _TITLE)
    cases, problems = sorted_out(_contents(root, modality))
    if not cases and not problems:
        raise ValueError(f"{root} has no {modality} scans of {_TITLE}. Download them, too.")
    return LabelledData(_NAMES, cases, problems=problems)


def _contents(root: Path, modality: str) -> Iterator[LabelledCase | Problem]:
    files = visible_files(root)
    yield from unfinished(root, files)
    images, further_images = by_key(root, files, functools.partial(_scan, modality, "image"))
    labels, further_labels = by_key(root, files, functools.partial(_scan, modality, "label"))
    yield from [*further_images, *further_labels]
    yield from join_labels(images, labels, root, _case, lambda name: "_test_" in name)


def _scan(modality: str, kind: str, path: Path) -> str:
    """Which scan of a modality a file is an image or a label of; "" if it is none."""
    match = re.fullmatch(_FILE, path.name)
    return match[1] if match and (match[2], match[4]) == (modality, kind) else ""


def _case(name: str, image: Path, label: Path | None) -> LabelledCase:
    return LabelledCase(
        name=name,
        dimension="3d",
        files=(image,),
        split="test" if "_test_" in name else "train",
        patient=name,
        label_files=() if label is None else (label,),
        load_labels=_mr_labels if name.startswith("mr") else _ct_labels,
    )


def _ct_labels(case: LabelledCase) -> object:
    return label_image(case, _NUMBERS)


def _mr_labels(case: LabelledCase) -> object:
    return label_image(case, _NUMBERS | _MISWRITTEN)


MMWHS = LabelledLayout(
    name="mmwhs",
    title=_TITLE,
    homepage=_HOMEPAGE,
    license=unstated(_HOMEPAGE),
    citation=(
        "Zhuang X, Li L, Payer C, et al. Evaluation of algorithms for multi-modality whole heart "
        "segmentation: an open-access grand challenge. Medical Image Analysis 58, 101537 (2019). "
        "Zhuang X, Shen J. Multi-scale patch and multi-modality atlases for whole heart "
        "segmentation of MRI. Medical Image Analysis 31, 77-87 (2016)."
    ),
    task="segmentation",
    dimension="3d",
    recognise=functools.partial(has_root, patterns=_PATTERNS),
    read=_read,
    options=_OPTIONS,
)
"""CTs and MRs of the heart, 60 each, seven structures drawn in 20 of each."""
