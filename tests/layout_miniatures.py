"""Small copies of data sets with the folders, file names and formats of their downloads."""

import csv
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image

from dicom_files import slice_affine, write_radiograph, write_series
from oriented_grids import stored_affine

SHAPE = (4, 5, 6)
"""(depth, height, width) of volumes, all different."""

LIDC_SERIES = "LIDC-IDRI-0001/01-01-2000-NA-NA-30178/3000566.000000-NA-03192"
LIDC_RADIOGRAPHS = "LIDC-IDRI-0001/01-01-2000-NA-NA-35511/3000923.000000-NA-62357"
LIDC_UID = "1.3.6.1.4.1.14519.5.2.1.6279.6001"
NBIA_COLUMNS = (
    "Series UID,Collection,3rd Party Analysis,Data Description URI,Subject ID,Study UID,"
    "Study Description,Study Date,Series Description,Manufacturer,Modality,SOP Class Name,"
    "SOP Class UID,Number of Images,File Size,File Location,Download Timestamp"
)
DEEPLESION_COLUMNS = (
    "File_name,Patient_index,Study_index,Series_ID,Key_slice_index,Measurement_coordinates,"
    "Bounding_boxes,Lesion_diameters_Pixel_,Normalized_lesion_location,Coarse_lesion_type,"
    "Possibly_noisy,Slice_range,Spacing_mm_px_,Image_size,DICOM_windows,Patient_gender,"
    "Patient_age,Train_Val_Test"
)
CHESTXRAY_COLUMNS = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
)


def anatomy(seed: int, shape: Sequence[int] = SHAPE) -> np.ndarray:
    """A volume `(depth, height, width)`, RAS+, int16 HU, no two voxels alike."""
    values = np.random.default_rng(seed).permutation(4000)[: np.prod(shape)] - 1000
    return values.reshape(shape).astype(np.int16)


def stored(hu: np.ndarray, codes: str, spacing: Sequence[float]) -> nibabel.Nifti1Image:
    """A NIfTI image whose axes run as `codes` say, of `spacing` along them."""
    voxels = hu.transpose()
    orientation = nibabel.orientations.axcodes2ornt(tuple(codes))
    back = nibabel.orientations.ornt_transform([[0, 1], [1, 1], [2, 1]], orientation)
    voxels = nibabel.apply_orientation(voxels, back)
    return nibabel.Nifti1Image(voxels, stored_affine(codes, spacing, (0, 0, 0)))


def save(path: Path, seed: int, codes: str = "LPS", spacing=(0.7, 0.8, 2.5)) -> Path:
    """Write `anatomy(seed)` as a NIfTI file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(stored(anatomy(seed), codes, spacing), path)
    return path


def touch(*paths: Path) -> None:
    """Write files that hold nothing of use."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"nothing of use")


def write_table(path: Path, header: str, rows: Iterable[Sequence[object]]) -> None:
    """Write a csv file, quoted as it must be, below a header that is copied as it is."""
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(f"{header}\n")
        csv.writer(file, lineterminator="\n").writerows(rows)


def lidc_idri(folder: Path, descriptive: bool = True) -> Path:
    """A patient with a CT, two radiographs and an annotated segmentation, as NBIA writes them."""
    root = folder / "LIDC-IDRI"
    names = [LIDC_SERIES, LIDC_RADIOGRAPHS]
    if not descriptive:
        names = [
            f"LIDC-IDRI-0001/{LIDC_UID}.2988/{LIDC_UID}.1790",
            f"LIDC-IDRI-0001/{LIDC_UID}.1753/{LIDC_UID}.1417",
        ]
    ct, radiographs = (root / name for name in names)
    # Rows run to posterior and columns to the left there, so RAS+ turns both round.
    planes = anatomy(1)[:, ::-1, ::-1]
    for index, path in enumerate(write_series(ct, planes, slice_affine((0.7, 0.8, 2.5)))):
        path.rename(ct / f"1-{index + 1:03d}.dcm")
    for index, modality in enumerate(("DX", "CR")):
        pixels = np.arange(30, dtype=np.uint16).reshape(5, 6) * (100 + index)
        write_radiograph(radiographs / f"1-{index + 1}.dcm", pixels, Modality=modality)
    annotation = root / "LIDC-IDRI-0001" / "01-01-2000-NA-NA-30178" / "300.000000-Nodule 1-33613"
    write_radiograph(annotation / "1-1.dcm", np.zeros((5, 6), np.uint16), Modality="SEG")
    touch(ct / "069.xml", ct / "._1-001.dcm", root / ".DS_Store", ct / "LICENSE")
    return root


