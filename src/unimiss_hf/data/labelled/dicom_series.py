"""DICOM series in folders, as the NBIA Data Retriever writes them: a folder for each series."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PureWindowsPath

import numpy as np

from ...dicom_frames_mit import Frame, open_frames
from ...dicom_reading_mit import DICOM_INDEX, is_dicom
from ..layouts.item import Problem
from ..layouts.tables import columns_of, read_rows
from ..layouts.tree import path_below

METADATA = "metadata.csv"
_PLACE, _COUNT = "File Location", "Number of Images"
_LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])
_ANNOTATIONS = ("SEG", "SR", "RTSTRUCT", "PR", "KO")  # C.7.3.1.1.1; drawn on the CT by readers


def series_folders(files: Iterable[Path]) -> dict[Path, tuple[Path, ...]]:
    """Folder → the DICOM files in it, both sorted."""
    series: dict[Path, list[Path]] = {}
    for path in sorted(files):
        if path.name != DICOM_INDEX and is_dicom(path):
            series.setdefault(path.parent, []).append(path)
    return {folder: tuple(series[folder]) for folder in sorted(series)}


def first_frame(files: tuple[Path, ...], name: str) -> Frame | Problem | None:
    """Look at a series' first header.

    Returns:
        The frame, if the series is a volume of CT; `None` if it is not one by its purpose (a
        localizer, an annotation); a problem that says why, if it is none for another reason.
    """
    try:
        frames = open_frames(files[0], headers_only=True)
        frame = frames[0]
        modality = frame.text("Modality")
        is_localizer = frame.is_localizer
    except (OSError, ValueError) as error:
        return Problem(name, f"cannot be opened: {error} Download the series again.")
    if is_localizer or modality in _ANNOTATIONS:
        return None
    if modality != "CT":
        reason = f"has modality {modality or 'of no name'}; taken is CT."
        return Problem(name, reason, is_missing=False)
    if len(files) * len(frames) == 1:
        return Problem(name, f"has one CT slice, {files[0].name}, which is no volume.")
    return frame


def slice_place(files: Iterable[Path], number: int, name: str) -> np.ndarray:
    """Where a slice's first voxel lies, in mm, RAS+, by its InstanceNumber.

    Raises:
        ValueError: if no slice, or several, have this number, or it says not where it lies.
    """
    frames = [frame for path in files for frame in open_frames(path, headers_only=True)]
    found = [frame for frame in frames if frame.number("InstanceNumber") == number]
    if len(found) != 1:
        raise ValueError(
            f"{name}: {len(found)} slices of {frames[0].path.parent} have InstanceNumber "
            f"{number}; wanted one. The series is not whole, or not the one that is meant."
        )
    place = found[0].numbers("ImagePositionPatient", 3)
    if place is None:
        raise ValueError(f"{found[0].name} has no ImagePositionPatient. Download it again.")
    return place * _LPS_TO_RAS


def incomplete(
    root: Path, tables: Iterable[Path], series: Mapping[Path, tuple[Path, ...]]
) -> Iterator[Problem]:
    """Yield a problem for each series that lacks files, or is not there, by `metadata.csv`.

    Args:
        root: the data set's folder, which the problems' names are below.
        tables: such files; `File Location` is below the folder of each.
        series: what there is, see [`series_folders`].
    """
    for table in tables:
        if not {_PLACE, _COUNT} <= set(columns_of(table)):
            continue
        for row in read_rows(table, (_PLACE, _COUNT)):
            # Written "./NLST/..." on Linux and macOS, ".\\NLST\\..." on Windows.
            place = table.parent.joinpath(*PureWindowsPath(row[_PLACE]).parts)
            name, found = path_below(root, place), len(series.get(place, ()))
            wanted = int(row[_COUNT]) if row[_COUNT].isdecimal() else 0
            if not found:
                yield Problem(name, f"is listed in {table}, but not there. Download it again.")
            elif found < wanted:
                reason = f"has {found} of the {wanted} files that {table} counts. Download again."
                yield Problem(name, reason, is_missing=False)
