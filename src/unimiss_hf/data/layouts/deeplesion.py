"""DeepLesion, as it is unpacked: `Images_png/000001_01_01/103.png` beside `DL_info.csv`.

A folder is a series; its slices are the annotated ones and 30 mm to either side of each, so that
slices can be missing between them. As the data set's own script does, each run of slices with
consecutive numbers is taken as a volume of its own, called `000001_01_01_103-115`.

A PNG holds 16 bits, HU + 32768. It does not say how it lies in the patient. Taken is what the data
set's script assumes: rows run from anterior to posterior, columns from the patient's right to the
left, and slice numbers from superior to inferior. `Normalized_lesion_location` in `DL_info.csv`,
which grows from head to feet, grows with the slice number there; scans that were not displayed this
way would be turned wrongly.
"""

from __future__ import annotations

import functools
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import nibabel
import numpy as np

from ...image_reading_mit import Volume
from ...input_checks_mit import decoding, require_spacing
from ...radiograph_reading_mit import open_pillow
from ...volume_grids_mit import VolumeGrid, reverse_axes
from ..sources import visible_files
from .item import Layout, Problem, SourceItem
from .licenses import unstated
from .tables import read_rows
from .tree import each_once, has_root, path_below, require_root, unfinished

_TITLE = "DeepLesion"
_HOMEPAGE = "https://nihcc.app.box.com/v/DeepLesion"
_SERIES, _SLICE = r"\d{6}_\d{2}_\d{2}", r"(\d{3,})\.png"
_PATTERNS = (
    rf"Images_png/{_SERIES}/{_SLICE}",
    rf"Images_png_\d\d/Images_png/{_SERIES}/{_SLICE}",
    rf"Images_png_\d\d/{_SERIES}/{_SLICE}",
    rf"Images_png/Images_png/{_SERIES}/{_SLICE}",
    rf"{_SERIES}/{_SLICE}",
)
_TABLE = "DL_info.csv"
_COLUMNS = ("File_name", "Slice_range", "Spacing_mm_px_", "Train_Val_Test")
_SPLITS = {"1": "train", "2": "validation", "3": "test"}
_OFFSET = 32768
_SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I")


@dataclass
class _Listed:
    """What the table says of a series; sets, as its rows may contradict one another."""

    spacings: set[str] = field(default_factory=set)
    splits: set[str] = field(default_factory=set)
    slices: set[int] = field(default_factory=set)


def _items(folder: Path) -> Iterator[SourceItem | Problem]:
    root = require_root(folder, _PATTERNS, _TITLE)
    listed = _read_table(root)
    files = visible_files(root)
    yield from unfinished(root, files)
    series: dict[Path, dict[int, Path]] = defaultdict(dict)
    for path in files:
        number = re.fullmatch(_SLICE, path.name)
        if number and re.fullmatch(_SERIES, path.parent.name):
            series[path.parent][int(number[1])] = path
    yield from each_once(
        item
        for place, slices in sorted(series.items())
        for item in _of_series(path_below(root, place), slices, listed.get(place.name))
    )
    present = {place.name for place in series}
    for name in listed:
        if name not in present:
            yield Problem(name, f"is listed in {_TABLE}, but its folder is not there.")


def _read_table(root: Path) -> dict[str, _Listed]:
    # Those who pass Images_png itself have the table beside it.
    tables = [place / _TABLE for place in (root, root.parent) if (place / _TABLE).is_file()]
    if not tables:
        raise FileNotFoundError(
            f"{root} has no {_TABLE}, which says the spacing of its volumes. Download it from "
            f"{_HOMEPAGE} and put it there."
        )
    listed: dict[str, _Listed] = defaultdict(_Listed)
    for row in read_rows(tables[0], _COLUMNS):
        series = listed[row["File_name"].rpartition("_")[0]]
        series.spacings.add(row["Spacing_mm_px_"])
        series.splits.add(row["Train_Val_Test"])
        series.slices.update(_range(row["Slice_range"], row["File_name"], tables[0]))
    return listed


def _range(text: str, name: str, table: Path) -> range:
    numbers = re.fullmatch(r"(\d+), *(\d+)", text)
    if numbers is None:
        raise ValueError(
            f"{table} has Slice_range {text!r} for {name}; wanted the numbers of the first and the "
            f"last slice. Download it again."
        )
    return range(int(numbers[1]), int(numbers[2]) + 1)


