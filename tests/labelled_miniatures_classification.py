"""Small copies of labelled data sets, of classification and of radiographs, as downloaded."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from dicom_files import slice_affine, write_series
from layout_miniatures import NBIA_COLUMNS, anatomy, touch, write_table

RICORD_POSITIVE = (
    "MIDRC-RICORD-1A-419639-000001/01-02-2003-NA-CT CHEST WITHOUT CONTRAST-11111/"
    "2.000000-ROUTINE CHEST NON CON-46543"
)
RICORD_CORONAL = (
    "MIDRC-RICORD-1A-419639-000001/01-02-2003-NA-CT CHEST WITHOUT CONTRAST-11111/"
    "601.000000-COR 3X3-60319"
)
RICORD_NEGATIVE = "MIDRC-RICORD-1B-SITE2-000334/09-14-1999-NA-CT THORAX-22222/2.000000-NA-.9035"
RICORD_LISTS = {
    "RICORD_train.txt": [
        "data_nii_v0/MIDRC-RICORD-1A/ID419639-000001_date01-02-2003_"
        "2.000000-ROUTINE-CHEST-NON-CON-46543.nii.gz 1"
    ],
    "RICORD_val.txt": [],
    "RICORD_test.txt": [
        "data_nii_v0/MIDRC-RICORD-1B/IDSITE2-000334_date09-14-1999_2.000000-NA-.9035.nii.gz 0"
    ],
}
NLST_SERIES = {
    ("100288", 0): "1.2.840.113654.2.55.1514186262",
    ("100288", 1): "1.2.840.113654.2.55.2916222521",
    ("211965", 2): "1.3.6.1.4.1.14519.5.2.1.7009.9004.3042",
}
NLST_SHAPE = (10, 24, 20)
"""(slices, rows, columns)."""
NLST_SPACING = (1.0, 1.0, 2.5)
"""Of columns, rows and slices in mm."""
NLST_COLUMNS = (
    "fold,PID,study_yr,malignancy,seriesinstanceuids,image_shape,Abnormality UID,Slice number,"
    "Bounding box x (pixels),Bounding box y (pixels),Bounding box width (pixels),"
    "Bounding box height (pixels)"
)
NLST_ROWS = [
    [0, 100288, 0, "B", NLST_SERIES["100288", 0], "(129, 129, 41)", 1.0, 3.0, 5.0, 8.0, 3.0, 5.0],
    [0, 100288, 1, "B", NLST_SERIES["100288", 1], "(129, 129, 41)", 1.0, 9.0, 1.0, 1.0, 3.0, 3.0],
    [4, 211965, 2, "M", NLST_SERIES["211965", 2], "(129, 129, 41)", 3.0, 5.0, 9.0, 9.0, 3.0, 3.0],
]
JSRT_MASKS = {
    "heart": (400, 700, 420, 640),
    "left lung": (150, 800, 560, 900),
    "right lung": (150, 800, 120, 460),
    "left clavicle": (160, 220, 540, 800),
    "right clavicle": (160, 220, 220, 480),
}
"""Rows and columns where masks are, of 1024 each; clavicles lie in lungs, and so does the heart."""


def nbia_rows(places: dict[str, int]) -> list[list[object]]:
    """Rows of `metadata.csv` for series, by where they lie, with their numbers of files."""
    columns = NBIA_COLUMNS.split(",")
    rows = [
        dict.fromkeys(columns, "NA") | {"File Location": place, "Number of Images": count}
        for place, count in places.items()
    ]
    return [list(row.values()) for row in rows]


def _nbia_series(folder: Path, hu: np.ndarray, affine: np.ndarray, uid: str, **tags) -> None:
    """A series as NBIA names it, its slices numbered from the last in `hu` to the first."""

    def number(dataset, index):
        dataset.InstanceNumber = len(hu) - index

    paths = write_series(folder, hu, affine, change=number, SeriesInstanceUID=uid, **tags)
    for index, path in enumerate(paths):
        path.rename(folder / f"1-{len(hu) - index:02d}.dcm")


def ricord(folder: Path, more: int = 0) -> Path:
    """A positive case in two series and a localizer, and a negative one; a manifest each.

    Args:
        folder: Where it is written.
        more: Other positive and as many other negative patients, of one series each.
    """
    root = folder / "RICORD"
    positive = root / "manifest-1608266677008"
    negative = root / "manifest-1612365584013"
    affine = slice_affine((0.7, 0.8, 2.5))
    series = [
        (positive / "MIDRC-RICORD-1A" / RICORD_POSITIVE, 1, 2, "1.2.826.0.1.46543"),
        (positive / "MIDRC-RICORD-1A" / RICORD_CORONAL, 2, 601, "1.2.826.0.1.60319"),
        (negative / "MIDRC-RICORD-1B" / RICORD_NEGATIVE, 3, 2, "1.2.826.0.1.9035"),
    ]
    for index in range(more):
        for letter, place in (("A", positive), ("B", negative)):
            collection = f"MIDRC-RICORD-1{letter}"
            below = (
                f"{collection}-{letter}-{index:06d}/01-02-2004-NA-CT CHEST/2.000000-NA-7000{index}"
            )
            uid = f"1.2.826.0.1.{ord(letter)}7000{index}"
            series.append((place / collection / below, 10 * index + ord(letter), 2, uid))
    for place, seed, number, uid in series:
        # Rows run to posterior and columns to the left there, so RAS+ turns both round.
        _nbia_series(place, anatomy(seed)[:, ::-1, ::-1], affine, uid, SeriesNumber=number)
    scout = (positive / "MIDRC-RICORD-1A" / RICORD_POSITIVE).with_name("1.000000-SCOUT-10001")
    kind = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    _nbia_series(scout, anatomy(4)[:1], affine, "1.2.826.0.1.10001", ImageType=kind)
    write_table(
        positive / "metadata.csv",
        NBIA_COLUMNS,
        nbia_rows(
            {
                f"./MIDRC-RICORD-1A/{RICORD_POSITIVE}": 4,
                f".\\MIDRC-RICORD-1A\\{RICORD_CORONAL}".replace("/", "\\"): 4,
            }
        ),
    )
    touch(negative / ".DS_Store", positive / "MIDRC-RICORD-1A" / "LICENSE")
    return root


def ricord_lists(folder: Path, lists: dict[str, list[str]] | None = None) -> Path:
    """The lists of UniMiSS's split."""
    place = folder / "lists"
    place.mkdir()
    for name, lines in (RICORD_LISTS if lists is None else lists).items():
        (place / name).write_text("".join(f"{line}\n" for line in lines))
    return place


