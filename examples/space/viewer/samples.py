"""Sample images that the page offers, and that neighbours are looked for among."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel

from .images import read_image
from .models import Models
from .neighbours import PatchIndex
from .patch_features import extract_patches

_SUFFIXES_3D = (".nii", ".nii.gz")
_SUFFIXES_2D = (".png", ".jpg", ".jpeg")
_OFFERED = 2
_INDEXED_IMAGES = 8
_INDEXED_PATCHES = 6000


@dataclass(frozen=True)
class Sample:
    """One sample image.

    Attributes:
        name: What the page calls it.
        path: Its file.
        dimension: 2 or 3.
    """

    name: str
    path: Path
    dimension: int


def find_samples(folders: Iterable[Path]) -> list[Sample]:
    """Find the images in the folders `ct` and `xray` of some folders, or in these themselves.

    `images` and `imagesTs`, in which labelled data sets keep images, are looked into too. Folders
    that are not there are passed over.
    """
    found = []
    for folder in folders:
        for part in ("", "ct", "ct/imagesTs", "xray", "xray/images"):
            for path in sorted((folder / part).glob("*")):
                name = path.name.lower()
                if name.endswith(_SUFFIXES_3D):
                    slices = nibabel.load(path).shape[2]
                    title = f"CT {_title(path)}, {slices} slices"
                    found.append(Sample(title, path, 3))
                elif name.endswith(_SUFFIXES_2D):
                    found.append(Sample(f"Radiograph {_title(path)}", path, 2))
    return found


def offered_samples(samples: Sequence[Sample]) -> list[Sample]:
    """Choose what the page offers: the first few of each dimension."""
    return [
        sample
        for dimension in (3, 2)
        for sample in [each for each in samples if each.dimension == dimension][:_OFFERED]
    ]


def index_samples(models: Models, samples: Sequence[Sample]) -> dict[int, PatchIndex]:
    """Index patches of the samples, by dimension: of the first volume, and of some radiographs.

    Returns:
        At most 6000 patches of each dimension; nothing of one that has no samples.

    Raises:
        OSError, ValueError: If a sample cannot be read.
    """
    indices = {}
    for dimension, most in ((2, _INDEXED_IMAGES), (3, 1)):
        paths = [str(sample.path) for sample in samples if sample.dimension == dimension][:most]
        if paths:
            images = [read_image(path, models.encoder.image_processor) for path in paths]
            features = [extract_patches(models.encoder, path) for path in paths]
            indices[dimension] = PatchIndex.of(images, features, _INDEXED_PATCHES)
    return indices


def _title(path: Path) -> str:
    # nnU-Net numbers the channels of an image at the end of its name.
    return path.name.split(".")[0].removesuffix("_0000").replace("_", " ")
