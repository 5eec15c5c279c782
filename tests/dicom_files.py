"""DICOM files that tests read: CT series, enhanced multi-frame CT, radiographs."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    generate_uid,
)
from pydicom.valuerep import DSfloat

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_INTERCEPT = -1024


def slice_affine(
    spacing: Sequence[float] = (0.8, 0.7, 2.5),
    angles: Sequence[float] = (0, 0, 0),
    origin: Sequence[float] = (90.0, 80.0, -40.0),
) -> np.ndarray:
    """The affine (RAS+, mm) of (column, row, slice), as a scanner lays them.

    `spacing` is that of columns, rows and slices; `angles` turn the patient's axes about x, y and
    z, in degrees; with none, columns run to the left, rows to posterior, slices to superior.
    """
    turn = np.eye(3)
    for axis, angle in enumerate(np.radians(angles)):
        first, second = (axis + 1) % 3, (axis + 2) % 3
        about = np.eye(3)
        about[[first, second], [first, second]] = np.cos(angle)
        about[second, first], about[first, second] = np.sin(angle), -np.sin(angle)
        turn = about @ turn
    affine = np.eye(4)
    affine[:3, :3] = turn @ _LPS_TO_RAS[:3, :3] @ np.diag(spacing)
    affine[:3, 3] = origin
    return affine


def write_series(
    folder: Path,
    hu: np.ndarray,
    affine: np.ndarray | None = None,
    *,
    signed: bool = False,
    slopes: Sequence[float] | None = None,
    change: Callable[[Dataset, int], None] | None = None,
    seed: int = 0,
    **tags,
) -> list[Path]:
    """Write a CT series, one file a slice; names and InstanceNumbers tell nothing of the order.

    Args:
        folder: where to; made if it is not there.
        hu: `(slices, rows, columns)`, whole numbers.
        affine: that of (column, row, slice) in mm, RAS+; by default `slice_affine()`.
        signed: whether stored values are signed (PixelRepresentation).
        slopes: RescaleSlope of each slice, by default 1. `hu + 1024` must be multiples of it.
        change: called with each dataset and its index just before it is written.
        seed: of the names.
        tags: attributes of every file, by their keywords; `None` leaves one out.

    Returns:
        The files in the order of the slices.
    """
    folder.mkdir(parents=True, exist_ok=True)
    affine = slice_affine() if affine is None else affine
    series, names = generate_uid(), np.random.default_rng(seed).permutation(len(hu))
    paths = []
    for index, (plane, name) in enumerate(zip(hu, names, strict=True)):
        slope = 1.0 if slopes is None else slopes[index]
        dataset = _dataset(CTImageStorage, "CT")
        _set_pixels(dataset, (plane - _INTERCEPT) / slope, 16, signed)
        placed = _geometry(affine, index)
        dataset.ImagePositionPatient = placed["position"]
        dataset.ImageOrientationPatient = placed["orientation"]
        dataset.PixelSpacing = placed["spacing"]
        dataset.SliceThickness = placed["thickness"]
        dataset.RescaleSlope, dataset.RescaleIntercept = DSfloat(slope), _INTERCEPT
        dataset.RescaleType = "HU"
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.SeriesInstanceUID, dataset.SeriesDescription = series, "Thorax"
        dataset.InstanceNumber = int(name) + 1
        _set_tags(dataset, tags)
        if change is not None:
            change(dataset, index)
        paths.append(_write(dataset, folder / f"IM{name:04d}.dcm"))
    return paths


def write_enhanced(
    path: Path,
    hu: np.ndarray,
    affine: np.ndarray | None = None,
    *,
    signed: bool = False,
    order: Sequence[int] | None = None,
    change: Callable[[Dataset], None] | None = None,
    **tags,
) -> Path:
    """Write an enhanced multi-frame CT of `(slices, rows, columns)` HU, its frames in `order`."""
    affine = slice_affine() if affine is None else affine
    order = range(len(hu)) if order is None else order
    dataset = _dataset(EnhancedCTImageStorage, "CT")
    _set_pixels(dataset, hu[list(order)] - _INTERCEPT, 16, signed)
    dataset.NumberOfFrames = len(hu)
    shared, placed = Dataset(), _geometry(affine, 0)
    shared.PlaneOrientationSequence = [_item(ImageOrientationPatient=placed["orientation"])]
    shared.PixelMeasuresSequence = [_item(PixelSpacing=placed["spacing"])]
    shared.PixelValueTransformationSequence = [
        _item(RescaleSlope=1, RescaleIntercept=_INTERCEPT, RescaleType="HU")
    ]
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = [
        _item(
            PlanePositionSequence=[_item(ImagePositionPatient=_geometry(affine, index)["position"])]
        )
        for index in order
    ]
    _set_tags(dataset, tags)
    if change is not None:
        change(dataset)
    return _write(dataset, path)


def write_radiograph(path: Path, pixels: np.ndarray, *, bits: int = 12, **tags) -> Path:
    """Write a digital radiograph (DX) of stored values, `(rows, columns)` or `(rows, columns, 3)`.

    `bits` is BitsStored; `tags` are attributes by their keywords, `None` leaves one out.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset = _dataset(DigitalXRayImageStorageForPresentation, "DX")
    _set_pixels(dataset, pixels, bits, signed=pixels.dtype.kind == "i")
    dataset.SeriesInstanceUID = generate_uid()
    dataset.ImagerPixelSpacing = [0.2, 0.2]
    _set_tags(dataset, tags)
    return _write(dataset, path)


