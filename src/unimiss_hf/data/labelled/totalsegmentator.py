"""TotalSegmentator's CTs, as they are unpacked: `s0000/ct.nii.gz`, `s0000/segmentations/*.nii.gz`.

Each structure is a file of its own, 0 and 1; they are joined to one map. Where several claim a
voxel, the later of the wanted classes has it, as in TotalSegmentator's own training, and a warning
counts such voxels. `meta.csv` says which split a subject belongs to.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import nibabel
import numpy as np

from ...input_checks_mit import did_you_mean, near_names, warn
from ..layouts.item import Problem
from ..layouts.licenses import CC_BY_4
from ..layouts.tables import read_rows
from ..layouts.tree import has_root, require_root, stem_of, unfinished
from ..sources import visible_files
from .case import LabelledCase, LabelledData, LabelledLayout, Split
from .image_and_label import sorted_out
from .label_values import class_numbers, label_voxels, on_grid
from .options import refuse_unknown
from .totalsegmentator_classes import ALL_1, ALL_2, GROUPS_1, GROUPS_2

_TITLE = "TotalSegmentator"
_SUBJECT = r"s\d{4}"
_NIFTI = r"\.nii(?:\.gz)?"
_IMAGE = rf"ct{_NIFTI}"
_PATTERNS = (rf"{_SUBJECT}/{_IMAGE}", rf"{_SUBJECT}/segmentations/.+{_NIFTI}")
_TABLE = "meta.csv"
_SPLITS: dict[str, Split] = {"train": "train", "val": "validation", "test": "test"}
# By what version 1 alone has, and version 2 alone.
_ONLY_1, _ONLY_2 = set(ALL_1) - set(ALL_2), set(ALL_2) - set(ALL_1)
_MASK = {0: 0, 1: 1}
_SAME_GRID = 1e-3  # mm; files of one subject differ by the rounding of their headers
_OPTIONS = {
    "classes": f"all (default), one of {', '.join(GROUPS_2)}, or a list of names of structures"
}


def _read(folder: Path, *, classes: str | Sequence[str] = "all", **others: object) -> LabelledData:
    refuse_unknown(others, _OPTIONS, _TITLE)
    root = require_root(folder, _PATTERNS, _TITLE)
    files = visible_files(root)
    subjects = _subjects(root, files)
    drawn = {stem for masks, _ in subjects.values() for stem in masks}
    wanted = _wanted(classes, drawn)
    cases, problems = sorted_out(_contents(root, files, subjects, wanted))
    return LabelledData(("background", *wanted), cases, problems=problems)


def _subjects(root: Path, files: Sequence[Path]) -> dict[str, tuple[dict[str, Path], Path | None]]:
    """The masks of each subject by their structures, and its image."""
    found: dict[str, tuple[dict[str, Path], Path | None]] = {}
    for path in files:
        subject, *rest = path.relative_to(root).parts
        if not re.fullmatch(_SUBJECT, subject) or not re.fullmatch(rf".+{_NIFTI}", path.name):
            continue
        masks, _ = found.setdefault(subject, ({}, None))
        if rest[:-1] == ["segmentations"]:
            masks[stem_of(path)] = path
        elif len(rest) == 1 and re.fullmatch(_IMAGE, path.name):
            found[subject] = masks, path
    return found


def _wanted(classes: str | Sequence[str], drawn: set[str]) -> tuple[str, ...]:
    """The names of the wanted structures, of the version that is there."""
    is_first = bool(drawn & _ONLY_1) and not drawn & _ONLY_2
    everything, groups = (ALL_1, GROUPS_1) if is_first else (ALL_2, GROUPS_2)
    if isinstance(classes, str) and classes in ("all", *groups):
        return everything if classes == "all" else groups[classes]
    names = [classes] if isinstance(classes, str) else list(classes)
    for name in names:
        if name not in everything:
            near = did_you_mean(near_names(str(name), [*everything, *groups, "all"], 0.6))
            raise ValueError(
                f"classes of {_TITLE} has {name!r}, which is no structure of version "
                f"{1 if is_first else 2}; wanted all, one of {', '.join(groups)}, or a list of "
                f"structures.{near}"
            )
    if not names or len(set(names)) < len(names):
        raise ValueError(f"classes of {_TITLE} is {names}; wanted each structure once.")
    return tuple(names)


def _contents(
    root: Path,
    files: Sequence[Path],
    subjects: Mapping[str, tuple[Mapping[str, Path], Path | None]],
    wanted: Sequence[str],
) -> Iterator[LabelledCase | Problem]:
    yield from unfinished(root, files)
    table = root / _TABLE
    splits = _splits(table) if table.is_file() else {}
    if not splits:
        reason = "is not there, so that no split is known. Download it."
        yield Problem(_TABLE, reason, is_missing=False)
    for subject, (masks, image) in subjects.items():
        lacking = [name for name in wanted if name not in masks]
        if image is None:
            yield Problem(subject, "has masks, but no ct.nii.gz. Download it again.")
        elif lacking:
            more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
            reason = f"has no mask of {', '.join(lacking[:3])}{more}. Download it again."
            yield Problem(subject, reason)
        else:
            label_files = tuple(masks[name] for name in wanted)
            yield _case(subject, image, label_files, splits.get(subject))
            if splits and subject not in splits:
                reason = f"is not in {table}, so that its split is not known."
                yield Problem(subject, reason, is_missing=False)
    for subject in splits:
        if subject not in subjects:
            yield Problem(subject, f"is listed in {table}, but not there. Download it again.")


def _splits(table: Path) -> dict[str, Split]:
    rows = list(read_rows(table, ["image_id", "split"], delimiter=";"))
    for row in rows:
        if row["split"] not in _SPLITS:
            raise ValueError(
                f"{table} has the split {row['split']!r} for {row['image_id']}; wanted one of "
                f"{', '.join(_SPLITS)}."
            )
    return {row["image_id"]: _SPLITS[row["split"]] for row in rows}


def _case(
    subject: str, image: Path, label_files: tuple[Path, ...], split: Split | None
) -> LabelledCase:
    return LabelledCase(
        name=subject,
        dimension="3d",
        files=(image,),
        split=split,
        patient=subject,
        label_files=label_files,
        load_labels=_labels,
    )


def _labels(case: LabelledCase) -> nibabel.Nifti1Image:
    """The masks as one map: class 1 is the first of them."""
    labels: np.ndarray | None = None
    affine, several = np.eye(4), 0
    for number, path in enumerate(case.label_files, start=1):
        values, image = label_voxels(path)
        inside = class_numbers(values, _MASK, f"{case.name} ({path})") == 1
        if labels is None:
            labels, affine = np.zeros(values.shape, np.uint8), image.affine
        elif labels.shape != values.shape or np.abs(image.affine - affine).max() > _SAME_GRID:
            raise ValueError(
                f"{case.name}: {path} has another grid than {case.label_files[0]}: shapes "
                f"{values.shape} and {labels.shape}, affines {image.affine.tolist()} and "
                f"{affine.tolist()}. Download it again."
            )
        several += int(np.count_nonzero(labels[inside]))
        labels[inside] = number
    if several:
        warn(
            f"{case.name}: structures overlap in {several} voxels; each has the later of its "
            f"classes."
        )
    return on_grid(labels, affine, case.label_files[0].parent)


TOTALSEGMENTATOR = LabelledLayout(
    name="totalsegmentator",
    title=_TITLE,
    homepage="https://doi.org/10.5281/zenodo.6802613",
    license=CC_BY_4,
    citation=(
        "Wasserthal J, Breit HC, Meyer MT, et al. TotalSegmentator: robust segmentation of 104 "
        "anatomic structures in CT images. Radiology: Artificial Intelligence 5, e230024 (2023). "
        "https://doi.org/10.1148/ryai.230024"
    ),
    task="segmentation",
    dimension="3d",
    recognise=functools.partial(has_root, patterns=_PATTERNS),
    read=_read,
    options=_OPTIONS,
)
"""Some 1,200 CTs of all parts of the body, at 1.5 mm: 104 structures in version 1, 117 since."""
