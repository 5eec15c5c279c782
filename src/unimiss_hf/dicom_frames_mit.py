"""A DICOM file as its frames: attributes, wherever the file keeps them, and stored pixels.

Sections are those of the DICOM standard, PS3.3. pydicom is imported when a file is opened.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .input_checks_mit import decoding

_MOST_FRAMES = 2**16  # More is a damaged header.
_PIXEL_ELEMENTS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_DECODERS = "pip install python-gdcm, or pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg"
# Where an enhanced multi-frame file keeps what other files keep at their top level (C.7.6.16).
_FUNCTIONAL_GROUPS = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "RescaleType": "PixelValueTransformationSequence",
    "WindowCenter": "FrameVOILUTSequence",
    "WindowWidth": "FrameVOILUTSequence",
    "VOILUTFunction": "FrameVOILUTSequence",
    "FrameType": "CTImageFrameTypeSequence",
}


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a DICOM file: all of it, or one frame of a multi-frame file.

    Attributes:
        path: the file.
        dataset: the pydicom dataset of the whole file.
        index: which frame of the file, from 0.
        count: how many frames the file has (NumberOfFrames).
    """

    path: Path
    dataset: Any
    index: int = 0
    count: int = 1

    @property
    def name(self) -> str:
        """What messages call the frame: the path, and the number from 1 if there are several."""
        return f"{self.path}{self._number}"

    @property
    def short_name(self) -> str:
        """The name without the folder, for messages that name the folder already."""
        return f"{self.path.name}{self._number}"

    @property
    def _number(self) -> str:
        return f" frame {self.index + 1}" if self.count > 1 else ""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and Columns."""
        return int(self.get("Rows") or 0), int(self.get("Columns") or 0)

    @property
    def is_placed(self) -> bool:
        """Whether the frame is a plane in the patient: it has a position and an orientation."""
        return bool(self.get("ImagePositionPatient") and self.get("ImageOrientationPatient"))

    @property
    def is_localizer(self) -> bool:
        """Whether the frame is a localizer, a projection taken to plan a CT (C.8.2.1.1.1)."""
        return "LOCALIZER" in self.values("ImageType") + self.values("FrameType")

    @property
    def has_pixels(self) -> bool:
        """Whether the file was read with pixel data."""
        return any(element in self.dataset for element in _PIXEL_ELEMENTS)

    def get(self, keyword: str) -> Any:
        """Return an attribute by its keyword in the standard, `None` where it is absent or empty.

        Raises:
            ValueError: if the file holds something that cannot be read as that attribute.
        """
        try:
            for holder in self._holders(keyword):
                value = holder.get(keyword)
                if value is not None and value != "" and value != []:
                    return value
        except Exception as error:
            raise ValueError(f"{self.name} has an unreadable {keyword}: {error}") from error
        return None

    def _holders(self, keyword: str) -> Iterable[Any]:
        group = _FUNCTIONAL_GROUPS.get(keyword)
        if group is not None:
            per_frame = self.dataset.get("PerFrameFunctionalGroupsSequence") or ()
            shared = self.dataset.get("SharedFunctionalGroupsSequence") or ()
            for groups in (*per_frame[self.index : self.index + 1], *shared[:1]):
                yield from groups.get(group) or ()
        # Of several frames, one position for all (as of a dose grid) is that of the first.
        if self.count == 1 or keyword != "ImagePositionPatient":
            yield self.dataset

    def values(self, keyword: str) -> list[Any]:
        """Return the values of an attribute, which the standard lets be several, as a list."""
        value = self.get(keyword)
        if value is None:
            return []
        several = isinstance(value, Sequence) and not isinstance(value, str)
        return list(value) if several else [value]

    def text(self, keyword: str) -> str:
        """Return an attribute as text, "" where it is absent or empty."""
        value = self.get(keyword)
        return "" if value is None else str(value).strip()

    def number(self, keyword: str) -> float | None:
        """Return the first number of an attribute, `None` where it is absent or empty."""
        numbers = self.numbers(keyword)
        return None if numbers is None else float(numbers[0])

    def numbers(self, keyword: str, count: int | None = None) -> np.ndarray | None:
        """Return the finite numbers of an attribute, `None` where it is absent or empty.

        Raises:
            ValueError: if one is not a finite number, or they are not `count`.
        """
        values = self.values(keyword)
        if not values:
            return None
        try:
            numbers = np.array([float(value) for value in values])
        except (TypeError, ValueError):
            numbers = np.array([np.nan])
        if count not in (None, len(numbers)) or not np.isfinite(numbers).all():
            wanted = "finite numbers" if count is None else f"{count} finite numbers"
            raise ValueError(
                f"{self.name} has {keyword} {values}; wanted {wanted}. Correct its header."
            )
        return numbers

    def stored_pixels(self) -> np.ndarray:
        """Decode the stored values: `(rows, columns)`, or `(rows, columns, 3)` for colours, as RGB.

        Raises:
            ValueError: if the file has no pixel data, or a compression that pydicom does not know.
            OSError: if the pixel data are truncated or damaged.
            ImportError: if the package that decompresses them is not installed.
        """
        decoder = self._decoder()
        wanted = "a complete DICOM image"
        if decoder.missing_dependencies:
            wanted += f", or needs another decoder ({_DECODERS})"
        with decoding(self.name, wanted):
            return import_pydicom().pixels.pixel_array(self.dataset, index=self.index)

    def _decoder(self) -> Any:
        pydicom = import_pydicom()
        if not self.has_pixels:
            kind = pydicom.uid.UID(self.text("SOPClassUID")).name
            raise ValueError(
                f"{self.path} holds no pixel data: its class is {kind}. Pass the images it belongs "
                f"to; if it is an image, it was cut off: copy it again."
            )
        syntax = self.dataset.file_meta.TransferSyntaxUID
        try:
            decoder = pydicom.pixels.get_decoder(syntax)
        except NotImplementedError as error:
            raise ValueError(
                f"{self.path} has pixel data in {syntax.name}, which pydicom does not decode. "
                f"Convert it to Explicit VR Little Endian."
            ) from error
        if not decoder.is_available:
            raise ImportError(
                f"{self.path} is compressed with {syntax.name}, for which no decoder is installed: "
                f"{_DECODERS}"
            )
        return decoder


def import_pydicom() -> Any:
    """Return the pydicom package, or raise an ImportError that says how to install it."""
    try:
        import pydicom
    except ImportError as error:
        raise ImportError("Reading DICOM needs pydicom: pip install pydicom") from error
    return pydicom


def open_frames(path: Path, headers_only: bool = False) -> list[Frame]:
    """Read a DICOM file once and return its frames, in the file's order.

    A file without the preamble and meta information of PS3.10 is read too, if it names its class
    (SOPClassUID). With `headers_only`, pixel data stay on the disk.

    Raises:
        OSError: if the file is missing, empty or not DICOM.
        ValueError: if its number of frames makes no sense.
        ImportError: if pydicom is missing.
    """
    pydicom = import_pydicom()
    if path.is_file() and path.stat().st_size == 0:
        raise OSError(f"{path} is empty (0 bytes). Copy it again.")
    with decoding(str(path), "a DICOM file"):
        dataset = pydicom.dcmread(path, force=True, stop_before_pixels=headers_only)
        if not dataset.get("SOPClassUID"):
            dataset.SOPClassUID = dataset.file_meta.get("MediaStorageSOPClassUID")
        if not dataset.SOPClassUID:
            raise ValueError("it names no SOPClassUID")
        if "TransferSyntaxUID" not in dataset.file_meta:
            dataset.file_meta.TransferSyntaxUID = _plain_syntax(dataset)
    count = Frame(path, dataset).number("NumberOfFrames")
    count = 1 if count is None else int(count)
    if not 1 <= count <= _MOST_FRAMES:
        raise ValueError(f"{path} has NumberOfFrames {count}; wanted 1 to {_MOST_FRAMES}.")
    return [Frame(path, dataset, index, count) for index in range(count)]


def _plain_syntax(dataset: Any) -> Any:
    implicit, little_endian = dataset.original_encoding
    if implicit:
        return import_pydicom().uid.ImplicitVRLittleEndian
    uids = import_pydicom().uid
    return uids.ExplicitVRLittleEndian if little_endian else uids.ExplicitVRBigEndian