def _dataset(sop_class: str, modality: str) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, generate_uid()
    dataset.SeriesInstanceUID, dataset.Modality = generate_uid(), modality
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


def _set_pixels(dataset: Dataset, pixels: np.ndarray, bits: int, signed: bool) -> None:
    colours = pixels.ndim == 3 and pixels.shape[-1] == 3 and dataset.Modality != "CT"
    rows, columns = pixels.shape[:2] if colours else pixels.shape[-2:]
    width = 8 if bits <= 8 else 16
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = rows, columns, 3 if colours else 1
    dataset.PhotometricInterpretation = "RGB" if colours else "MONOCHROME2"
    if colours:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = width, bits, bits - 1
    dataset.PixelRepresentation = int(signed)
    stored = pixels.astype(f"<{'i' if signed else 'u'}{width // 8}")
    if not np.array_equal(stored, pixels):
        raise ValueError(
            f"{bits} bits, signed {signed}, do not hold {pixels.min()}...{pixels.max()}"
        )
    data = stored.tobytes()
    dataset.add_new("PixelData", "OW" if width == 16 else "OB", data + bytes(len(data) % 2))


def _geometry(affine: np.ndarray, index: int) -> dict[str, object]:
    affine = _LPS_TO_RAS @ affine
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    directions = affine[:3, :3] / lengths
    position = affine[:3, 3] + index * affine[:3, 2]
    return {
        "position": _decimals(position),
        "orientation": _decimals([*directions[:, 0], *directions[:, 1]]),
        "spacing": _decimals([lengths[1], lengths[0]]),
        "thickness": DSfloat(lengths[2], auto_format=True),
    }


def _decimals(values: Sequence[float]) -> list[DSfloat]:
    """Numbers in the 16 characters that the standard allows them."""
    return [DSfloat(float(value), auto_format=True) for value in values]


def _item(**tags) -> Dataset:
    item = Dataset()
    _set_tags(item, tags)
    return item


def _set_tags(dataset: Dataset, tags: dict[str, object]) -> None:
    for keyword, value in tags.items():
        if value is None:
            del dataset[keyword]
        else:
            setattr(dataset, keyword, value)


def _write(dataset: Dataset, path: Path) -> Path:
    dataset.save_as(path, enforce_file_format=True)
    return path
