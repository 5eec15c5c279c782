"""NLSTx: nodules of the National Lung Screening Trial (NLST), malignant or benign.

The CTs are TCIA's collection NLST, `NLST/<participant>/<study>/<series>/*.dcm` as the NBIA Data
Retriever writes it; those of the participants in the table are enough. NLST itself says in which
slice a reader saw a nodule, but not where in it. Places and labels are in `nlstx_dataset.csv`
(github.com/benVZ/NLSTx), which lies beside `NLST`: boxes of radiologists on one axial slice of each
nodule in each annual scan, malignant (M) if a biopsy confirmed it later, benign (B) if not.

A case is a nodule in one scan: a window of the CT around the middle of its box, in HU, of the
extent that the option `extent` gives. What lies outside the scan is air. Scans of one participant
are cases of one patient. The column `fold` gives the folds of a cross-validation, 0 to 4: the
option `test_fold` says which of them is the test split; all others are to train with. "Slice
number" is taken as the InstanceNumber of the slice.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import nibabel
import numpy as np

from ...dicom_reading_mit import read_dicom
from ..layouts.item import Problem
from ..layouts.licenses import CC_BY_4
from ..layouts.tables import read_rows
from ..layouts.tree import has_root, path_below, require_root, subfolders, unfinished
from ..sources import visible_files
from .case import LabelledCase, LabelledData, LabelledLayout
from .dicom_series import METADATA, first_frame, incomplete, series_folders, slice_place
from .options import refuse_unknown
from .volume_windows import cut_window

_TITLE = "NLST with the nodules of NLSTx"
_CLASSES = ("benign", "malignant")
_TARGETS = {"B": 0, "M": 1}
TABLE = "nlstx_dataset.csv"
_PARTICIPANT = r"[12]\d{5}"
_SLICE = r"(?i:.+\.dcm)"
_PATTERNS = (
    re.escape(TABLE),
    f"NLST/{_PARTICIPANT}/.+/.+/{_SLICE}",
    f"{_PARTICIPANT}/.+/.+/{_SLICE}",
    f".+/NLST/{_PARTICIPANT}/.+/.+/{_SLICE}",
)
_PERSON, _YEAR, _LABEL, _SERIES = "PID", "study_yr", "malignancy", "seriesinstanceuids"
_FOLD, _NODULE, _NUMBER = "fold", "Abnormality UID", "Slice number"
_BOX = tuple(f"Bounding box {part} (pixels)" for part in ("x", "y", "width", "height"))
_COLUMNS = (_FOLD, _PERSON, _YEAR, _LABEL, _SERIES, _NODULE, _NUMBER, *_BOX)
_FOLDS = range(5)
# The window of pretraining: 16 x 96 x 96 voxels of 3 x 1 x 1 mm.
_EXTENT = (48.0, 96.0, 96.0)
_OPTIONS = {
    "test_fold": "the fold of NLSTx's cross-validation that is the test split, 0 to 4",
    "extent": "(depth, height, width) in mm of the window around a nodule",
}


def _read(
    folder: Path, *, test_fold: int = 0, extent: Sequence[float] = _EXTENT, **others: object
) -> LabelledData:
    refuse_unknown(others, _OPTIONS, _TITLE)
    _require_fold(test_fold)
    extent = _checked_extent(extent)
    root = require_root(folder, _PATTERNS, _TITLE)
    rows = _rows(root / TABLE)
    files = list(_files_of(root, {row[_PERSON] for _, row in rows}))
    folders = series_folders(files)
    series, unreadable = _by_uid(root, folders)
    contents = (_case(row, line, series, test_fold, extent) for line, row in rows)
    cases, problems = _each_once(contents, [line for line, _ in rows])
    tables = sorted({path for place in (root, *_parents(root)) for path in place.glob(METADATA)})
    named = {path_below(root, series[uid][0]) for uid in _named_series(rows) & series.keys()}
    # `metadata.csv` may list many more series than the table of nodules.
    cut_short = (one for one in incomplete(root, tables, folders) if one.name in named)
    problems = (*unfinished(root, files), *unreadable, *problems, *cut_short)
    return LabelledData(_CLASSES, cases, problems=problems)


def _rows(table: Path) -> list[tuple[str, dict[str, str]]]:
    """The rows of the table of nodules, each behind what messages call it."""
    if not table.is_file():
        raise FileNotFoundError(
            f"{table} is not there, and labels and places of the nodules are in it. Download it "
            f"from https://github.com/benVZ/NLSTx."
        )
    rows = [
        (f"{table}, line {number}", row)
        for number, row in enumerate(read_rows(table, _COLUMNS), start=2)
    ]
    if not rows:
        raise ValueError(f"{table} lists no nodule. Download it again.")
    for line, row in rows:
        if not re.fullmatch(_PARTICIPANT, row[_PERSON]):
            raise ValueError(f"{line}: {_PERSON} is {row[_PERSON]!r}; wanted six digits.")
    return rows


def _named_series(rows: Iterable[tuple[str, dict[str, str]]]) -> set[str]:
    return {row[_SERIES] for _, row in rows}


def _each_once(
    contents: Iterable[LabelledCase | Problem], lines: Iterable[str]
) -> tuple[tuple[LabelledCase, ...], list[Problem]]:
    """Sort cases and problems out; a second row of a nodule is a problem, or an error."""
    cases: dict[str, LabelledCase] = {}
    problems = []
    for found, line in zip(contents, lines, strict=True):
        if isinstance(found, Problem):
            problems.append(found)
            continue
        first = cases.setdefault(found.name, found)
        if first.target != found.target:
            raise ValueError(f"{line}: {found.name} has two labels, B and M.")
        if first is not found:
            reason = f"is listed twice; {line} is passed over."
            problems.append(Problem(found.name, reason, is_missing=False))
    return tuple(cases.values()), problems


def _require_fold(test_fold: int) -> None:
    if test_fold not in _FOLDS:
        raise ValueError(f"test_fold={test_fold!r} is no fold; there are 0 to 4.")


def _checked_extent(extent: Sequence[float]) -> tuple[float, ...]:
    lengths = tuple(extent) if isinstance(extent, Sequence) else ()
    if len(lengths) != 3 or not all(isinstance(n, int | float) and n > 0 for n in lengths):
        raise ValueError(
            f"extent={extent!r} must be three lengths in mm, (depth, height, width), such as "
            f"{list(_EXTENT)}."
        )
    return tuple(float(length) for length in lengths)


def _parents(root: Path) -> list[Path]:
    """Folders that the participants' may lie in, as the collection is millions of files."""
    near = [path for path in subfolders(root) if not re.fullmatch(_PARTICIPANT, path.name)]
    return [*near, *(path / "NLST" for path in near if (path / "NLST").is_dir())]


