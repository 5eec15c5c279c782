"""Tiny labelled data sets that can be learnt in a few steps, and a pretrained checkpoint."""

import json
from pathlib import Path

import nibabel
import numpy as np
import torch
from PIL import Image

from layout_miniatures import stored
from small_pyramid import SMALLEST_PYRAMID
from unimiss_hf import MiTConfig, MiTForPreTraining, MiTImageProcessor
from unimiss_hf.data.organ_map import ORGANS

VOLUME = (6, 36, 40)
"""(depth, height, width) of volumes, RAS+."""
SPACING = (1.25, 1.0, 3.0)
"""Of columns, rows and slices in mm: no two alike."""
CLASSES = ("background", "liver", "tumour")
PROCESSOR = {
    "image_size": {"height": 32, "width": 32},
    "spacing": None,
    "window": "soft tissue",
    "scaling": "unit",
    "volume_size": None,
}
FINDINGS = {
    "normal": (slice(0, 0), slice(0, 0)),
    "pneumonia": (slice(16, 32), slice(0, 32)),
    "covid": (slice(0, 32), slice(0, 16)),
}
"""Which rows and columns are bright on the radiographs of each class."""


def pretrained(folder: Path, **config) -> Path:
    """A checkpoint of pretraining, with its processor."""
    torch.manual_seed(1)
    MiTForPreTraining(MiTConfig(**SMALLEST_PYRAMID | config)).save_pretrained(folder)
    MiTImageProcessor(**PROCESSOR).save_pretrained(folder)
    return folder


def body(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """HU and labels `(depth, height, width)` of a box of liver with a box of tumour in it."""
    random = np.random.default_rng(seed)
    values = random.normal(-120, 10, VOLUME)
    labels = np.zeros(VOLUME, np.uint8)
    top, left = random.integers(2, 10, 2)
    labels[1:5, top : top + 20, left : left + 24] = 1
    labels[2:4, top + 4 : top + 12, left + 4 : left + 14] = 2
    values[labels == 1] += 170
    values[labels == 2] += 400
    return values.astype(np.int16), labels


def organ_volumes(folder: Path, train: int = 6, test: int = 2) -> Path:
    """A folder of nnU-Net's, 3D: two classes, in files whose axes run in several ways."""
    root = folder / "Dataset007_Organs"
    for number in range(train + test):
        end = "Tr" if number < train else "Ts"
        name = f"case_{number:02d}"
        for kind in ("images", "labels"):
            (root / f"{kind}{end}").mkdir(parents=True, exist_ok=True)
        codes = ("LPS", "RAS", "LAS")[number % 3]
        values, labels = body(number)
        nibabel.save(stored(values, codes, SPACING), root / f"images{end}" / f"{name}_0000.nii.gz")
        nibabel.save(stored(labels, codes, SPACING), root / f"labels{end}" / f"{name}.nii.gz")
    description = {
        "channel_names": {"0": "CT"},
        "labels": {name: number for number, name in enumerate(CLASSES)},
        "numTraining": train,
        "file_ending": ".nii.gz",
    }
    (root / "dataset.json").write_text(json.dumps(description))
    return root


def organ_shadows(folder: Path) -> Path:
    """Radiographs with overlapping shadows, laid out as those of the sample CT."""
    root = folder / "xray"
    splits = ["train"] * 5 + ["validation"] * 2 + ["test"] * 2
    rows = ["name,split,angle"]
    for number, split in enumerate(splits):
        name = f"{number:03d}_{('pa', 'ap')[number % 2]}"
        rows.append(f"{name},{split},{number}.0")
        random = np.random.default_rng(number)
        pixels = random.normal(40, 4, (36, 40))
        for index, organ in enumerate(ORGANS):
            # neighbours overlap in half of their width
            left = 1 + 6 * index + random.integers(3)
            mask = np.zeros((36, 40), bool)
            mask[4 + index : 28, left : left + 10] = True
            pixels[mask] += 25
            path = root / "masks" / organ / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask.astype(np.uint8) * 255).save(path)
        (root / "images").mkdir(exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / "images" / f"{name}.png")
    (root / "split.csv").write_text("\n".join([*rows, ""]))
    return root


def findings(folder: Path, train: int = 3, validation: int = 2, test: int = 2) -> Path:
    """Radiographs of three classes as ChestXR has them, told apart by what is bright."""
    root = folder / "CXR"
    for split, count in {"train": train, "validation": validation, "test": test}.items():
        for name, bright in FINDINGS.items():
            (root / split / name).mkdir(parents=True)
            random = np.random.default_rng(list(f"{split}{name}".encode()))
            for number in range(count):
                pixels = random.normal(60, 12, (32, 32))
                pixels[bright] += 120
                image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
                image.save(root / split / name / f"{name}_{number}.png")
    return root
