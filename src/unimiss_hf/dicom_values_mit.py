"""What stored DICOM values mean: Hounsfield units of a CT, grey levels of a radiograph.

Sections are those of the DICOM standard, PS3.3.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .dicom_frames_mit import Frame, import_pydicom
from .grey_levels_mit import LUMINANCE, GreyWindow, require_grey_window, unit_range
from .input_checks_mit import decoding, require_finite

_CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
# CT Image, Enhanced CT Image and Legacy Converted Enhanced CT Image Storage.
_CT_CLASSES = (_CT_IMAGE, f"{_CT_IMAGE}.1", f"{_CT_IMAGE}.2")
_GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_PALETTE = "PALETTE COLOR"


def is_hounsfield(frame: Frame) -> bool:
    """Whether a frame is a slice of a CT, whose rescaled values are HU; a localizer is not."""
    return frame.text("SOPClassUID") in _CT_CLASSES and not frame.is_localizer


def physical_values(frame: Frame) -> np.ndarray:
    """Decode a slice into what its values stand for, `(rows, columns)`, float32: HU for a CT.

    Stored values pass the modality transformation (C.11.1): RescaleSlope and RescaleIntercept, or
    the ModalityLUTSequence. Whether MONOCHROME1 or MONOCHROME2, the values are the same: the
    photometric interpretation says how to display them, not what they are.

    Raises:
        ValueError: if the slice has colours, values that are not finite, or, in a CT, a
            transformation that does not lead to HU.
        OSError, ImportError: as `Frame.stored_pixels` does.
    """
    stored, photometric = frame.stored_pixels(), frame.text("PhotometricInterpretation")
    if photometric not in _GREY:
        raise ValueError(
            f"{frame.name} has PhotometricInterpretation {photometric!r}; a slice of a CT or of a "
            f"volume is grey, one of {_GREY}. Pass the original slices."
        )
    return _modality_values(frame, stored)


def grey_levels(frame: Frame, grey_window: GreyWindow = None) -> np.ndarray:
    """Decode a picture into grey levels `(height, width)`, float32 in [0, 1], white = dense.

    After the modality transformation (C.11.1) come the values of interest (C.11.2): `grey_window`,
    if given, see `unit_range`; else the file's own VOILUTSequence; else its first WindowCenter and
    WindowWidth, by its VOILUTFunction; else the full range of BitsStored. MONOCHROME1 is then
    inverted, and pixels of PixelPaddingValue, up to PixelPaddingRangeLimit (C.7.5.1.1.2), are made
    0. Colours become their luminance (ITU-R BT.601).

    Raises:
        ValueError: if the window or a look-up table is invalid, if the scale cannot be known, if
            values are not finite, if the colours are none that pydicom converts, or if
            `grey_window` is "hounsfield".
        OSError, ImportError: as `Frame.stored_pixels` does.
    """
    grey_window = require_grey_window("grey_window", grey_window)
    if grey_window == "hounsfield":
        raise ValueError(
            f"{frame.name} is no slice of a CT, so its values are no HU. Give another grey_window."
        )
    stored, photometric = frame.stored_pixels(), frame.text("PhotometricInterpretation")
    if photometric in _COLOURS or photometric == _PALETTE:
        return _luminance(frame, stored, photometric)
    if photometric not in _GREY:
        raise ValueError(
            f"{frame.name} has PhotometricInterpretation {photometric!r}; wanted one of "
            f"{(*_GREY, *_COLOURS, _PALETTE)}. Convert it."
        )
    padding = _padding(frame, stored)
    values = _modality_values(frame, stored)
    if not padding.all():
        # or they would set the limits of "minmax"
        values[padding] = values[~padding].min()
    grey = _values_of_interest(frame, values, grey_window)
    if photometric == "MONOCHROME1":
        # PresentationLUTShape INVERSE says the same once more, so it is left out.
        grey = 1 - grey
    grey[padding] = 0
    return grey


def _modality_values(frame: Frame, stored: np.ndarray) -> np.ndarray:
    """C.11.1: stored values → values of the modality, float32."""
    slope, intercept = frame.number("RescaleSlope"), frame.number("RescaleIntercept")
    if is_hounsfield(frame):
        kind = frame.text("RescaleType") or "HU"
        missing = slope is None or intercept is None
        if missing or kind not in ("HU", "HU_MOD"):
            found = "no RescaleSlope and RescaleIntercept" if missing else f"RescaleType {kind!r}"
            raise ValueError(
                f"{frame.name} is a CT slice with {found}, so its values are not known to be HU. "
                f"Correct its header if they are; else pass its pixels as an array."
            )
    tables = frame.get("ModalityLUTSequence")
    if tables:
        return _look_up(frame, stored, tables[0], "ModalityLUTSequence")[0]
    if slope == 0:
        raise ValueError(
            f"{frame.name} has RescaleSlope 0: all values are lost. Correct its header."
        )
    values = stored.astype(np.float32)
    if slope is not None:
        values *= np.float32(slope)
    if intercept is not None:
        values += np.float32(intercept)
    require_finite(values, frame.name)
    return values


def _values_of_interest(frame: Frame, values: np.ndarray, window: GreyWindow) -> np.ndarray:
    """C.11.2: values of the modality → [0, 1]."""
    if window is not None:
        return unit_range(values, frame.name, window)
    tables = frame.get("VOILUTSequence")
    if tables:
        levels, bits = _look_up(frame, values, tables[0], "VOILUTSequence")
        return (levels / np.float32(2**bits - 1)).clip(0, 1)
    centre, width = frame.number("WindowCenter"), frame.number("WindowWidth")
    if centre is None or width is None:
        return unit_range(values, frame.name, declared=_full_range(frame))
    return _windowed(frame, values, centre, width)


def _windowed(frame: Frame, values: np.ndarray, centre: float, width: float) -> np.ndarray:
    function = (frame.text("VOILUTFunction") or "LINEAR").upper()
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        raise ValueError(
            f"{frame.name} has VOILUTFunction {function!r}; wanted LINEAR, LINEAR_EXACT or "
            f"SIGMOID. Give another window: grey_window=(level, width)."
        )
    if width <= 0 or (function == "LINEAR" and width < 1):
        raise ValueError(
            f"{frame.name} has WindowWidth {width:g}, which {function} does not allow. Give "
            f"another window: grey_window=(level, width)."
        )
    if function == "SIGMOID":
        # Beyond 80, exp leaves what float32 can hold; the level is 0 to that precision long before.
        exponent = np.clip(-4 * (values - centre) / width, -80, 80)
        return (1 / (1 + np.exp(exponent))).astype(np.float32)
    if function == "LINEAR":
        # Of integers, the width counts those from the first to the last that differ, both included.
        centre, width = centre - 0.5, width - 1
    if width == 0:
        return (values > centre).astype(np.float32)
    return ((values - np.float32(centre)) / np.float32(width) + np.float32(0.5)).clip(0, 1)


def _full_range(frame: Frame) -> tuple[float, float]:
    """The lowest and highest value of the modality that the stored bits can hold."""
    tables = frame.get("ModalityLUTSequence")
    if tables:
        return 0.0, float(2 ** tables[0].LUTDescriptor[2] - 1)
    bits, signed = frame.number("BitsStored"), frame.number("PixelRepresentation")
    if bits is None or signed is None:
        raise ValueError(
            f"{frame.name} has neither a window nor BitsStored, so which values are black and "
            f'white is unknown. Say it: grey_window=(level, width) or "minmax".'
        )
    slope, intercept = frame.number("RescaleSlope"), frame.number("RescaleIntercept")
    lowest = -(2 ** (bits - 1)) if signed else 0
    ends = [
        value * (1 if slope is None else slope) + (intercept or 0)
        for value in (lowest, lowest + 2**bits - 1)
    ]
    return min(ends), max(ends)


def _look_up(frame: Frame, values: np.ndarray, table: Any, keyword: str) -> tuple[np.ndarray, int]:
    """Pass values through a table (C.11.1.1, C.11.2.1.1): float32 levels, and bits per level."""
    try:
        count, first, bits = (int(number) for number in table.LUTDescriptor)
        count = count or 2**16  # which does not fit the descriptor's 16 bits
        entries = _entries(table.LUTData, frame.dataset.file_meta.TransferSyntaxUID)
        if bits == 8 and len(entries) < count:
            entries = entries.view(np.uint8)  # two in a word
    except Exception as error:
        raise ValueError(f"{frame.name} has an unreadable {keyword}: {error}") from error
    if len(entries) < count or not 8 <= bits <= 16:
        raise ValueError(
            f"{frame.name} has a {keyword} that declares {count} entries of {bits} bits and holds "
            f"{len(entries)}; wanted all of them, of 8 to 16 bits. Correct its header."
        )
    index = (np.rint(values).astype(np.int64) - first).clip(0, count - 1)
    return entries[index].astype(np.float32), bits


def _entries(data: Any, syntax: Any) -> np.ndarray:
    """Unsigned 16-bit entries of a table, in the order of bytes that its words had in the file."""
    word = np.dtype("<u2" if syntax.is_little_endian else ">u2")
    return np.frombuffer(data, word) if isinstance(data, bytes) else np.array(data, word).ravel()


def _padding(frame: Frame, stored: np.ndarray) -> np.ndarray:
    """Where pixels only fill the rectangle up."""
    value, limit = frame.number("PixelPaddingValue"), frame.number("PixelPaddingRangeLimit")
    if value is None or stored.dtype.kind not in "iu":
        return np.zeros(stored.shape, dtype=bool)
    # Through the pixels' own type, as some files note a negative value as an unsigned one.
    ends = np.array([value, value if limit is None else limit]).astype(np.int64)
    ends = ends.astype(stored.dtype)
    return (stored >= ends.min()) & (stored <= ends.max())


def _luminance(frame: Frame, stored: np.ndarray, photometric: str) -> np.ndarray:
    bits = frame.number("BitsStored")
    if photometric == _PALETTE:
        with decoding(frame.name, "a complete image with a palette"):
            stored = import_pydicom().pixels.apply_color_lut(stored, frame.dataset)[..., :3]
        bits = stored.dtype.itemsize * 8
    if stored.ndim != 3 or stored.shape[-1] != 3 or bits is None:
        raise ValueError(
            f"{frame.name} is {photometric}, but its pixels have shape {stored.shape}; wanted "
            f"(rows, columns, 3) with BitsStored."
        )
    return (stored.astype(np.float32) / np.float32(2**bits - 1) @ LUMINANCE).clip(0, 1)
