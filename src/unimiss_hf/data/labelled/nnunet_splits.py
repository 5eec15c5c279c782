"""`splits_final.json`, in which nnU-Net writes down the folds of its cross-validation."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ..layouts.item import Problem
from .case import LabelledCase

SPLITS_FILE = "splits_final.json"


@dataclass(frozen=True)
class Fold:
    """Which cases train and which validate, by nnU-Net's identifiers.

    Attributes:
        source: the file and the number of the fold, as messages call it.
    """

    training: frozenset[str]
    validating: frozenset[str]
    source: str

    def assign(
        self, contents: Iterable[LabelledCase | Problem]
    ) -> Iterator[LabelledCase | Problem]:
        """Pass contents on, cases with the split that the fold says.

        What is in no part of the fold is passed over, as nnU-Net does, and told.
        """
        found = set()
        for content in contents:
            if isinstance(content, Problem):
                yield content
                continue
            found.add(content.patient)
            if content.patient in self.validating:
                yield replace(content, split="validation")
            elif content.patient in self.training:
                yield replace(content, split="train")
            else:
                yield Problem(content.name, f"is not in {self.source}, and is passed over.")
        for case in sorted((self.training | self.validating) - found):
            yield Problem(case, f"is listed in {self.source}, but not there with its labels.")


def read_fold(root: Path, fold: str | int) -> Fold | None:
    """Read a fold of a folder's `splits_final.json`.

    Args:
        root: the data set's folder.
        fold: its number from 0; "none" for no fold.

    Returns:
        The fold; `None` for none, and where there is no such file.

    Raises:
        ValueError: if there is no such fold, or the file holds something else.
    """
    if fold == "none":
        return None
    path = root / SPLITS_FILE
    if not str(fold).isdecimal():
        raise ValueError(f"fold is {fold!r}; wanted its number from 0, or none.")
    number = int(fold)
    if not path.is_file():
        if number == 0:
            return None
        raise ValueError(f"fold is {fold}, but there is no {path} that says what is in it.")
    try:
        folds = json.loads(path.read_text(encoding="utf-8-sig"))
        parts = [(frozenset(each["train"]), frozenset(each["val"])) for each in folds]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f'{path} is no list of {{"train": [...], "val": [...]}}: {error!r}. Copy it again.'
        ) from error
    if number >= len(parts):
        raise ValueError(f"fold is {fold}; {path} has {len(parts)} folds, from 0.")
    return Fold(*parts[number], source=f"fold {number} of {path}")
