"""Files that come as bytes from whoever sends them: told by their content, within bounds.

Nothing is decompressed or decoded before it is known to stay within them: headers are read first,
and of what is compressed no more is unpacked than its header speaks of.
"""

from __future__ import annotations

import gzip
import io
import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from .dicom_frames_mit import import_pydicom
from .dicom_reading_mit import DICOM_INDEX
from .lazy_nibabel_mit import nibabel
from .volume_grids_mit import LARGEST_VOLUME

_FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
# Where a file's first bytes say what it is. DICOM first: its preamble may be that of a TIFF file.
_MAGIC = (
    (128, b"DICM", "dicom"),
    (344, b"n+1\0", "nifti1"),
    (4, b"n+2\0", "nifti2"),
    (0, b"\x89PNG\r\n\x1a\n", "image"),
    (0, b"\xff\xd8\xff", "image"),
    (0, b"II*\0", "image"),
    (0, b"MM\0*", "image"),
    (0, b"BM", "image"),
    (0, b"\x1f\x8b", "gzip"),
    (0, b"PK\x03\x04", "zip"),
    (0, b"\0\0\0\1", "mgh"),
)
_WANTED = (
    "Send a PNG, JPEG, TIFF, BMP, DICOM, NIfTI (.nii, .nii.gz) or MGH file, or a zip of the DICOM "
    "slices of one series."
)
_HEAD = 1024  # bytes, which hold every header
_CHUNK = 2**20
_MGH_BYTES = {0: 1, 1: 4, 3: 4, 4: 2}  # of a voxel, by the header's type
_MGH_OFFSET = 284
# An entry in a zip's list of files, with a name as long as those of slices are at most.
_LIST_ENTRY = 1024


@dataclass(frozen=True)
class InputBounds:
    """How large an input may be.

    Attributes:
        bytes: of the file as it comes.
        decoded_bytes: of it after decompression.
        pixels: of an image.
        voxels: of a volume, as it is stored and as it is resampled.
        files: in a zip of DICOM slices.
    """

    bytes: int = 2**29
    decoded_bytes: int = 2**31
    pixels: int = 2**26
    voxels: int = 2**27
    files: int = 2**12

    def require(self, bound: str, found: int, what: str) -> None:
        """Raise a ValueError that says so if there is more of something than a bound allows."""
        most = getattr(self, bound)
        if found > most:
            raise ValueError(
                f"This is too large: {found} {what}, and {most} are taken at most. Send a smaller "
                f"one, or have the bound raised where the service is set up."
            )

    @contextmanager
    def resampling(self) -> Iterator[None]:
        """While it lasts, this thread resamples volumes to no more than `voxels`."""
        token = LARGEST_VOLUME.set(self.voxels)
        try:
            yield
        finally:
            LARGEST_VOLUME.reset(token)


def open_received(data: bytes, folder: Path, bounds: InputBounds) -> Any:
    """Turn the bytes of a file into what `MiTImageProcessor` takes.

    A PNG, JPEG, TIFF or BMP file becomes a PIL image; a NIfTI-1, NIfTI-2 or MGH file, as it is or
    compressed by gzip, a nibabel image; a DICOM file the path of a copy, and a zip of the slices of
    one DICOM series the path of a folder of copies. What else lies in the zip is passed over, and
    its names are not used.

    Args:
        data: the file.
        folder: where copies go, which the caller deletes; it must be empty.
        bounds: what is taken at most.

    Raises:
        ValueError: if the file is of another kind, damaged, cut off or larger than the bounds.
        OSError: if a copy cannot be written.
        ImportError: if nibabel or pydicom is missing.
    """
    bounds.require("bytes", len(data), "bytes")
    kind = _kind_of(data)
    if kind == "image":
        return _image(data, bounds)
    if kind == "gzip":
        with _reading("a gzip file"), gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            return _compressed_volume(file, bounds)
    if kind == "zip":
        return _series(data, folder, bounds)
    if kind == "dicom":
        path = folder / "input.dcm"
        path.write_bytes(data)
        _check_dicom([path], bounds)
        return path
    if kind is not None:
        needed = _volume_bytes(kind, data[:_HEAD], bounds)
        return _volume(kind, data, needed)
    found = f"The {len(data)} bytes that came are of no known kind." if data else "Nothing came."
    raise ValueError(f"{found} {_WANTED}")


def _kind_of(data: bytes) -> str | None:
    return next((kind for at, magic, kind in _MAGIC if data[at : at + len(magic)] == magic), None)


@contextmanager
def _reading(wanted: str) -> Iterator[None]:
    """Turn what decoders raise for broken files, which is almost anything, into a ValueError."""
    try:
        yield
    except (MemoryError, ImportError):
        raise
    except Exception as error:
        if isinstance(error, ValueError) and str(error).endswith("."):
            raise  # A sentence of ours already.
        reason = str(error).rstrip(".") or type(error).__name__
        raise ValueError(f"This is not {wanted}, or it is damaged: {reason}.") from error


def _image(data: bytes, bounds: InputBounds) -> Image.Image:
    with _reading("an image that Pillow reads"):
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    bounds.require("pixels", image.width * image.height, f"pixels {image.size}")
    return image