def nbia_row(place: str, count: int, patient: str = "LIDC-IDRI-0001") -> list[object]:
    """A row of the `metadata.csv` that the NBIA Data Retriever writes."""
    row: dict[str, object] = dict.fromkeys(NBIA_COLUMNS.split(","), "NA")
    row |= {"Collection": "LIDC-IDRI", "Subject ID": patient}
    row |= {"Number of Images": count, "File Location": place}
    return list(row.values())


def write_metaimage(path: Path, voxels: np.ndarray, affine: np.ndarray) -> Path:
    """Write voxels `(x, y, z)` on an affine (RAS+, mm) as a `.mhd` and a `.raw` file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    # The direction of the first axis comes first, then that of the second.
    directions = (affine[:3, :3] / spacing).transpose()
    types = {"int16": "MET_SHORT", "uint16": "MET_USHORT", "float64": "MET_DOUBLE"}
    fields = {
        "ObjectType": "Image",
        "NDims": 3,
        "BinaryData": True,
        "BinaryDataByteOrderMSB": False,
        "CompressedData": False,
        "TransformMatrix": _numbers(directions.ravel()),
        "Offset": _numbers(affine[:3, 3]),
        "CenterOfRotation": "0 0 0",
        "AnatomicalOrientation": "RAI",
        "ElementSpacing": _numbers(spacing),
        "DimSize": _numbers(voxels.shape),
        "ElementType": types[voxels.dtype.name],
        "ElementDataFile": f"{path.stem}.raw",
    }
    path.write_text("".join(f"{field} = {value}\n" for field, value in fields.items()))
    path.with_suffix(".raw").write_bytes(np.ascontiguousarray(voxels.transpose()).tobytes())
    return path


def _numbers(values: Iterable[float]) -> str:
    return " ".join(repr(value) for value in np.asarray(list(values)).tolist())


def tianchi(folder: Path) -> Path:
    """A scan of each split."""
    root = folder / "tianchi"
    for seed, name in enumerate(
        ["train_subset00/LKDS-00001", "val_subset01/LKDS-00602", "test_subset02/LKDS-00803"]
    ):
        image = stored(anatomy(seed), "LPS", (0.7, 0.8, 2.5))
        write_metaimage(root / f"{name}.mhd", np.asarray(image.dataobj), image.affine)
    (root / "csv" / "train").mkdir(parents=True)
    write_table(
        root / "csv" / "train" / "annotations.csv",
        "seriesuid,coordX,coordY,coordZ,diameter_mm",
        [["LKDS-00001", -76.4, -49.5, 229.5, 14.2], ["LKDS-00001", 1, 2, 3, 4]],
    )
    touch(root / ".DS_Store", root / "train_subset00" / "._LKDS-00001.mhd")
    return root


def ribfrac(folder: Path) -> Path:
    """Two scans to train with, one for validation, one to test, labels beside the first three."""
    root = folder / "ribfrac"
    for number, images in {
        1: "ribfrac-train-images-1/Part1",
        301: "ribfrac-train-images-2/Part2",
        421: "ribfrac-val-images",
        501: "ribfrac-test-images",
    }.items():
        save(root / images / f"RibFrac{number}-image.nii.gz", number)
        if number < 501:
            labels = root / images.replace("images", "labels") / f"RibFrac{number}-label.nii.gz"
            save(labels, 0)
    columns = "public_id,label_id,label_code"
    write_table(
        root / "ribfrac-train-info-1.csv", columns, [["RibFrac1", 0, 0], ["RibFrac1", 1, 2]]
    )
    write_table(root / "ribfrac-val-info.csv", columns, [["RibFrac421", 0, 0]])
    return root


def covid19(folder: Path) -> Path:
    """A scan of a patient seen once, two of one seen twice, a second one of another."""
    root = folder / "CT-Covid-19-August2020"
    for seed, name in enumerate(["0000", "0721_day000", "0721_day008", "0318_1"]):
        save(root / f"volume-covid19-A-{name}.nii.gz", seed)
    touch(root / "._volume-covid19-A-0000.nii.gz")
    return root


def mots(folder: Path) -> Path:
    """The parts as DoDNet's script lays them: tasks of the Decathlon, and KiTS19."""
    root = folder / "0123456"
    for seed, (part, name) in enumerate(
        {
            "0Liver": "liver_0",
            "2HepaticVessel": "hepaticvessel_001",
            "3Pancreas": "pancreas_001",
            "4Colon": "colon_001",
            "5Lung": "lung_001",
            "6Spleen": "spleen_2",
        }.items()
    ):
        save(root / part / "imagesTr" / f"{name}.nii.gz", seed)
        save(root / part / "imagesTs" / f"{name}9.nii.gz", seed + 10)
        save(root / part / "labelsTr" / f"{name}.nii.gz", 99)
        touch(root / part / "imagesTr" / f"._{name}.nii.gz", root / part / "dataset.json")
    kidneys = root / "1Kidney" / "origin"
    for case in (0, 210):
        # KiTS19 stores slices first: (slices, rows, columns), from head to feet.
        path = kidneys / f"case_{case:05d}" / "imaging.nii.gz"
        save(path, 20 + case, codes="IPL", spacing=(2.5, 0.8, 0.7))
    save(kidneys / "case_00000" / "segmentation.nii.gz", 99, codes="IPL")
    touch(kidneys / "kits.json")
    return root