def chestxr(folder: Path, more: int = 0) -> Path:
    """An image of each class to train with, one of each for validation, two without labels.

    Args:
        folder: Where it is written.
        more: Other images of each class to train with.
    """
    root = folder / "CXR_Covid-19_Challenge"
    names = [
        "train/covid/cov_1110.jpg",
        "train/normal/normal-0000.jpg",
        "train/pneumonia/pneumonia0000.jpg",
        "validation/covid/cov_0.png",
        "validation/normal/norml_763.png",
        "validation/pneumonia/pneu_0.png",
        "test/0001.png",
        "test/0002.png",
    ]
    for index in range(1, more + 1):
        names.append(f"train/covid/cov_{index}.jpg")
        names += [f"train/{kind}/{kind}-{index:04d}.jpg" for kind in ("normal", "pneumonia")]
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # The challenge's images are of many sizes and modes.
        mode = "RGB" if number % 2 else "L"
        Image.new("L", (40 + number, 40), 20 * number).convert(mode).save(path)
    touch(root / "train" / "._covid", root / ".DS_Store", root / "sample_submission.csv")
    return root


def nlst(
    folder: Path,
    rows: Sequence[Sequence[object]] = NLST_ROWS,
    series: Mapping[tuple[str, int], str] = NLST_SERIES,
) -> Path:
    """Two participants in three scans, with the table of nodules; one more scan without any."""
    root = folder / "NLST-download"
    collection = root / "manifest-1632928843386" / "NLST"
    for seed, ((person, year), uid) in enumerate(series.items()):
        study = collection / person / f"01-02-{1999 + year}-NA-NLST-LSS-1232{year}"
        _nbia_series(study / f"2.000000-0OPASEV-{uid[-5:]}", nlst_scan(seed), _nlst_affine(), uid)
    study = collection / "100288" / "01-02-1999-NA-NLST-LSS-12320"
    _nbia_series(study / "3.000000-1OPASEV-99999", nlst_scan(9), _nlst_affine(), "1.2.99999")
    touch(collection / "200000" / "01-02-1999" / "2.000000-X-1" / "1-01.dcm")
    write_table(root / "nlstx_dataset.csv", NLST_COLUMNS, rows)
    return root


def nlst_scan(seed: int) -> np.ndarray:
    """HU `(slices, rows, columns)`, from feet to head, of which no two are alike."""
    values = np.random.default_rng(seed).permutation(np.prod(NLST_SHAPE)) - 1000
    return values.reshape(NLST_SHAPE)


def _nlst_affine() -> np.ndarray:
    return slice_affine(NLST_SPACING)


def jsrt_film(name: str) -> np.ndarray:
    """Stored values `(2048, 2048)` of an image; blocks of 2 x 2 pixels are no constants."""
    rows, columns = np.indices((2048, 2048), dtype=np.int32)
    return ((rows * 3 + columns * 5 + int(name[-3:]) * 100) % 4096).astype(np.uint16)


def write_mask(path: Path, box: Sequence[int] | None, side: int = 1024) -> None:
    """A mask as SCR's: a GIF of 0 and 255, inside in a box (of 1024 rows and columns)."""
    mask = np.zeros((side, side), np.uint8)
    if box is not None:
        top, bottom, left, right = (edge * side // 1024 for edge in box)
        mask[top:bottom, left:right] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path)


def jsrt(folder: Path, names: Sequence[str] = ("JPCLN001", "JPCNN002")) -> Path:
    """An image of each fold, with the five masks of each."""
    root = folder / "JSRT"
    for name in names:
        fold = 2 - int(name[-3:]) % 2
        image = root / "All247images" / f"{name}.IMG"
        image.parent.mkdir(parents=True, exist_ok=True)
        jsrt_film(name).astype(">u2").tofile(image)
        for structure, box in JSRT_MASKS.items():
            write_mask(root / "scratch" / f"fold{fold}" / "masks" / structure / f"{name}.gif", box)
    touch(root / "scratch" / "fold1" / "points" / "JPCLN001.pfs", root / "scratch" / "readme.txt")
    return root


def class_folders(folder: Path) -> Path:
    """Two classes of one's own, with one or two patients in each split."""
    root = folder / "own"
    random = np.random.default_rng(0)
    for split, patients in (("train", "12"), ("validation", "3"), ("test", "4")):
        for name in ("fracture", "normal"):
            (root / split / name).mkdir(parents=True)
            for patient in patients:
                pixels = random.integers(0, 255, (40, 40), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{patient}_{name}.png")
    return root
