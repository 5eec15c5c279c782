"""CHAOS, as it is unpacked: `Train_Sets/CT/1/DICOM_anon/*.dcm`, `Ground/*.png` and so on.

An MR is below `MR/1/T1DUAL` or `MR/1/T2SPIR`; the two phases of T1 lie in `DICOM_anon/InPhase` and
`OutPhase` and share one `Ground`. `Test_Sets` has no `Ground`.

The labels are pictures, one a slice, and nothing but the order of the files' names says to which
slice each belongs (the challenge's own evaluation says so), while the slices' place in the patient
is in their headers. So pictures are paired with DICOM files by name, or by the order of the numbers
in their names, and then put where the header puts the file.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image

from ...dicom_reading_mit import stacked_slices
from ...input_checks_mit import decoding
from ..layouts.item import Problem
from ..layouts.licenses import CC_BY_NC_SA_4
from ..layouts.tree import has_root, path_below, require_root, unfinished
from ..sources import visible_files
from .case import LabelledCase, LabelledData, LabelledLayout, Split
from .image_and_label import sorted_out
from .label_values import class_numbers, on_grid
from .options import refuse_unknown, require_choice

_TITLE = "CHAOS"
_SETS = r"(?:CHAOS_)?(Train|Test)_Sets"
_PATTERNS = tuple(
    above + place
    for above in ("", f"{_SETS}/", f"{_SETS}/{_SETS}/")
    for place in (r"CT/\d+/DICOM_anon/.+", r"MR/\d+/T(?:1DUAL|2SPIR)/DICOM_anon/.+")
)


@dataclass(frozen=True)
class _Modality:
    """Where a modality's series lie below CT or MR and the patient, and what its labels mean."""

    patients: str
    slices: str
    labels: str
    organs: Mapping[str, range]

    @property
    def names(self) -> tuple[str, ...]:
        return ("background", *self.organs)

    @property
    def numbers(self) -> dict[int, int]:
        """The class's number for each grey level of a label picture."""
        levels = enumerate(self.organs.values(), start=1)
        return {0: 0} | {level: number for number, group in levels for level in group}


_LIVER = {"liver": range(255, 256)}
# The levels 63, 126, 189 and 252, with the tolerance that the challenge states.
_ORGANS = {
    "liver": range(55, 71),
    "right kidney": range(110, 136),
    "left kidney": range(175, 201),
    "spleen": range(240, 256),
}
_MODALITIES = {
    "ct": _Modality("CT", "DICOM_anon", "Ground", _LIVER),
    "t1_in": _Modality("MR", "T1DUAL/DICOM_anon/InPhase", "T1DUAL/Ground", _ORGANS),
    "t1_out": _Modality("MR", "T1DUAL/DICOM_anon/OutPhase", "T1DUAL/Ground", _ORGANS),
    "t2": _Modality("MR", "T2SPIR/DICOM_anon", "T2SPIR/Ground", _ORGANS),
}
_OPTIONS = {"modality": "ct (default; liver), or t1_in, t1_out, t2 of MR (liver, kidneys, spleen)"}


def _read(folder: Path, *, modality: str = "ct", **others: object) -> LabelledData:
    refuse_unknown(others, _OPTIONS, _TITLE)
    modality = require_choice("modality", modality, _MODALITIES, _TITLE)
    root = require_root(folder, _PATTERNS, _TITLE)
    cases, problems = sorted_out(_contents(root, modality))
    if not cases and not problems:
        raise ValueError(f"{root} has no {modality} series of {_TITLE}. Download them, too.")
    return LabelledData(_MODALITIES[modality].names, cases, problems=problems)


def _contents(root: Path, modality: str) -> Iterator[LabelledCase | Problem]:
    files = visible_files(root)
    yield from unfinished(root, files)
    kind = _MODALITIES[modality]
    slices = _by_patient(root, files, kind.patients, f"{kind.slices}/[^/]+\\.dcm")
    labels = _by_patient(root, files, kind.patients, f"{kind.labels}/[^/]+\\.png")
    for patient, series in slices.items():
        split = _split(root, patient, labelled=patient in labels)
        if split == "train" and patient not in labels:
            reason = f"has slices, but no labels in {kind.labels}. Download it again."
            yield Problem(path_below(root, patient), reason)
        else:
            yield _case(modality, patient, split, series, labels.get(patient, ()))
    for patient in labels.keys() - slices.keys():
        reason = f"has labels, but no slices in {kind.slices}. Download it again."
        yield Problem(path_below(root, patient), reason)


