"""Models' folders with the files of an endpoint, and what is sent to them."""

import gzip
import io

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
from unimiss_hf.hub.endpoint_files import add_endpoint

NAMES = {0: "air", 1: "lung", 2: "bone"}


@pytest.fixture(autouse=True, scope="module")
def pillows_bound():
    """A handler sets it, for its process is the endpoint's own; here it is put back."""
    before = Image.MAX_IMAGE_PIXELS
    yield
    Image.MAX_IMAGE_PIXELS = before


@pytest.fixture(scope="session")
def endpoint_folders(tmp_path_factory):
    """Folders by what is in them; the processor thins volumes out to 8 x 4 x 4 mm."""
    torch.manual_seed(0)
    work = tmp_path_factory.mktemp("repositories")
    for name, model_class, settings in (
        ("features", MiTForPreTraining, {}),
        ("classification", MiTForImageClassification, {}),
        ("segmentation", MiTForSemanticSegmentation, {}),
        (
            "overlapping",
            MiTForSemanticSegmentation,
            {"problem_type": "multi_label_classification"},
        ),
    ):
        config = MiTConfig(**SMALLEST_PYRAMID, id2label=NAMES, **settings)
        model_class(config).save_pretrained(work / name)
        size = {"depth": 8, "height": 32, "width": 32} if name == "classification" else None
        MiTImageProcessor(
            image_size={"height": 64, "width": 64}, spacing=(8, 4, 4), volume_size=size
        ).save_pretrained(work / name)
        add_endpoint(work / name)
    return {folder.name: folder for folder in work.iterdir()}


@pytest.fixture(scope="session")
def grey_levels():
    """A picture, 60 x 64."""
    return np.random.default_rng(1).integers(0, 255, (12, 16), np.uint8).repeat(5, 0).repeat(4, 1)


@pytest.fixture(scope="session")
def volume():
    """A CT `(x, y, z)`, left to right reversed, of 1 x 1 x 3 mm."""
    voxels = np.random.default_rng(0).integers(-1000, 500, (10, 9, 9)).astype(np.int16)
    voxels = voxels.repeat(4, 0).repeat(4, 1)
    image = nibabel.Nifti1Image(voxels, np.diag([-1.0, 1.0, 3.0, 1.0]))
    image.header.set_xyzt_units("mm")
    return image


@pytest.fixture(scope="session")
def files(grey_levels, volume):
    """The bytes of a file of each kind, by its ending."""

    def picture(format_name, pixels=grey_levels):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, format=format_name)
        return file.getvalue()

    second = nibabel.Nifti2Image(np.asarray(volume.dataobj), volume.affine)
    mgh = nibabel.MGHImage(np.asarray(volume.dataobj, np.float32), volume.affine)
    return {
        "png": picture("PNG"),
        "jpg": picture("JPEG"),
        "tif": picture("TIFF"),
        "bmp": picture("BMP"),
        "16.png": picture("PNG", grey_levels.astype(np.uint16) * 257),
        "nii": volume.to_bytes(),
        "nii.gz": gzip.compress(volume.to_bytes()),
        "nii2": second.to_bytes(),
        "mgh": mgh.to_bytes(),
        "mgz": gzip.compress(mgh.to_bytes()),
    }