def save_slices(folder: Path, hu: np.ndarray, first: int) -> None:
    """Write `(slices, rows, columns)` HU as DeepLesion's PNGs."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, plane in enumerate(hu, start=first):
        pixels = (plane.astype(np.int32) + 32768).astype(np.uint16)
        Image.fromarray(pixels).save(folder / f"{number:03d}.png")


def deeplesion_row(series: str, key: int, slices: str, spacing: str, split: int) -> list[object]:
    """A row of `DL_info.csv`."""
    row: dict[str, object] = dict.fromkeys(DEEPLESION_COLUMNS.split(","), "1, 2")
    row |= {"File_name": f"{series}_{key:03d}.png", "Key_slice_index": key}
    row |= {"Slice_range": slices, "Spacing_mm_px_": spacing, "Train_Val_Test": split}
    return list(row.values())


def deeplesion(folder: Path) -> Path:
    """A series of two runs of slices, and one of another patient."""
    root = folder / "DeepLesion"
    images = root / "Images_png"
    # From head to feet, rows to posterior, columns to the left: RAS+ turns all of them round.
    save_slices(images / "000001_01_01", anatomy(1)[::-1, ::-1, ::-1], first=103)
    save_slices(images / "000001_01_01", anatomy(2)[::-1, ::-1, ::-1], first=110)
    save_slices(images / "000089_07_02", anatomy(3)[::-1, ::-1, ::-1], first=1)
    write_table(
        root / "DL_info.csv",
        DEEPLESION_COLUMNS,
        [
            deeplesion_row("000001_01_01", 104, "103, 106", "0.7, 0.8, 5", 3),
            deeplesion_row("000001_01_01", 105, "103, 106", "0.7, 0.8, 5", 3),
            deeplesion_row("000001_01_01", 111, "110, 113", "0.7, 0.8, 5", 3),
            deeplesion_row("000089_07_02", 2, "1, 4", "0.9, 0.9, 1", 1),
        ],
    )
    touch(images / ".DS_Store", images / "000001_01_01" / "._103.png", root / "FAQ.pdf")
    return root


def chestxray14(folder: Path, findings: Sequence[str] = ()) -> Path:
    """Three images of two patients in two of the twelve folders, one of them in colour.

    With findings, there are four patients more, three to train with and one to test, of each of
    whom one image shows all of them and another shows none.
    """
    root = folder / "CXR8"
    pixels = np.arange(30, dtype=np.uint8).reshape(5, 6) * 8
    images = {
        "images_001/images/00000001_000.png": Image.fromarray(pixels),
        "images_001/images/00000001_001.png": Image.fromarray(pixels).convert("RGBA"),
        "images_002/images/00001336_000.png": Image.fromarray(pixels.T.copy()),
    }
    rest = ["58", "M", "PA", 2682, 2749, 0.143, 0.143, ""]
    rows = [
        ["00000001_000.png", "Cardiomegaly", 0, 1, *rest],
        ["00000001_001.png", "Cardiomegaly|Emphysema", 1, 1, *rest],
        ["00001336_000.png", "No Finding", 0, 1336, *rest],
    ]
    lists = {
        "train_val_list.txt": ["00000001_000.png", "00000001_001.png"],
        "test_list.txt": ["00001336_000.png"],
    }
    for patient in (2, 3, 4, 1337) if findings else ():
        for number, labels in enumerate(("|".join(findings), "No Finding")):
            name = f"{patient:08d}_{number:03d}.png"
            images[f"images_002/images/{name}"] = Image.fromarray(pixels // (1 + number))
            rows.append([name, labels, number, patient, *rest])
            lists["test_list.txt" if patient > 1336 else "train_val_list.txt"].append(name)
    for name, image in images.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(root / name)
    write_table(root / "Data_Entry_2017.csv", CHESTXRAY_COLUMNS, rows)
    for name, listed in lists.items():
        (root / name).write_text("".join(f"{image}\n" for image in listed))
    touch(root / "BBox_List_2017.csv", root / "images_001" / "images" / "._00000001_000.png")
    return root


MINIATURES: dict[str, Callable[[Path], Path]] = {
    "lidc-idri": lidc_idri,
    "tianchi": tianchi,
    "ribfrac": ribfrac,
    "ct-images-in-covid-19": covid19,
    "mots": mots,
    "deeplesion": deeplesion,
    "chestxray14": chestxray14,
}
"""By the name of the layout; each makes the data set's folder in another, and returns it."""
