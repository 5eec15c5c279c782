"""MIDRC-RICORD-1A and -1B, chest CTs with and without COVID-19, as TCIA gives them away.

The NBIA Data Retriever writes `MIDRC-RICORD-1A/<patient>/<study>/<series>/*.dcm`, and 1B likewise,
each below a folder `manifest-...` with its `metadata.csv`; both lie in one folder here. A case is a
CT series: it is positive in 1A and negative in 1B. Series of one patient, reformats among them, are
cases of one patient. Localizers and annotations are passed over.

There is no official split. UniMiSS publishes the one that it used as `RICORD_train.txt`,
`RICORD_val.txt` and `RICORD_test.txt` (github.com/YtongXie/UniMiSS-code); the option `lists` takes
them, and then the series that they name alone. UniMiSS trains on crops of 64x128x128 voxels and
tests on whole volumes that are resized to that, whatever their aspect ratio; the option `resized`
does the latter.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...dicom_frames_mit import Frame
from ...image_reading_mit import load_volume
from ...volume_grids_mit import resample
from ..layouts.item import Problem
from ..layouts.licenses import CC_BY_NC_4
from ..layouts.tree import has_root, path_below, require_root, unfinished
from ..sources import visible_files
from .case import LabelledCase, LabelledData, LabelledLayout, Split, image_files
from .dicom_series import METADATA, first_frame, incomplete, series_folders
from .options import refuse_unknown

_TITLE = "MIDRC-RICORD-1A and -1B"
_CLASSES = ("negative", "positive")
_TARGETS = {"A": 1, "B": 0}
_PATIENT = r"MIDRC-RICORD-1([AB])-(.+)"
_SLICE = r"(?i:.+\.dcm)"
_PATTERNS = tuple(
    f"{above}{_PATIENT}/.+/.+/{_SLICE}"
    for above in ("MIDRC-RICORD-1[AB]/", ".+/MIDRC-RICORD-1[AB]/", "")
)
_LISTS: dict[str, Split] = {
    "RICORD_train.txt": "train",
    "RICORD_val.txt": "validation",
    "RICORD_test.txt": "test",
}
_OPTIONS = {
    "lists": "folder of RICORD_train.txt, RICORD_val.txt and RICORD_test.txt, UniMiSS's split",
    "resized": "(depth, height, width) in voxels that whole volumes are resized to",
}
# .../MIDRC-RICORD-1A/ID419639-001155_date05-14-2008_605.000000-COR-3X3-96061.nii.gz 1
_LISTED = re.compile(
    r"(?:.*/)?MIDRC-RICORD-1([AB])/ID(.+)_date[\d-]+_(\d+)\.\d+-.*(.{5})\.nii\.gz\s+([01])"
)

# A series: patient, SeriesNumber, the last 5 characters of SeriesInstanceUID.
_Key = tuple[str, int, str]


def _read(
    folder: Path,
    *,
    lists: str | Path | None = None,
    resized: Sequence[int] | None = None,
    **others: object,
) -> LabelledData:
    refuse_unknown(others, _OPTIONS, _TITLE)
    details = {} if resized is None else {"size": _size(resized)}
    listed = None if lists is None else _read_lists(Path(lists).expanduser())
    root = require_root(folder, _PATTERNS, _TITLE)
    files = visible_files(root)
    series = {
        place: of_it
        for place, of_it in series_folders(files).items()
        if _patient_of(root, place) is not None
    }
    problems = list(unfinished(root, files))
    cases = []
    keys: dict[str, _Key] = {}
    for place, slices in series.items():
        name = _name(root, place)
        frame = first_frame(slices, name)
        if isinstance(frame, Problem):
            problems.append(frame)
        elif frame is not None:
            case = _case(root, place, slices, details)
            if case.name in keys:
                reason = f"is there twice: {place} is passed over."
                problems.append(Problem(case.name, reason, is_missing=False))
                continue
            keys[case.name] = _key(case, frame)
            cases.append(case)
    tables = [path for path in files if path.name == METADATA]
    problems += incomplete(root, tables, series)
    if listed is not None:
        cases, missing = _as_listed(cases, keys, listed)
        problems += missing
    _require_both(cases, root)
    return LabelledData(_CLASSES, tuple(cases), problems=tuple(problems))


def _patient_of(root: Path, place: Path) -> re.Match[str] | None:
    """The patient whose series a folder is, by the name of a folder above it."""
    parts = place.relative_to(root).parts
    return next((match for part in parts if (match := re.fullmatch(_PATIENT, part))), None)


def _name(root: Path, place: Path) -> str:
    """The path from the patient's folder on, the same however the collections are wrapped."""
    below = path_below(root, place)
    return below[re.search(r"(?:^|/)(?=MIDRC-RICORD-1[AB]-)", below).end() :]


