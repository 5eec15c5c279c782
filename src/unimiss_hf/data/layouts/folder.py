"""Any folder: images and volumes at any depth, told apart by the files themselves."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

from ...dicom_frames_mit import open_frames
from ...image_inputs_mit import dimension_of
from ...nifti_reading_mit import is_volume_file
from ..image_columns import FILE_SUFFIXES
from ..image_files import ImageFiles, group_images, images_in, is_image_file
from ..reading import Dimension
from ..sources import suffix_of
from .item import Layout, License, Problem, SourceItem
from .metaimage import load_metaimage, voxel_file
from .tree import path_below

_METAIMAGE = (".mhd", ".mha")


def items_of_folder(folder: Path) -> Iterator[SourceItem | Problem]:
    """Find the images and volumes below a folder, through links; hidden files are left out.

    The DICOM files of one folder are grouped: slices of one series are one volume. Which dimension
    an image has is read from its header; one that cannot be read is taken for what its name says.

    Yields:
        An item for each image, named by its path below the folder, and a problem for each other
        file.

    Raises:
        ImportError: if DICOM files are among them, and pydicom is missing.
    """
    images, others = images_in(folder)
    used: set[Path] = set()
    for item in items_of_files(folder, [*images, *filter(_is_metaimage, others)]):
        used.update(item.files)
        yield item
    for path in others:
        if path not in used:
            name = path_below(folder, path)
            yield Problem(name, "neither an image nor a volume", is_missing=False)


def is_readable(path: Path) -> bool:
    """Whether a file by itself is an image or volume, of one of the formats that are read."""
    return _is_metaimage(path) or is_image_file(path)


def items_of_files(folder: Path, files: Iterable[Path]) -> Iterator[SourceItem]:
    """Make items of image files below a folder, see `items_of_folder`.

    Raises:
        ImportError: if DICOM files are among them, and pydicom is missing.
    """
    files = list(files)
    for path in filter(_is_metaimage, files):
        yield _metaimage(path, path_below(folder, path))
    for image in group_images(path for path in files if not _is_metaimage(path)):
        name = path_below(folder, image.path)
        if name == ".":
            name = folder.resolve().name
        series = _series_of(image.files) if image.is_guess else {}
        if len(series) < 2:
            yield SourceItem(name, dimension_of_files(image), image.files)
            continue
        for uid, slices in series.items():
            for part in group_images(slices):
                label = uid if len(part.files) > 1 else part.path.name
                yield SourceItem(f"{name}/{label}", dimension_of_files(part), part.files)


def _is_metaimage(path: Path) -> bool:
    return suffix_of(path) in _METAIMAGE


def _metaimage(header: Path, name: str) -> SourceItem:
    try:
        files = tuple(dict.fromkeys((header, voxel_file(header))))
    except (ValueError, OSError):
        # Reading it will tell what is wrong.
        files = (header,)
    return SourceItem(name, "3d", files, load=load_metaimage)


def _series_of(files: Iterable[Path]) -> dict[str, list[Path]]:
    """DICOM files by their series; none if one cannot be read, as it may be of any."""
    series: dict[str, list[Path]] = {}
    for path in files:
        try:
            with warnings.catch_warnings():
                # pydicom warns of every odd value; reading will tell what matters.
                warnings.simplefilter("ignore")
                uid = open_frames(path, headers_only=True)[0].text("SeriesInstanceUID")
        except (ValueError, OSError):
            return {}
        series.setdefault(uid or "no SeriesInstanceUID", []).append(path)
    return series


def dimension_of_files(image: ImageFiles) -> Dimension:
    """Tell the dimension of an image by its name or its header."""
    if len(image.files) > 1:
        return "3d"
    if suffix_of(image.path) in FILE_SUFFIXES["2d"]:
        return "2d"
    try:
        return "2d" if dimension_of(image.files[0]) == 2 else "3d"
    except (ValueError, OSError):
        # Reading it will tell what is wrong.
        return "3d" if is_volume_file(image.path) else "2d"


FOLDER = Layout(
    name="folder",
    title="Folder of images",
    homepage="",
    license=License("unknown", "unknown", ""),
    citation="",
    dimensions=("2d", "3d"),
    recognise=Path.is_dir,
    items=items_of_folder,
)
"""Any folder at all; not in `LAYOUTS`, as every folder is one."""
