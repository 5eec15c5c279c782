"""Saved folders open where the package is not installed: in a fresh environment without it."""

import base64
import gzip
import json
import os
import shutil
import subprocess
import sysconfig
import venv
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import pipeline

import opening_folders
from loopback_hub import LoopbackHub, Repository
from small_pyramid import SMALLEST_PYRAMID
from unimiss_hf import (
    MiTConfig,
    MiTForImageClassification,
    MiTForPreTraining,
    MiTForSemanticSegmentation,
    MiTImageProcessor,
)
from unimiss_hf.hub.endpoint_files import add_endpoint
from unimiss_hf.publication_mit import AUTO_MAP, CUSTOM_PIPELINES


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with one saved model of each head, and inputs."""
    torch.manual_seed(0)
    work, random = tmp_path_factory.mktemp("work"), np.random.default_rng(0)
    for name, model_class in (
        ("pretraining", MiTForPreTraining),
        ("classification", MiTForImageClassification),
        ("segmentation", MiTForSemanticSegmentation),
    ):
        model_class(MiTConfig(**SMALLEST_PYRAMID, num_labels=3)).save_pretrained(work / name)
        MiTImageProcessor().save_pretrained(work / name)
    Image.fromarray(random.integers(0, 255, (60, 64), np.uint8)).save(work / "xray.png")
    voxels = random.integers(-1000, 500, (40, 36, 9)).astype(np.int16)
    image = nibabel.Nifti1Image(voxels, np.diag([-1.0, 1.0, 3.0, 1.0]))
    nibabel.save(image, work / "ct.nii.gz")
    return work


@pytest.fixture(scope="module")
def hub(work):
    """A Hub with the pretraining model, whose code goes a way of its own to where it is run."""
    with LoopbackHub() as hub:
        repository = hub.repositories["models", "clinic/mit"] = Repository({})
        folder = work / "pretraining"
        repository.add("Upload", {path.name: path.read_bytes() for path in folder.iterdir()})
        repository.add("Spoil", {"config.json": b"{}"})
        yield hub


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    """The interpreter of a new environment that has all packages of this one but ours."""
    folder = tmp_path_factory.mktemp("environment")
    venv.EnvBuilder(symlinks=True).create(folder)
    packages = Path(sysconfig.get_path("purelib", "venv", vars={"base": str(folder)}))
    for key in ("purelib", "platlib"):
        for entry in Path(sysconfig.get_path(key)).iterdir():
            link = packages / entry.name
            # A .pth file is how an editable package is found.
            if "unimiss_hf" not in entry.name and entry.suffix != ".pth" and not link.exists():
                link.symlink_to(entry)
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def answers(work, python, hub):
    """What the folders answer without the package, and with it: modules and numbers."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(
        [
            python,
            opening_folders.__file__,
            work,
            hub.repositories["models", "clinic/mit"].commits[0].sha,
        ],
        env={
            **clean,
            **hub.environment,
            "HF_MODULES_CACHE": str(work / "modules"),
            "HF_HUB_CACHE": str(work / "hub"),
        },
        cwd=work,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads((work / "opened.json").read_text()), opening_folders.open_everything(work)


def test_every_auto_class_and_pipeline_opens(answers):
    (remote, _), (packaged, _) = answers
    assert remote.keys() == packaged.keys() == AUTO_MAP.keys() | CUSTOM_PIPELINES.keys()
    assert all(module.startswith("transformers_modules.") for module in remote.values())
    # The package's classes serve where it is imported.
    assert all(module.startswith("unimiss_hf.") for module in packaged.values())


def test_answers_are_those_of_the_package(answers):
    (_, remote), (_, packaged) = answers
    expected = {**packaged, "Hub": packaged["medical-feature-extraction"]}
    assert remote.keys() == expected.keys()
    for name in expected.keys() - {"medical-image-segmentation"}:
        # To rounding, which may differ between two processes.
        for found, wanted in zip(remote[name], expected[name], strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5, err_msg=name)


def test_label_maps_are_those_of_the_package(answers):
    (_, remote), (_, packaged) = answers
    task = "medical-image-segmentation"
    shapes = [np.shape(label_map) for label_map in packaged[task]]
    assert shapes == [(60, 64), (40, 36, 9), (8, 36, 40)]
    for found, expected in zip(remote[task], packaged[task], strict=True):
        # Two classes may be equal to rounding in a voxel.
        assert np.mean(np.array(found) == np.array(expected)) > 0.999


def test_what_is_saved_without_the_package_is_whole(answers, work):
    def files(name):
        return {path.name for path in (work / name).iterdir()}

    assert files("saved_again") == files("segmentation")
    saved, first = (
        json.loads((work / name / "config.json").read_text())
        for name in ("saved_again", "segmentation")
    )
    assert saved == first


ASKING = """
import importlib.util, json, pathlib, sys
assert importlib.util.find_spec("unimiss_hf") is None
work = pathlib.Path(sys.argv[1])
spec = importlib.util.spec_from_file_location("handler", work / "endpoint" / "handler.py")
sys.modules["handler"] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
handler = module.EndpointHandler(work / "endpoint")
volume = {"inputs": (work / "ct.nii.gz").read_bytes()}
fine = {"inputs": (work / "ct.nii.gz").read_bytes(), "parameters": {"spacing": [0.01] * 3}}
refusal = None
try:
    handler(fine)
except ValueError as error:
    refusal = str(error)
(work / "asked.json").write_text(json.dumps([handler(volume), refusal]))
"""


def test_an_endpoints_handler_answers(work, python):
    shutil.copytree(work / "segmentation", work / "endpoint")
    add_endpoint(work / "endpoint")
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(
        [python, "-c", ASKING, work],
        env={**clean, "HF_MODULES_CACHE": str(work / "modules_of_handler")},
        cwd=work,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    answer, refusal = json.loads((work / "asked.json").read_text())
    packed = gzip.decompress(base64.b64decode(answer["segmentation"]))
    labels = nibabel.Nifti1Image.from_bytes(packed)
    wanted = pipeline("medical-image-segmentation", str(work / "endpoint"), device="cpu")(
        work / "ct.nii.gz"
    )["segmentation"]
    assert np.mean(np.asarray(labels.dataobj) == np.asarray(wanted.dataobj)) > 0.999
    np.testing.assert_array_equal(labels.affine, wanted.affine)
    # Its bounds hold for the code in the folder, too.
    assert "would have shape (2700, 3600, 4000)" in refusal
