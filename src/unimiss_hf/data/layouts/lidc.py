"""LIDC-IDRI, as the NBIA Data Retriever leaves it.

Its folders are `LIDC-IDRI/<patient>/<study>/<series>/*.dcm`, where studies and series are called by
their UIDs ("classic directory name") or by date and description ("descriptive"); the release of
2012 had a folder for the date between them. `metadata.csv` beside `LIDC-IDRI` lists all series.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath

from ...dicom_frames_mit import open_frames
from ...dicom_reading_mit import DICOM_INDEX, is_dicom
from ..sources import visible_files
from .item import Layout, Problem, SourceItem
from .licenses import CC_BY_3
from .tables import columns_of, read_rows
from .tree import has_root, path_below, require_root, unfinished

_TITLE = "LIDC-IDRI"
_PATIENT = r"LIDC-IDRI-\d{4}"
_SLICE = r"(?i:.+\.dcm)"
_PATTERNS = tuple(f"{_PATIENT}/{'.+/' * depth}{_SLICE}" for depth in (2, 3, 1))
_RADIOGRAPHS = ("CR", "DX")
_ANNOTATIONS = ("SEG", "SR", "RTSTRUCT", "PR", "KO")  # C.7.3.1.1.1; drawn on the CT by readers
_TABLE = "metadata.csv"
_PLACE, _PATIENT_COLUMN, _COUNT = "File Location", "Subject ID", "Number of Images"


def _items(folder: Path) -> Iterator[SourceItem | Problem]:
    root = require_root(folder, _PATTERNS, _TITLE)
    files = visible_files(root)
    yield from unfinished(root, files)
    series: dict[Path, list[Path]] = {}
    for path in files:
        of_a_patient = re.fullmatch(_PATIENT, path.relative_to(root).parts[0])
        if of_a_patient and path.name != DICOM_INDEX and is_dicom(path):
            series.setdefault(path.parent, []).append(path)
    for place in sorted(series):
        yield from _of_series(root, place, series[place])
    for table in (root.parent / _TABLE, root / _TABLE):
        if table.is_file() and {_PLACE, _PATIENT_COLUMN, _COUNT} <= set(columns_of(table)):
            yield from _incomplete(table, root, series)


def _of_series(root: Path, place: Path, files: list[Path]) -> Iterator[SourceItem | Problem]:
    name = path_below(root, place)
    patient = place.relative_to(root).parts[0]
    try:
        frames = open_frames(files[0], headers_only=True)
        modality = frames[0].text("Modality")
    except (OSError, ValueError) as error:
        yield Problem(name, f"cannot be opened: {error} Download the series again.")
        return
    if modality in _RADIOGRAPHS:
        for path in files:
            yield SourceItem(f"{name}/{path.stem}", "2d", (path,), patient=patient)
    elif modality == "CT" and len(files) * len(frames) == 1:
        yield Problem(name, f"has one CT slice, {files[0].name}, which is no volume.")
    elif modality == "CT":
        yield SourceItem(name, "3d", tuple(files), patient=patient)
    elif modality not in _ANNOTATIONS:
        reason = f"has modality {modality or 'of no name'}; taken are CT, CR and DX."
        yield Problem(name, reason, is_missing=False)


def _incomplete(table: Path, root: Path, series: dict[Path, list[Path]]) -> Iterator[Problem]:
    """Yield a problem for each series of the table that is not there, or lacks files."""
    for row in read_rows(table, (_PLACE, _PATIENT_COLUMN, _COUNT)):
        # Written "./LIDC-IDRI/..." on Linux and macOS, ".\LIDC-IDRI\..." on Windows.
        parts = PureWindowsPath(row[_PLACE]).parts
        patient = row[_PATIENT_COLUMN]
        if not re.fullmatch(_PATIENT, patient) or patient not in parts:
            continue
        place = root.joinpath(*parts[parts.index(patient) :])
        name, files = path_below(root, place), series.get(place, [])
        wanted = int(row[_COUNT]) if row[_COUNT].isdecimal() else 0
        if not files:
            yield Problem(name, f"is listed in {table}, but not there. Download it again.")
        elif len(files) < wanted:
            reason = (
                f"has {len(files)} of the {wanted} files that {table} counts. Download it again."
            )
            yield Problem(name, reason, is_missing=False)


LIDC_IDRI = Layout(
    name="lidc-idri",
    title=_TITLE,
    homepage="https://www.cancerimagingarchive.net/collection/lidc-idri/",
    license=CC_BY_3,
    citation=(
        "Armato SG III, McLennan G, Bidaut L, et al. The Lung Image Database Consortium (LIDC) and "
        "Image Database Resource Initiative (IDRI): a completed reference database of lung nodules "
        "on CT scans. Medical Physics 38, 915-931 (2011). Data: "
        "https://doi.org/10.7937/K9/TCIA.2015.LO9QL9SX"
    ),
    dimensions=("3d", "2d"),
    recognise=functools.partial(has_root, patterns=_PATTERNS),
    items=_items,
)
"""1018 chest CTs and the radiographs of 290 patients."""
