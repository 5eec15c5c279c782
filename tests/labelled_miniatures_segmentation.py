"""Small copies of labelled segmentation data sets, as their downloads are laid out.

Images and labels are `(depth, height, width)`, RAS+, until they are stored. Every class lies in
voxels of its own, so that a turned or shifted map is told from a right one.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image
from pydicom.uid import MRImageStorage

from dicom_files import slice_affine, write_series
from layout_miniatures import anatomy, stored, touch

SHAPE = (5, 6, 7)
"""(depth, height, width) of volumes, all different."""
CODES = ("LPS", "LAS", "RAS", "LPI")
SPACING = (0.7, 0.8, 2.5)
"""Of columns, rows and slices in mm."""

BTCV_IMAGES = "RawData/Training/img"
CHAOS_TRAIN, CHAOS_TEST = "Train_Sets", "Test_Sets"
CHAOS_MR_LEVELS = {1: 63, 2: 126, 3: 189, 4: 252}
MMWHS_VALUES = (500, 600, 420, 550, 205, 820, 850)


def classes(count: int, shape: Sequence[int] = SHAPE) -> np.ndarray:
    """Classes 0 to `count`, each in a voxel, the first in three, so that no flip keeps them."""
    labels = np.zeros(shape, np.uint8)
    labels.reshape(-1)[: count * 2 : 2] = np.arange(1, count + 1)
    labels.reshape(-1)[-shape[-1] :][:2] = 1
    return labels


def repeated(voxels: np.ndarray, times: int) -> np.ndarray:
    """Each voxel that often along each axis: coarser grids keep a part of each class, too."""
    return voxels if times == 1 else np.kron(voxels, np.ones([times] * voxels.ndim, voxels.dtype))


def save_volume(path: Path, voxels: np.ndarray, codes: str = "LPS", spacing=SPACING) -> Path:
    """Write `(depth, height, width)`, RAS+, as a NIfTI file whose axes run as `codes` say."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(stored(voxels, codes, spacing), path)
    return path


def save_pair(
    image: Path,
    label: Path,
    seed: int,
    labels: np.ndarray,
    codes: str = "LPS",
    times: int = 1,
) -> None:
    """Write `anatomy(seed)` and its labels on one grid, each voxel repeated."""
    save_volume(image, repeated(anatomy(seed, labels.shape), times), codes)
    save_volume(label, repeated(labels, times), codes)


def btcv(folder: Path, times: int = 1) -> Path:
    """Three labelled scans, which published splits sort differently, and an unlabelled one."""
    root = folder / "Abdomen"
    training, testing = root / "RawData" / "Training", root / "RawData" / "Testing"
    for number, codes in {1: "LPS", 5: "LAS", 32: "LAS"}.items():
        image, label = f"img/img{number:04d}.nii.gz", f"label/label{number:04d}.nii.gz"
        save_pair(training / image, training / label, number, classes(13), codes, times)
    save_volume(testing / "img" / "img0061.nii.gz", anatomy(61, SHAPE))
    touch(training / "img" / "._img0001.nii.gz", root / ".DS_Store")
    return root


def btcv_averaged(folder: Path) -> Path:
    """The averaged scans of the same page, whose numbers are others."""
    root = folder / "Abdomen"
    image = root / "averaged-training-images" / "DET0000101_avg.nii.gz"
    label = root / "averaged-training-labels" / "DET0000101_avg_seg.nii.gz"
    save_pair(image, label, 1, classes(13))
    save_volume(root / "averaged-testing-images" / "DET0006101_avg.nii.gz", anatomy(2, SHAPE))
    return root


