"""Small models, a CT and a radiograph of which the answers are easy to see."""

import os

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from small_pyramid import SMALLEST_PYRAMID
from unimiss_hf import (
    MiTConfig,
    MiTForImageClassification,
    MiTForPreTraining,
    MiTForSemanticSegmentation,
    MiTImageProcessor,
)
from viewer.models import Models, open_models
from viewer.settings import Settings, parse_settings


@pytest.fixture(scope="session")
def model_folders(tmp_path_factory):
    """A saved folder for each option of the page."""
    torch.manual_seed(0)
    work = tmp_path_factory.mktemp("models")
    organs = {"id2label": {0: "background", 1: "lungs", 2: "heart"}}
    shadows = {
        "id2label": {0: "lungs", 1: "heart"},
        "problem_type": "multi_label_classification",
    }
    views = {"id2label": {0: "frontal", 1: "lateral"}}
    made = {
        "encoder": (MiTForPreTraining, {}),
        "segmenter-3d": (MiTForSemanticSegmentation, organs),
        "segmenter-2d": (MiTForSemanticSegmentation, shadows),
        "classifier-2d": (MiTForImageClassification, views),
    }
    for name, (model_class, labels) in made.items():
        model_class(MiTConfig(**SMALLEST_PYRAMID, **labels)).save_pretrained(work / name)
        size = {"height": 64, "width": 64}
        MiTImageProcessor(image_size=size).save_pretrained(work / name)
    return {name: work / name for name in made}


@pytest.fixture(scope="session")
def settings(model_folders) -> Settings:
    options = [part for name, path in model_folders.items() for part in (f"--{name}", str(path))]
    return parse_settings([*options, "--samples"], {})


@pytest.fixture(scope="session")
def models(settings) -> Models:
    return open_models(settings)


@pytest.fixture(scope="session")
def images_folder(tmp_path_factory):
    """`ct/body.nii.gz`, stored LPS, 48 x 40 x 12 voxels, and `xray/chest.png`, 80 x 64 pixels."""
    folder, random = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for part in ("ct", "xray"):
        (folder / part).mkdir()
    x, y, z = np.meshgrid(np.arange(48), np.arange(40), np.arange(12), indexing="ij")
    body = (x - 24) ** 2 / 20**2 + (y - 20) ** 2 / 16**2 < 1
    # Soft tissue that gets denser from slice to slice, so that no two slices look alike.
    hu = np.where(body, 10 * z + 5 * (x > 24), -1000) + random.integers(0, 8, body.shape)
    image = nibabel.Nifti1Image(hu.astype(np.int16), np.diag([-2.0, -2.0, 5.0, 1.0]))
    nibabel.save(image, folder / "ct" / "body.nii.gz")
    grey = random.integers(0, 255, (8, 10), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    Image.fromarray(grey).save(folder / "xray" / "chest.png")
    return folder


@pytest.fixture(scope="session")
def ct_path(images_folder):
    return images_folder / "ct" / "body.nii.gz"


@pytest.fixture(scope="session")
def xray_path(images_folder):
    return images_folder / "xray" / "chest.png"