def _compressed_volume(file: gzip.GzipFile, bounds: InputBounds) -> Any:
    head = file.read(_HEAD)
    kind = _kind_of(head)
    if kind not in ("nifti1", "nifti2", "mgh"):
        raise ValueError(f"The gzip file holds no NIfTI or MGH file. {_WANTED}")
    needed = _volume_bytes(kind, head, bounds)
    file.seek(0)
    data = file.read(needed + _HEAD)
    length = len(data)
    while chunk := file.read(_CHUNK):  # To the checksum at its end.
        length += len(chunk)
        bounds.require("decoded_bytes", length, "bytes after decompression")
    return _volume(kind, data, needed)


def _volume(kind: str, data: bytes, needed: int) -> Any:
    if len(data) < needed:
        raise ValueError(
            f"The volume file was cut off: it has {len(data)} bytes, and by its header {needed}. "
            f"Send it again."
        )
    with _reading("a volume that nibabel reads"):
        return _image_class(kind).from_bytes(data)


def _volume_bytes(kind: str, head: bytes, bounds: InputBounds) -> int:
    """How long a volume file must be by its header, whose claims are bounded."""
    with _reading("a volume that nibabel reads"):
        if kind == "mgh":
            *shape, code = np.frombuffer(head[4:24], ">i4").tolist()
            offset, width = _MGH_OFFSET, _MGH_BYTES[code]
        else:
            header = _image_class(kind).header_class.from_fileobj(io.BytesIO(head))
            shape = [int(length) for length in header.get_data_shape()]
            offset, width = header.get_data_offset(), header.get_data_dtype().itemsize
        if min(shape, default=0) < 1 or offset < 0:
            raise ValueError(f"its header has the shape {tuple(shape)} at byte {offset}")
    voxels = math.prod(shape)
    bounds.require("voxels", voxels, f"voxels ({' x '.join(map(str, shape))})")
    needed = offset + voxels * width
    bounds.require("decoded_bytes", needed, "bytes after decompression")
    return needed


def _image_class(kind: str) -> Any:
    name = {"nifti1": "Nifti1Image", "nifti2": "Nifti2Image", "mgh": "MGHImage"}[kind]
    return getattr(nibabel, name)


def _series(data: bytes, folder: Path, bounds: InputBounds) -> Path:
    """Unpack the DICOM files of a zip, under names of our own, into a folder."""
    series, length = folder / "series", 0
    series.mkdir()
    with _reading("a zip file"):
        # Before Python makes an object of each file in the list.
        bounds.require("files", _list_bytes(data) // _LIST_ENTRY, "files or more in the zip")
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = [entry for entry in archive.infolist() if _may_be_slice(entry)]
            bounds.require("files", len(entries), "files in the zip")
            for number, entry in enumerate(entries):
                with archive.open(entry) as packed:
                    chunk = packed.read(_HEAD)
                    if _kind_of(chunk) != "dicom":
                        continue
                    with (series / f"{number:04d}.dcm").open("wb") as file:
                        while chunk:
                            length += len(chunk)
                            bounds.require("decoded_bytes", length, "bytes after decompression")
                            file.write(chunk)
                            chunk = packed.read(_CHUNK)
    paths = sorted(series.iterdir())
    if not paths:
        raise ValueError(f"The zip holds no DICOM files. {_WANTED}")
    _check_dicom(paths, bounds)
    return series


def _list_bytes(data: bytes) -> int:
    """How long the list of a zip's files is."""
    end = data.rfind(b"PK\x05\x06", max(0, len(data) - 2**16 - 22))
    if end < 0:
        raise ValueError("its end is missing")
    if data[max(0, end - 20) : end].startswith(b"PK\x06\x07"):
        raise ValueError("it is in the format for more than 4 GiB or 65,535 files")
    return int.from_bytes(data[end + 12 : end + 16], "little")


def _may_be_slice(entry: zipfile.ZipInfo) -> bool:
    path = PurePosixPath(entry.filename)
    # macOS leaves files whose names start with "._" beside those it copies.
    hidden = path.name.startswith(".") or "__MACOSX" in path.parts
    return not (entry.is_dir() or hidden or path.name == DICOM_INDEX)


def _check_dicom(paths: list[Path], bounds: InputBounds) -> None:
    """Bound what the headers speak of, before any pixels are decoded."""
    pydicom = import_pydicom()
    tags = ["Rows", "Columns", "SamplesPerPixel", "NumberOfFrames"]
    pixels = frames = 0
    for path in paths:
        with _reading("a DICOM file"):
            syntax = pydicom.filereader.read_file_meta_info(path).get("TransferSyntaxUID")
            if syntax is not None and syntax.is_deflated:
                raise ValueError(
                    "it is deflated, which pydicom unpacks without a bound; convert it to Explicit "
                    "VR Little Endian"
                )
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=tags)
            rows, columns, samples, several = (int(header.get(tag) or 1) for tag in tags)
        pixels, frames = pixels + rows * columns * samples * several, frames + several
    if frames > 1:
        bounds.require("voxels", pixels, f"voxels (of {frames} slices)")
    else:
        bounds.require("pixels", pixels, "pixels")


__all__ = ["InputBounds", "open_received"]
