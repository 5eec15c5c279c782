"""Joining the images and the label files of a folder to cases."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from ..layouts.item import Problem
from ..layouts.tree import path_below
from .case import LabelledCase


def by_key(
    root: Path, files: Iterable[Path], key_of: Callable[[Path], str]
) -> tuple[dict[str, Path], list[Problem]]:
    """Sort files by what an image and its label have in common.

    Args:
        root: the data set's folder.
        files: all that may be images, or labels.
        key_of: what a file's counterpart has too; "" for a file of another kind.

    Returns:
        The first file of each key, and a problem for each further one, which is passed over.
    """
    found: dict[str, Path] = {}
    problems = []
    for path in files:
        key = key_of(path)
        if key and found.setdefault(key, path) != path:
            reason = f"is there twice: {path} is passed over for {found[key]}."
            problems.append(Problem(path_below(root, path), reason, is_missing=False))
    return found, problems


def join_labels(
    images: Mapping[str, Path],
    labels: Mapping[str, Path],
    root: Path,
    case_of: Callable[[str, Path, Path | None], LabelledCase],
    is_unlabelled: Callable[[str], bool],
) -> Iterator[LabelledCase | Problem]:
    """Yield a case for each image, and a problem for what has no counterpart.

    Args:
        images: files by what image and label have in common, see `by_key`.
        labels: likewise.
        root: the data set's folder.
        case_of: makes a case of the common key, the image and its label.
        is_unlabelled: whether the label of such a key is not given away, so that none is missing.
    """
    for key, image in images.items():
        if key in labels or is_unlabelled(key):
            yield case_of(key, image, labels.get(key))
        else:
            reason = "has an image, but no label. Download the labels again."
            yield Problem(path_below(root, image), reason)
    for key, label in labels.items():
        if key not in images:
            reason = "has a label, but no image. Download the images again."
            yield Problem(path_below(root, label), reason)


def sorted_out(
    contents: Iterable[LabelledCase | Problem],
) -> tuple[tuple[LabelledCase, ...], tuple[Problem, ...]]:
    """Cases in the order of their names, and problems in that in which they come."""
    contents = list(contents)
    cases = [content for content in contents if isinstance(content, LabelledCase)]
    problems = tuple(content for content in contents if isinstance(content, Problem))
    return tuple(sorted(cases, key=lambda case: case.name)), problems