def _files_of(root: Path, people: Iterable[str]) -> Iterator[Path]:
    parents = (root, *_parents(root))
    for person in sorted(people):
        for parent in parents:
            if (parent / person).is_dir():
                yield from visible_files(parent / person)


def _by_uid(
    root: Path, folders: dict[Path, tuple[Path, ...]]
) -> tuple[dict[str, tuple[Path, tuple[Path, ...]]], list[Problem]]:
    """SeriesInstanceUID → its folder and slices; and what cannot be opened."""
    series: dict[str, tuple[Path, tuple[Path, ...]]] = {}
    problems = []
    for place, slices in folders.items():
        frame = first_frame(slices, path_below(root, place))
        if isinstance(frame, Problem):
            problems.append(frame)
        elif frame is not None:
            series.setdefault(frame.text("SeriesInstanceUID"), (place, slices))
    return series, problems


def _case(
    row: dict[str, str],
    line: str,
    series: dict[str, tuple[Path, tuple[Path, ...]]],
    test_fold: int,
    extent: tuple[float, ...],
) -> LabelledCase | Problem:
    name = f"{row[_PERSON]}_T{row[_YEAR]}_nodule{row[_NODULE].removesuffix('.0')}"
    if row[_LABEL] not in _TARGETS:
        raise ValueError(f"{line}: {_LABEL} is {row[_LABEL]!r}; wanted B or M.")
    fold = _number(row, _FOLD, line)
    if fold not in _FOLDS:
        raise ValueError(f"{line}: {_FOLD} is {row[_FOLD]!r}; wanted 0 to 4.")
    if blank := [column for column in (_NUMBER, *_BOX) if row[column].lower() in ("", "nan")]:
        return Problem(name, f"has no {blank[0]} in {line}, so no place. It is left out.")
    left, top, width, height = (_number(row, column, line) for column in _BOX)
    if row[_SERIES] not in series:
        return Problem(
            name,
            f"is in series {row[_SERIES]} of participant {row[_PERSON]}, which is not there. "
            f"Download it.",
        )
    return LabelledCase(
        name,
        "3d",
        series[row[_SERIES]][1],
        split="test" if fold == test_fold else "train",
        patient=row[_PERSON],
        target=_TARGETS[row[_LABEL]],
        load_image=_window,
        details={
            "slice": int(_number(row, _NUMBER, line)),
            # Pixel 0 is from -0.5 to 0.5, so the middle of a box of one pixel is that pixel.
            "column": left + (width - 1) / 2,
            "row": top + (height - 1) / 2,
            "extent": extent,
        },
    )


