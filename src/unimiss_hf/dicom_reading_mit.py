"""DICOM radiographs, CT slices and series in; grey levels, Hounsfield units and an affine out.

Sections are those of the DICOM standard, PS3.3. pydicom is imported when a file is opened.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .dicom_frames_mit import Frame, open_frames
from .dicom_geometry_mit import Plane, listed, stack_planes
from .dicom_values_mit import grey_levels, is_hounsfield, physical_values
from .grey_levels_mit import GreyWindow

DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
_MAGIC_OFFSET, _MAGIC = 128, b"DICM"  # PS3.10, section 7.1
DICOM_INDEX = "DICOMDIR"  # PS3.10, section 8.6
# What projections that were never calibrated have for PixelSpacing: it is measured at the detector.
_DETECTOR_SPACING = "ImagerPixelSpacing"

DicomSource = str | Path | Sequence[str | Path]


@dataclass(frozen=True, eq=False)
class DicomVolume:
    """A series of slices, or a multi-frame file, as one volume.

    Attributes:
        voxels: `(x, y, z)` = (columns, rows, slices), float32; HU for a CT. A transposed view of a
            C-contiguous `(slices, rows, columns)` array.
        affine: `(4, 4)`, float64: from indices of `voxels` to mm, RAS+, as that of a NIfTI file.
        modality: Modality (C.7.3.1.1.1): "CT", "MR", "PT", ...
        name: what messages call it.
    """

    voxels: np.ndarray
    affine: np.ndarray
    modality: str
    name: str


@dataclass(frozen=True, eq=False)
class DicomImage:
    """One picture.

    Attributes:
        pixels: `(height, width)`, float32: HU, or grey levels in [0, 1] with white = dense.
        is_hounsfield: whether they are HU, as those of one CT slice are.
        modality: Modality (C.7.3.1.1.1): "DX", "CR", "CT", ...
        name: what messages call it.
        spacing: in mm, between rows and between columns: PixelSpacing (10.7.1.3), else
            ImagerPixelSpacing, which is measured at the detector; `None` if the file has neither.
    """

    pixels: np.ndarray
    is_hounsfield: bool
    modality: str
    name: str
    spacing: tuple[float, float] | None


def is_dicom(path: str | Path) -> bool:
    """Tell whether a file is DICOM by its suffix (.dcm, .dicom, .ima), or by "DICM" at byte 128."""
    path = Path(path)
    if path.is_dir():
        return False
    if path.suffix.lower() in DICOM_SUFFIXES:
        return True
    if not path.is_file():
        return False
    with path.open("rb") as file:
        file.seek(_MAGIC_OFFSET)
        return file.read(len(_MAGIC)) == _MAGIC


def dicom_files(folder: str | Path) -> list[Path]:
    """Return the DICOM files directly in a folder, by name; others are passed over.

    Raises:
        FileNotFoundError, NotADirectoryError: if there is no such folder.
        ValueError: if it holds no DICOM file; says what it holds, and which sub-folder has some.
    """
    folder = Path(folder)
    found = [path for path in sorted(folder.iterdir()) if _is_slice_file(path)]
    if found:
        return found
    entries = [entry for entry in sorted(folder.iterdir()) if not entry.name.startswith(".")]
    with_some = [e.name for e in entries if e.is_dir() and any(map(_is_slice_file, e.iterdir()))]
    if with_some:
        hint = f"There are some in its folder {listed(with_some)}: pass that."
    else:
        hint = "Pass a folder of DICOM slices, or single files."
    holds = listed([entry.name + "/" * entry.is_dir() for entry in entries]) or "nothing"
    raise ValueError(f"The folder {folder} has no DICOM files. It holds {holds}. {hint}")


def _is_slice_file(path: Path) -> bool:
    # macOS leaves files whose names start with "._" beside those it copies.
    return not path.name.startswith(".") and path.name != DICOM_INDEX and is_dicom(path)


def dicom_dimension(source: DicomSource) -> int:
    """Tell whether `read_dicom` makes an image or a volume of it, 2 or 3, from its headers.

    Raises:
        OSError, ValueError, ImportError: if a file, a folder or pydicom is missing, or no DICOM.
    """
    paths, _ = _paths_of(source)
    if len(paths) > 1:
        return 3
    with _without_pydicom_warnings:
        return 3 if len(open_frames(paths[0], headers_only=True)) > 1 else 2


def group_slices(paths: Sequence[str | Path]) -> list[Path | list[Path]]:
    """Tell which of several DICOM files belong together.

    Two or more slices of one series become one list, in the place of the first of them. A
    radiograph, a multi-frame file, a localizer, and a slice that is the only one of its series are
    inputs by themselves.

    Raises:
        OSError: if a file is missing or not DICOM.
        ValueError: if there are slices of several series: which files are meant to be one volume
            and which one image each would be a guess.
    """
    with _without_pydicom_warnings:
        frames = [open_frames(Path(path), headers_only=True)[0] for path in paths]
        members: dict[str, list[Frame]] = {}
        for frame in frames:
            if frame.count == 1 and frame.is_placed:
                members.setdefault(frame.text("SeriesInstanceUID"), []).append(frame)
        several = {uid: slices for uid, slices in members.items() if _is_stack(slices)}
        if len(several) > 1:
            raise ValueError(
                f"{frames[0].name} and {len(frames) - 1} more are slices of {len(several)} series: "
                f"{_described(several)}. Pass the slices of each as a list of its own."
            )
    stack = next(iter(several.values()), [])
    slices = [frame.path for frame in stack]
    return [
        slices if frame in stack[:1] else frame.path for frame in frames if frame not in stack[1:]
    ]


def _is_stack(slices: list[Frame]) -> bool:
    return sum(not frame.is_localizer for frame in slices) > 1


def read_dicom(source: DicomSource, grey_window: GreyWindow = None) -> DicomImage | DicomVolume:
    """Read a DICOM file, or the slices of one series, each file once.

    One frame makes a `DicomImage`, several make a `DicomVolume`. Slices are sorted by their
    position along the normal, never by name or InstanceNumber. PixelSpacing, ImagePositionPatient
    and ImageOrientationPatient (C.7.6.2) give the affine; an enhanced multi-frame file has them in
    its functional groups (C.7.6.16).

    A slice of a CT is in HU: stored value * RescaleSlope + RescaleIntercept (C.11.1), each by the
    slice's own. A photometric interpretation of MONOCHROME1 inverts a radiograph, but neither a CT
    nor any volume: it says how to display values, not what they are.

    Args:
        source: the path of a file or of a folder, or the paths of several files.
        grey_window: replaces the window that a radiograph's file names, see `grey_levels`: (level,
            width) in values after RescaleSlope and RescaleIntercept, "minmax" or "percentiles". A
            slice of a CT is in HU whatever it is.

    Raises:
        OSError: if a file is missing, empty, truncated, damaged or not DICOM.
        ValueError: if a file holds no image, or a header that contradicts itself; if a folder or
            list mixes series, or has slices that are missing, unequally spaced, at the same
            position, tilted, or of differing size, orientation or pixel spacing (see
            `stack_planes`); if one is a localizer, or says not where it lies.
        ImportError: if pydicom, or the package that decompresses the pixels, is missing.
    """
    paths, name = _paths_of(source)
    with _without_pydicom_warnings:
        frames = [frame for path in paths for frame in open_frames(path)]
        if len(frames) == 1:
            return _image(frames[0], grey_window)
        return _volume(frames, name)


def stacked_slices(source: DicomSource) -> tuple[list[Path], np.ndarray]:
    """Tell the order of a series' slices and where they lie, from their headers alone.

    Returns:
        The file of each slice, in the order in which `read_dicom` has them along its last axis, and
        the affine that it returns.

    Raises:
        OSError, ValueError, ImportError: as `read_dicom` does for a series; ValueError for a source
            of one slice.
    """
    paths, name = _paths_of(source)
    with _without_pydicom_warnings:
        frames = [frame for path in paths for frame in open_frames(path, headers_only=True)]
        if len(frames) < 2:
            raise ValueError(f"{name} is one slice; wanted a series of several.")
        order, affine = _stacked(frames, name)
    return [frames[index].path for index in order], affine


def _paths_of(source: DicomSource) -> tuple[list[Path], str]:
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        return (dicom_files(path) if path.is_dir() else [path]), str(path)
    paths = [Path(path) for path in source]
    if not paths:
        raise ValueError("Wanted the paths of DICOM files; got an empty list.")
    return paths, listed([str(path) for path in paths[:1]] + [path.name for path in paths[1:]])


def _image(frame: Frame, grey_window: GreyWindow) -> DicomImage:
    hounsfield = is_hounsfield(frame)
    pixels = physical_values(frame) if hounsfield else grey_levels(frame, grey_window)
    return DicomImage(pixels, hounsfield, frame.text("Modality"), frame.name, _pixel_spacing(frame))


def _pixel_spacing(frame: Frame) -> tuple[float, float] | None:
    spacing = frame.numbers("PixelSpacing", 2)
    if spacing is None:
        spacing = frame.numbers(_DETECTOR_SPACING, 2)
    if spacing is None:
        return None
    if (spacing <= 0).any():
        raise ValueError(
            f"{frame.name} has a pixel spacing of {spacing.tolist()} mm; wanted two positive "
            f"lengths. Correct its header."
        )
    return float(spacing[0]), float(spacing[1])


def _volume(frames: list[Frame], name: str) -> DicomVolume:
    order, affine = _stacked(frames, name)
    voxels = np.empty((len(frames), *frames[0].shape), dtype=np.float32)
    for values, index in zip(voxels, order, strict=True):
        values[:] = physical_values(frames[index])
    return DicomVolume(voxels.transpose(), affine, frames[0].text("Modality"), name)


def _stacked(frames: list[Frame], name: str) -> tuple[np.ndarray, np.ndarray]:
    """The order of slices as indices, and their affine, see `stack_planes`."""
    _require_one_series(frames, name)
    _require_slices(frames, name)
    return stack_planes([_plane(frame) for frame in frames], name)


def _require_one_series(frames: list[Frame], name: str) -> None:
    series: dict[str, list[Frame]] = {}
    for frame in frames:
        series.setdefault(frame.text("SeriesInstanceUID"), []).append(frame)
    if len(series) > 1:
        raise ValueError(
            f"{name} mixes {len(series)} series: {_described(series)}. Pass the files of one as a "
            f"list."
        )


def _described(series: dict[str, list[Frame]]) -> str:
    """Each series' UID, shortened to its end, description, modality and number of files."""
    return "; ".join(
        f"...{uid[-12:]} {members[0].text('SeriesDescription') or 'without description'!r} "
        f"({members[0].text('Modality')}, files: {len({member.path for member in members})}, "
        f"{members[0].short_name} first)"
        for uid, members in series.items()
    )