def mmwhs(folder: Path, cts: int = 1, times: int = 1) -> Path:
    """CTs and an MR to train with, the MR with the value 421 of the download, and a CT to test."""
    root = folder / "MM-WHS 2017 Dataset"
    values = np.array([0, *MMWHS_VALUES], np.int16)
    scans = [("ct", number) for number in range(1001, 1001 + cts)]
    for modality, number in [*scans, ("mr", 1001)]:
        codes = {"ct": "LAS", "mr": "LPI"}[modality]
        labels = values[classes(7)]
        if modality == "mr":
            labels[2, 3, 4:6] = 421
        name = root / f"{modality}_train" / f"{modality}_train_{number}"
        image, label = (name.with_name(f"{name.name}_{kind}.nii.gz") for kind in ("image", "label"))
        save_pair(image, label, number - 1000, labels, codes, times)
    save_volume(root / "ct_test" / "ct_test_2001_image.nii.gz", anatomy(2, SHAPE))
    touch(root / "ct_train" / "._ct_train_1001_image.nii.gz")
    return root


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def decathlon(
    folder: Path, channels: Sequence[str] = ("CT",), cases: int = 2, times: int = 1
) -> Path:
    """A task with labelled cases and a test case; of several channels, images are 4-D."""
    root = folder / "Task09_Spleen"
    numbers = range(10, 10 + 2 * cases, 2)
    for number in numbers:
        name, codes = f"spleen_{number}.nii.gz", ("LAS", "RAS")[number // 2 % 2 == 0]
        image, label = root / "imagesTr" / name, root / "labelsTr" / name
        save_pair(image, label, number, classes(2), codes, times)
        touch(root / "imagesTr" / f"._{name}", root / "labelsTr" / f"._{name}")
    save_volume(root / "imagesTs" / "spleen_1.nii.gz", anatomy(1, SHAPE))
    if len(channels) > 1:
        for path in (*root.glob("imagesTr/s*"), *root.glob("imagesTs/s*")):
            image = nibabel.load(path)
            voxels = np.asarray(image.dataobj)
            several = np.stack([voxels + 5000 * index for index in range(len(channels))], axis=-1)
            nibabel.save(nibabel.Nifti1Image(several, image.affine), path)
    write_json(
        root / "dataset.json",
        {
            "name": "Spleen",
            "modality": {str(index): channel for index, channel in enumerate(channels)},
            "labels": {"0": "background", "1": "spleen", "2": "cyst"},
            "numTraining": cases,
            "numTest": 1,
            "training": [
                {
                    "image": f"./imagesTr/spleen_{number}.nii.gz",
                    "label": f"./labelsTr/spleen_{number}.nii.gz",
                }
                for number in reversed(numbers)
            ],
            "test": ["./imagesTs/spleen_1.nii.gz"],
        },
    )
    return root


def totalsegmentator(
    folder: Path, names: Sequence[str], overlap: bool = False, shape=SHAPE, times: int = 1
) -> Path:
    """A subject of each split with a mask for each name, in that order; they may overlap."""
    root = folder / "Totalsegmentator_dataset_v201"
    labels = classes(len(names), shape)
    for subject, codes in {"s0000": "RAS", "s0001": "LAS", "s0002": "LPS"}.items():
        values = repeated(anatomy(int(subject[1:]), shape), times)
        save_volume(root / subject / "ct.nii.gz", values, codes)
        for number, name in enumerate(names, start=1):
            mask = (labels == number).astype(np.uint8)
            if overlap:
                mask[2, 3, 4] = 1
            path = root / subject / "segmentations" / f"{name}.nii.gz"
            save_volume(path, repeated(mask, times), codes)
    rows = [f"{subject};60;m;A;ct;{split}" for subject, split in _TOTALSEGMENTATOR_SPLITS.items()]
    header = "\ufeffimage_id;age;gender;institute;study_type;split"
    (root / "meta.csv").write_text("\n".join([header, *rows, ""]), encoding="utf-8")
    touch(root / "s0000" / "._ct.nii.gz")
    return root


_TOTALSEGMENTATOR_SPLITS = {"s0000": "train", "s0001": "val", "s0002": "test"}


def save_pictures(folder: Path, planes: np.ndarray, names: Sequence[str]) -> None:
    """Write `(slices, rows, columns)` grey levels as a PNG file each."""
    folder.mkdir(parents=True, exist_ok=True)
    for plane, name in zip(planes, names, strict=True):
        Image.fromarray(plane).save(folder / f"{name}.png")


def chaos_series(
    folder: Path, values: np.ndarray, names: Sequence[str], downwards: bool, **tags
) -> None:
    """Write `(depth, height, width)`, RAS+, as DICOM slices with names in their order.

    `downwards` says that names count from head to feet, against the positions.
    """
    # Rows run to posterior and columns to the left there, so RAS+ turns both round.
    paths = write_series(folder, values[:, ::-1, ::-1], slice_affine(SPACING), **tags)
    for path, name in zip(paths[::-1] if downwards else paths, names, strict=True):
        path.rename(folder / f"{name}.dcm")


def chaos(folder: Path, mrs: int = 1, times: int = 1) -> Path:
    """A CT and MRs of three series each to train with, and one CT and MR to test.

    In the CT and in T2, names count from head to feet, as they do in most of the download.
    """
    depth = SHAPE[0] * times
    train, test = folder / "CHAOS" / CHAOS_TRAIN, folder / "CHAOS" / CHAOS_TEST

    def scan(seed: int) -> np.ndarray:
        return repeated(anatomy(seed, SHAPE), times)

    liver = np.where(repeated(classes(1), times) == 1, 255, 0).astype(np.uint8)[:, ::-1, ::-1]
    levels = np.array([0, *CHAOS_MR_LEVELS.values()], np.uint8)
    organs = levels[repeated(classes(4), times)][:, ::-1, ::-1]
    slices = [f"i{index:04d},0000b" for index in range(depth)]
    chaos_series(train / "CT/1/DICOM_anon", scan(1), slices, downwards=True)
    pictures = [f"liver_GT_{index:03d}" for index in range(depth)]
    save_pictures(train / "CT/1/Ground", liver[::-1], pictures)
    chaos_series(test / "CT/3/DICOM_anon", scan(3), slices, downwards=True)

    mr = {"Modality": "MR", "SOPClassUID": MRImageStorage}
    # The two phases take turns.
    both = [f"IMG-0004-{index:05d}" for index in range(1, 2 * depth + 1)]
    out_of_phase, in_phase = both[::2], both[1::2]
    names = [f"IMG-0002-{index:05d}" for index in range(1, depth + 1)]
    for patient in (1, *range(5, 4 + mrs)):
        t1, t2 = (train / "MR" / str(patient) / kind for kind in ("T1DUAL", "T2SPIR"))
        seed = 10 * (patient - 1)
        chaos_series(t1 / "DICOM_anon/InPhase", scan(seed + 4), in_phase, downwards=False, **mr)
        chaos_series(
            t1 / "DICOM_anon/OutPhase", scan(seed + 5), out_of_phase, downwards=False, **mr
        )
        save_pictures(t1 / "Ground", organs, in_phase)
        chaos_series(t2 / "DICOM_anon", scan(seed + 6), names, downwards=True, **mr)
        save_pictures(t2 / "Ground", organs[::-1], names)
    chaos_series(test / "MR/4/T2SPIR/DICOM_anon", scan(7), names, downwards=True, **mr)
    touch(train / "CT/1/Ground/._liver_GT_000.png", folder / "CHAOS" / ".DS_Store")
    return folder / "CHAOS"


def nnunet(
    folder: Path,
    labels: Mapping[str, object] | None = None,
    channels: Sequence[str] = ("CT",),
    values: int = 2,
    times: int = 1,
    **description: object,
) -> Path:
    """Two labelled volumes to train with and one to test, of one or several channels."""
    root = folder / "Dataset001_Organs"
    for case, end, codes in (("a", "Tr", "LPS"), ("b", "Tr", "LAS"), ("c", "Ts", "RAS")):
        for channel in range(len(channels)):
            voxels = repeated(anatomy(ord(case), SHAPE), times) + 5000 * channel
            save_volume(root / f"images{end}" / f"case_{case}_{channel:04d}.nii.gz", voxels, codes)
        numbers = repeated(classes(values), times)
        save_volume(root / f"labels{end}" / f"case_{case}.nii.gz", numbers, codes)
    touch(root / "imagesTr" / "._case_a_0000.nii.gz")
    write_json(
        root / "dataset.json",
        {
            "channel_names": {str(index): channel for index, channel in enumerate(channels)},
            "labels": labels or {"background": 0, "liver": 1, "tumour": 2},
            "numTraining": 2,
            "file_ending": ".nii.gz",
        }
        | description,
    )
    return root


def nnunet_pictures(folder: Path, colours: bool = False) -> Path:
    """Two labelled pictures, grey or of three colours, which nnU-Net counts as channels."""
    root = folder / "Dataset002_Pictures"
    for seed, case in enumerate(("a", "b")):
        grey = np.random.default_rng(seed).integers(0, 256, (9, 11), dtype=np.uint8)
        pixels = np.stack([grey] * 3, axis=-1) if colours else grey
        for kind, name, content in (
            ("images", f"{case}_0000", pixels),
            ("labels", case, classes(1, (9, 11))),
        ):
            (root / f"{kind}Tr").mkdir(parents=True, exist_ok=True)
            Image.fromarray(content).save(root / f"{kind}Tr" / f"{name}.png")
    names = ("R", "G", "B") if colours else ("grey",)
    write_json(
        root / "dataset.json",
        {
            "channel_names": {str(index): name for index, name in enumerate(names)},
            "labels": {"background": 0, "lung": 1},
            "numTraining": 2,
            "file_ending": ".png",
        },
    )
    return root