def _of_series(
    place: str, slices: dict[int, Path], listed: _Listed | None
) -> Iterator[SourceItem | Problem]:
    name = place.rpartition("/")[2]
    if listed is None:
        yield Problem(place, f"is not listed in {_TABLE}, so that its spacing is not known.")
        return
    try:
        spacing = _spacing(listed)
    except ValueError as error:
        yield Problem(place, str(error))
        return
    lacking = sorted(listed.slices - slices.keys())
    if lacking:
        numbers = ", ".join(f"{number:03d}" for number in lacking)
        yield Problem(place, f"lacks slices {numbers}. Download it again.", is_missing=False)
    for run in _runs(slices):
        volume = f"{name}_{run[0]:03d}-{run[-1]:03d}"
        if len(run) == 1:
            yield Problem(volume, "is one slice without neighbours, which is no volume.")
            continue
        yield SourceItem(
            name=volume,
            dimension="3d",
            files=tuple(slices[number] for number in run),
            split=_SPLITS.get(min(listed.splits), "train"),
            patient=name.partition("_")[0],
            spacing=spacing,
            load=load_slices,
        )


def _spacing(listed: _Listed) -> tuple[float, ...]:
    """(depth, height, width) in mm; the table has (width, height, depth)."""
    if len(listed.spacings) > 1:
        raise ValueError(f"has several spacings in {_TABLE}: {sorted(listed.spacings)}.")
    (text,) = listed.spacings
    try:
        numbers = [float(number) for number in text.split(",")]
    except ValueError:
        numbers = []
    return require_spacing(f"its Spacing_mm_px_ in {_TABLE}", numbers[::-1] or text)


def _runs(numbers: Iterable[int]) -> list[list[int]]:
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return runs


def load_slices(item: SourceItem) -> Volume:
    """Read consecutive slices as a volume `(depth, height, width)` in HU, RAS+.

    Args:
        item: its files are 16-bit PNGs in the order of their numbers, superior first; its spacing
            is that of `DL_info.csv`.

    Raises:
        OSError: if a file is missing, truncated or no image.
        ValueError: if one has not 16 bits, or another size than the first.
    """
    slices = [_stored(path) for path in item.files]
    for path, stored in zip(item.files, slices, strict=True):
        if stored.shape != slices[0].shape:
            raise ValueError(
                f"{path} has size {stored.shape} (rows, columns), but {item.files[0]} has "
                f"{slices[0].shape}: they are no slices of one volume. Download the series again."
            )
    voxels = np.stack(slices).astype(np.float32) - _OFFSET
    depth, height, width = require_spacing("The item's spacing", item.spacing)
    affine = np.diag([-width, -height, -depth, 1.0])  # columns to left, rows to posterior, down
    grid = VolumeGrid.native(voxels.shape[::-1], affine, nibabel.io_orientation(affine))
    turned = nibabel.apply_orientation(reverse_axes(voxels), grid.orientation)
    turned = np.ascontiguousarray(reverse_axes(turned))
    return Volume(turned, (depth, height, width), grid, "image")


def _stored(path: Path) -> np.ndarray:
    with open_pillow(path) as image:
        if image.mode not in _SIXTEEN_BITS:
            raise ValueError(
                f"{path} has mode {image.mode}, not 16-bit grey levels: it is a windowed copy, or "
                f"not of {_TITLE}. Pass Images_png as it was unpacked."
            )
        with decoding(str(path), "a complete image"):
            return np.asarray(image)


DEEPLESION = Layout(
    name="deeplesion",
    title=_TITLE,
    homepage=_HOMEPAGE,
    license=unstated(_HOMEPAGE),
    citation=(
        "Yan K, Wang X, Lu L, Summers RM. DeepLesion: automated mining of large-scale lesion "
        "annotations and universal lesion detection with deep learning. Journal of Medical Imaging "
        "5(3), 036501 (2018). https://doi.org/10.1117/1.JMI.5.3.036501"
    ),
    dimensions=("3d",),
    recognise=functools.partial(has_root, patterns=_PATTERNS),
    items=_items,
)
"""Slabs of 10,594 CT studies of 4,427 patients of the NIH Clinical Center, around lesions."""