def _case(
    root: Path, place: Path, slices: tuple[Path, ...], details: dict[str, Any]
) -> LabelledCase:
    collection, number = _patient_of(root, place).groups()
    return LabelledCase(
        _name(root, place),
        "3d",
        slices,
        # A person would be one, were they in both collections.
        patient=number,
        target=_TARGETS[collection],
        load_image=_resized_volume if details else image_files,
        details=details,
    )


def _key(case: LabelledCase, frame: Frame) -> _Key:
    number = int(frame.number("SeriesNumber") or 0)
    return case.patient, number, frame.text("SeriesInstanceUID")[-5:]


def _size(resized: Sequence[int]) -> tuple[int, ...]:
    size = tuple(resized) if isinstance(resized, Sequence) else ()
    if len(size) != 3 or not all(isinstance(n, int) and n > 1 for n in size):
        raise ValueError(
            f"resized={resized!r} must be three lengths in voxels, (depth, height, width), such as "
            f"[64, 128, 128]."
        )
    return size


def _resized_volume(case: LabelledCase) -> np.ndarray:
    """The whole volume, `(depth, height, width)`, RAS+, float32 HU, resized to `details["size"]`.

    It is antialiased, and its aspect ratio is not kept.
    """
    voxels, size = load_volume(image_files(case)).voxels, case.details["size"]
    # As if the voxels' distances were such that the same extent has the wanted lengths.
    return resample(voxels, [float(n) for n in size], [float(n) for n in voxels.shape], case.name)


def _read_lists(folder: Path) -> dict[_Key, tuple[str, Split, int]]:
    """Series → how its list names it, its split and its label."""
    listed: dict[_Key, tuple[str, Split, int]] = {}
    for name, split in _LISTS.items():
        path = folder / name
        if not path.is_file():
            raise FileNotFoundError(
                f"There is no file {path}; lists is the folder of {', '.join(_LISTS)}."
            )
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if not line.strip():
                continue
            match = _LISTED.fullmatch(line.strip())
            if match is None or _TARGETS[match[1]] != int(match[5]):
                raise ValueError(
                    f"{path}, line {number}, {line!r}: wanted .../MIDRC-RICORD-1A/ID<patient>_"
                    f"date<date>_<series>.nii.gz 1, or MIDRC-RICORD-1B and 0."
                )
            key = (match[2], int(match[3]), match[4])
            if key in listed:
                raise ValueError(f"{path}, line {number}: {line!r} is listed twice.")
            listed[key] = (line.split()[0].rpartition("/")[2], split, int(match[5]))
    if not listed:
        raise ValueError(f"{folder}: its lists name no series. Download them again.")
    return listed


def _as_listed(
    cases: list[LabelledCase],
    keys: dict[str, _Key],
    listed: dict[_Key, tuple[str, Split, int]],
) -> tuple[list[LabelledCase], Iterator[Problem]]:
    taken = [
        replace(case, split=listed[keys[case.name]][1])
        for case in cases
        if keys[case.name] in listed
    ]
    missing = [listed[key] for key in listed.keys() - {keys[case.name] for case in taken}]
    problems = (
        Problem(name, f"is listed as {split}, but not there. Download it again.")
        for name, split, _ in sorted(missing)
    )
    return taken, problems


def _require_both(cases: list[LabelledCase], root: Path) -> None:
    for collection, target in _TARGETS.items():
        if not any(case.target == target for case in cases):
            raise ValueError(
                f"{root} holds no CT series of MIDRC-RICORD-1{collection}, the {_CLASSES[target]} "
                f"cases. Download both collections into one folder."
            )


RICORD = LabelledLayout(
    name="ricord",
    title=_TITLE,
    homepage="https://www.cancerimagingarchive.net/collection/midrc-ricord-1a/",
    license=CC_BY_NC_4,
    citation=(
        "Tsai EB, Simpson S, Lungren MP, et al. The RSNA International COVID-19 Open Radiology "
        "Database (RICORD). Radiology 299, E204-E213 (2021). "
        "https://doi.org/10.1148/radiol.2021203957. Data: The Cancer Imaging Archive, "
        "https://doi.org/10.7937/VTW4-X588 (1A) and https://doi.org/10.7937/31V8-4A40 (1B)."
    ),
    task="classification",
    dimension="3d",
    recognise=functools.partial(has_root, patterns=_PATTERNS),
    read=_read,
    options=_OPTIONS,
)
"""Chest CTs of patients with COVID-19 (1A) and without (1B)."""