def _by_patient(
    root: Path, files: Sequence[Path], patients: str, pattern: str
) -> dict[Path, tuple[Path, ...]]:
    """The files of each patient's folder, in the order of the numbers in their names."""
    found: dict[Path, list[Path]] = {}
    for path in files:
        match = re.fullmatch(rf"((?:.+/)?{patients}/\d+)/{pattern}", path_below(root, path), re.I)
        if match:
            found.setdefault(root / match[1], []).append(path)
    return {patient: tuple(sorted(found[patient], key=_numbers_in)) for patient in sorted(found)}


def _numbers_in(path: Path) -> tuple[list[int], str]:
    return [int(digits) for digits in re.findall(r"\d+", path.stem)], path.name


def _split(root: Path, patient: Path, labelled: bool) -> Split:
    """By the nearest folder that says it; its own folder may be all that was passed."""
    for part in reversed((root.resolve().name, *patient.relative_to(root).parts)):
        match = re.fullmatch(_SETS, part)
        if match:
            return "train" if match[1] == "Train" else "test"
    return "train" if labelled else "test"


def _case(
    modality: str, patient: Path, split: Split, files: Sequence[Path], labels: Sequence[Path]
) -> LabelledCase:
    person = "/".join(patient.parts[-2:])
    return LabelledCase(
        name=f"{person}/{modality}",
        dimension="3d",
        files=tuple(files),
        split=split,
        patient=person,
        label_files=tuple(labels),
        load_labels=_labels,
        details={"modality": modality},
    )


def _labels(case: LabelledCase) -> nibabel.Nifti1Image:
    """The label pictures as a volume on the grid of the DICOM series."""
    slices, affine = stacked_slices(case.files)
    paired = _paired(case, slices)
    pictures = [_grey_levels(paired[path]) for path in slices]
    shapes = {picture.shape for picture in pictures}
    if len(shapes) > 1:
        raise ValueError(
            f"{case.name} has label pictures of differing size, {sorted(shapes)}, in "
            f"{case.label_files[0].parent}. Download it again."
        )
    stack = np.stack(pictures)
    numbers = _MODALITIES[case.details["modality"]].numbers
    labels = class_numbers(stack, numbers, f"{case.name} ({case.label_files[0].parent})")
    # (slices, rows, columns) to (x, y, z), as DICOM volumes are read.
    return on_grid(labels.transpose(), affine, case.label_files[0].parent)


def _paired(case: LabelledCase, slices: Sequence[Path]) -> dict[Path, Path]:
    """The label picture of each DICOM file; `slices` are these in the order of their positions."""
    files, pictures = case.files, case.label_files
    if len(files) != len(pictures):
        raise ValueError(
            f"{case.name} has {len(files)} slices and {len(pictures)} label pictures, in "
            f"{files[0].parent} and {pictures[0].parent}. Download it again."
        )
    by_name = {picture.stem: picture for picture in pictures}
    if {path.stem for path in files} == by_name.keys():
        return {path: by_name[path.stem] for path in files}
    # By rank alone, names must run along the patient: else the pairs would be a guess.
    if list(slices) not in (list(files), list(reversed(files))):
        raise ValueError(
            f"{case.name} has label pictures ({pictures[0].name}, ...) that are not called as its "
            f"slices ({files[0].name}, ...), and slices whose names do not run along the patient: "
            f"which belong together is not known. Download it again."
        )
    return dict(zip(files, pictures, strict=True))


def _grey_levels(path: Path) -> np.ndarray:
    with decoding(str(path), "a picture of labels"), Image.open(path) as picture:
        return np.asarray(picture.convert("L"))


CHAOS = LabelledLayout(
    name="chaos",
    title=_TITLE,
    homepage="https://chaos.grand-challenge.org/",
    license=CC_BY_NC_SA_4,
    citation=(
        "Kavur AE, Gezer NS, Baris M, et al. CHAOS challenge: combined (CT-MR) healthy abdominal "
        "organ segmentation. Medical Image Analysis 69, 101950 (2021). Kavur AE, Selver MA, Dicle "
        "O, Baris M, Gezer NS. CHAOS: combined (CT-MR) healthy abdominal organ segmentation "
        "challenge data. Zenodo (2019). https://doi.org/10.5281/zenodo.3431873"
    ),
    task="segmentation",
    dimension="3d",
    recognise=functools.partial(has_root, patterns=_PATTERNS),
    read=_read,
    options=_OPTIONS,
)
"""Abdominal CTs of 40 people and MRs of 40 others; the organs of half of them are given away."""
