"""ChestXR, the radiographs of the challenge "Chest XR COVID-19 detection".

Images are `train/covid/cov_1110.jpg`, `validation/pneumonia/pneu_0.png` and so on: a folder for
each split, and in it one for each class. Those of `test` have no labels, unless they lie in folders
of classes there too. UniMiSS+ trains on `train` and tests on `validation`: so does the option
`test_split: validation`, which leaves the folder `test` out.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ...input_checks_mit import did_you_mean, near_names
from ..image_files import is_named_like_an_image
from ..layouts.item import License, Problem
from ..layouts.tree import has_root, path_below, require_root, unfinished
from ..sources import visible_files
from .case import SPLITS, LabelledCase, LabelledData, LabelledLayout, Split
from .options import refuse_unknown, require_choice

_TITLE = "ChestXR"
_HOMEPAGE = "https://cxr-covid19.grand-challenge.org/"
# In the order of the official code's labels, 1 to 3.
_CLASSES = ("normal", "pneumonia", "covid")
_IMAGE = r"(?i:.+\.(?:png|jpe?g))"
_PATTERNS = tuple(f"{split}/(?i:covid)/{_IMAGE}" for split in ("train", "validation", "test"))
_LABELLED_SPLITS = ("train", "validation")
_WANTED_CLASSES = f"Classes are {', '.join(_CLASSES)}."
_OPTIONS = {"test_split": "the folder that is the test split: test or, as UniMiSS+, validation"}


def _read(folder: Path, *, test_split: str = "test", **others: object) -> LabelledData:
    refuse_unknown(others, _OPTIONS, _TITLE)
    test_split = require_choice("test_split", test_split, ("test", "validation"), _TITLE)
    root = require_root(folder, _PATTERNS, _TITLE)
    files = visible_files(root)
    images = [path for path in files if is_named_like_an_image(path)]
    contents = [_case_of(root, path) for path in images]
    cases = [one for one in contents if isinstance(one, LabelledCase)]
    problems = [*unfinished(root, files), *(one for one in contents if isinstance(one, Problem))]
    _require_one_label(cases)
    problems += _empty_classes(cases)
    if test_split == "validation":
        if any(case.split == "test" and case.target is not None for case in cases):
            reason = "has labels, but is left out, as the option test_split is validation."
            problems.append(Problem("test", reason, is_missing=False))
        cases = [_as_test(case) for case in cases if case.split != "test"]
    return LabelledData(
        class_names=_CLASSES,
        cases=tuple(cases),
        problems=tuple(problems),
    )


def _case_of(root: Path, path: Path) -> LabelledCase | Problem:
    name = path_below(root, path)
    split, *between, _ = path.relative_to(root).parts if path.parent != root else ("", "")
    split = _split_of(split)
    if split is None:
        return Problem(name, f"lies in none of the folders {', '.join(SPLITS)}. Move it there.")
    if len(between) > 1:
        return Problem(name, "lies deeper than the folder of a class. Unpack the download again.")
    if not between and split in _LABELLED_SPLITS:
        return Problem(
            name, f"lies in no folder of a class, so that it has no label. {_WANTED_CLASSES}"
        )
    target = _class_number(root, path.parent) if between else None
    return LabelledCase(name, "2d", (path,), split=split, target=target)


def _split_of(folder_name: str) -> Split | None:
    return next((split for split in SPLITS if split == folder_name.lower()), None)


def _class_number(root: Path, folder: Path) -> int:
    name = folder.name.lower()
    if name not in _CLASSES:
        raise ValueError(
            f"{root} has a folder {path_below(root, folder)}, which is no class. {_WANTED_CLASSES}"
            f"{did_you_mean(near_names(name, _CLASSES))}"
        )
    return _CLASSES.index(name)


def _require_one_label(cases: list[LabelledCase]) -> None:
    seen: dict[tuple[Split | None, str], LabelledCase] = {}
    for case in cases:
        if case.target is None:
            continue
        first = seen.setdefault((case.split, case.files[0].name), case)
        if first.target != case.target:
            raise ValueError(
                f"{case.files[0].name} has two labels: it is {first.name} and {case.name}. Remove "
                f"the one that is wrong, or download the data again."
            )


def _as_test(case: LabelledCase) -> LabelledCase:
    return replace(case, split="test") if case.split == "validation" else case


def _empty_classes(cases: list[LabelledCase]) -> Iterator[Problem]:
    present = {(case.split, case.target) for case in cases}
    for split in _LABELLED_SPLITS:
        for number, name in enumerate(_CLASSES):
            if (split, number) not in present:
                yield Problem(f"{split}/{name}", "has no image. Download it again.")


CHESTXR = LabelledLayout(
    name="chestxr",
    title=_TITLE,
    homepage=_HOMEPAGE,
    license=License("other", "for this challenge only", f"{_HOMEPAGE}Rules/"),
    citation=(
        "Akhloufi MA, Chetoui M. Chest XR COVID-19 detection (2021). "
        "https://cxr-covid19.grand-challenge.org/"
    ),
    task="classification",
    dimension="2d",
    recognise=functools.partial(has_root, patterns=_PATTERNS),
    read=_read,
    options=_OPTIONS,
)
"""17,955 radiographs to train with and 3430 for validation: normal, pneumonia or COVID-19."""