def _number(row: dict[str, str], column: str, line: str) -> float:
    try:
        value = float(row[column])
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"{line}: {column} is {row[column]!r}; wanted a number of 0 or more.")
    return value


def _window(case: LabelledCase) -> nibabel.Nifti1Image:
    """The CT around a nodule, in HU, on the scan's own voxels."""
    details = case.details
    volume = read_dicom(list(case.files))
    columns, rows, _ = volume.voxels.shape
    if details["column"] >= columns or details["row"] >= rows:
        raise ValueError(
            f"{case.name}: the middle of its box, column {details['column']:g} and row "
            f"{details['row']:g}, lies outside of its slices, which have {columns} columns and "
            f"{rows} rows. The table is of another series."
        )
    place = slice_place(case.files, details["slice"], case.name)
    depth = (np.linalg.inv(volume.affine) @ [*place, 1.0])[2]
    middle = np.array([details["column"], details["row"], depth])
    # Axes of an axial scan run as those of the patient do, whichever way round.
    window = cut_window(volume.voxels, volume.affine, middle, details["extent"][::-1])
    # What messages call it.
    window.file_map["image"].filename = str(case.files[0].parent)
    return window


NLST = LabelledLayout(
    name="nlst",
    title=_TITLE,
    homepage="https://www.cancerimagingarchive.net/collection/nlst/",
    license=CC_BY_4,
    citation=(
        "National Lung Screening Trial Research Team. Reduced lung-cancer mortality with low-dose "
        "computed tomographic screening. New England Journal of Medicine 365, 395-409 (2011). "
        "Data: https://doi.org/10.7937/TCIA.HMQ8-J677. Nodules: Veasey BP, Amini AA. Low-rank "
        "adaptation of pre-trained large vision models for improved lung nodule malignancy "
        "classification. IEEE Open Journal of Engineering in Medicine and Biology 6, 296-304 "
        "(2025). https://doi.org/10.1109/OJEMB.2025.3530841"
    ),
    task="classification",
    dimension="3d",
    recognise=functools.partial(has_root, patterns=_PATTERNS),
    read=_read,
    options=_OPTIONS,
)
"""857 nodules of as many participants of NLST in two or three annual scans each, by NLSTx."""