def _require_slices(frames: list[Frame], name: str) -> None:
    localizers = [frame.short_name for frame in frames if frame.is_localizer]
    if localizers:
        raise ValueError(
            f"{name} holds a localizer among its slices: {listed(localizers)}. Pass the others "
            f"as a list."
        )
    unplaced = [frame for frame in frames if not frame.is_placed]
    if unplaced:
        cine = unplaced[0].count > 1
        raise ValueError(
            f"{name} has {len(unplaced)} of {len(frames)} frames without ImagePositionPatient and "
            f"ImageOrientationPatient: {listed([frame.short_name for frame in unplaced])}. "
            + (
                "A loop of frames, as of an ultrasound, is no volume: pass one frame as an array."
                if cine
                else "They are no slices of a volume: pass each file by itself."
            )
        )
    unspaced = [frame.short_name for frame in frames if not frame.values("PixelSpacing")]
    if unspaced:
        raise ValueError(
            f"{name} has slices without PixelSpacing: {listed(unspaced)}. Add it to their headers "
            f"({_DETECTOR_SPACING} is no spacing in the patient)."
        )
    derived = [f for f in frames if f.text("Modality") == "CT" and not is_hounsfield(f)]
    if derived:
        raise ValueError(
            f"{name} has modality CT, but {listed([frame.short_name for frame in derived])} have "
            f"SOPClassUID {derived[0].text('SOPClassUID')}, which is not CT Image Storage: "
            f"their values are not known to be HU. Pass the original series."
        )


def _plane(frame: Frame) -> Plane:
    return Plane(
        frame.short_name,
        frame.shape,
        frame.numbers("ImagePositionPatient", 3),
        frame.numbers("ImageOrientationPatient", 6).reshape(2, 3),
        frame.numbers("PixelSpacing", 2),
    )


class _WithoutPydicomWarnings:
    """pydicom warns of every odd value of every file; what matters here is checked here.

    Filters belong to the process, so those of overlapping threads are one: the first to come sets
    it, the last to go restores what was before.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._filters = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            self._users += 1
            if self._users == 1:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.filterwarnings("ignore", module=r"pydicom\b")

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._filters.__exit__(*error)


_without_pydicom_warnings = _WithoutPydicomWarnings()
