"""Which files are images or volumes, and which DICOM files belong together."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..array_reading_mit import is_array_file
from ..dicom_reading_mit import DICOM_INDEX, group_slices, is_dicom
from ..nifti_reading_mit import is_volume_file
from .image_columns import FILE_SUFFIXES
from .sources import suffix_of, visible_files


@dataclass(frozen=True)
class ImageFiles:
    """The files of one image or volume, which nothing has read yet.

    Attributes:
        path: what to call it: its file, or the folder of its DICOM slices.
        files: all of its files, several only if they are DICOM slices.
        is_guess: whether some of these slices could not be read, or are of several series, so that
            reading them as one volume will tell what is wrong.
    """

    path: Path
    files: tuple[Path, ...]
    is_guess: bool = False


def is_image_file(path: Path) -> bool:
    """Whether a file is an image or volume, by its name or, for DICOM, its beginning."""
    return is_named_like_an_image(path) or (path.name != DICOM_INDEX and is_dicom(path))


def is_named_like_an_image(path: Path) -> bool:
    """Whether a file's name says that Pillow, nibabel or numpy reads it."""
    return suffix_of(path) in FILE_SUFFIXES["2d"] or is_volume_file(path) or is_array_file(path)


def images_in(folder: Path) -> tuple[list[Path], list[Path]]:
    """Find image files below a folder, at any depth, through links; hidden ones are left out.

    Of an Analyze or NIfTI pair, the header alone counts.

    Returns:
        The image files, and all others, each sorted.
    """
    found = visible_files(folder)
    images = [path for path in found if is_image_file(path)]
    others = sorted(set(found) - set(images))
    headers = {path.with_suffix("") for path in images if path.suffix.lower() == ".hdr"}
    return [path for path in images if not _is_voxels_of(path, headers)], others


def group_images(paths: Iterable[Path]) -> list[ImageFiles]:
    """Tell which image files are images by themselves, and which are slices of one volume.

    The DICOM files that lie in one folder are grouped: the slices of a series are one volume, with
    the folder's name, and a radiograph is an image of its own.

    Returns:
        The images, in the order of the files; those that are DICOM come last.

    Raises:
        ImportError: if DICOM files are among them, and pydicom is missing.
    """
    images: list[ImageFiles] = []
    dicom: dict[Path, list[Path]] = {}
    for path in dict.fromkeys(paths):
        if not is_named_like_an_image(path) and is_dicom(path):
            dicom.setdefault(path.parent, []).append(path)
        else:
            images.append(ImageFiles(path, (path,)))
    for folder, files in dicom.items():
        images += _grouped(folder, files)
    return images


def _is_voxels_of(path: Path, headers: set[Path]) -> bool:
    """Whether a file holds the voxels of an Analyze or NIfTI pair, whose header is the image."""
    name = path.name
    for suffix in (".img", ".img.gz"):
        if name.lower().endswith(suffix):
            return path.with_name(name[: -len(suffix)]) in headers
    return False


def _grouped(folder: Path, paths: Sequence[Path]) -> list[ImageFiles]:
    """Images made of DICOM files of one folder; what cannot be grouped, reading will report."""
    whole = ImageFiles(folder, tuple(paths), is_guess=True)
    damaged: list[Path] = []
    try:
        groups = group_slices(paths)
    except (ValueError, OSError):
        damaged = [path for path in paths if not _can_be_grouped(path)]
        try:
            groups = group_slices([path for path in paths if path not in damaged])
        except (ValueError, OSError):
            return [whole]
    stacks = [group for group in groups if isinstance(group, list)]
    if damaged and stacks:
        # The damaged file may be a slice: the volume is not to do without it unseen.
        return [whole]
    volumes = [ImageFiles(folder, tuple(stack)) for stack in stacks]
    alone = [path for path in (*groups, *damaged) if isinstance(path, Path)]
    return volumes + [ImageFiles(path, (path,)) for path in alone]


def _can_be_grouped(path: Path) -> bool:
    try:
        group_slices([path])
    except (ValueError, OSError):
        return False
    return True
