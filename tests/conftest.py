"""What every test shares: no network, repeatable numbers, one small model."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from types import ModuleType

# Before any Hugging Face library reads them.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
# Tests run side by side, a process for each core: threads of one would only wait for the other's.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from loopback_hub import LoopbackHub
from small_pyramid import SMALLEST_PYRAMID
from unimiss_hf import MiTConfig, MiTForPreTraining
from unimiss_hf.pretraining import PretrainingSettings


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture
def small_config() -> MiTConfig:
    """A pyramid of the real depth and shape with few channels."""
    return MiTConfig(**SMALLEST_PYRAMID)


@pytest.fixture(scope="session", autouse=True)
def private_cache(tmp_path_factory):
    """Keep data sets' caches out of the user's home, and torch's out of the temporary folder."""
    from datasets import config

    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(tmp_path_factory.mktemp("inductor"))
    config.HF_DATASETS_CACHE = tmp_path_factory.mktemp("datasets")


@pytest.fixture
def images(tmp_path):
    """A folder of eight radiographs, 40 x 48 pixels."""
    folder = tmp_path / "images"
    folder.mkdir()
    random = np.random.default_rng(0)
    for index in range(8):
        pixels = random.integers(0, 255, (5, 6), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return folder


@pytest.fixture
def volumes(tmp_path):
    """A folder of four CT volumes of 6 x 40 x 44 voxels, spacing 3 x 1 x 1 mm."""
    folder = tmp_path / "volumes"
    folder.mkdir()
    random = np.random.default_rng(1)
    for index in range(4):
        voxels = random.integers(-1000, 500, (11, 10, 6), dtype=np.int16).repeat(4, 0).repeat(4, 1)
        image = nibabel.Nifti1Image(voxels, np.diag([1.0, 1.0, 3.0, 1.0]))
        nibabel.save(image, folder / f"{index}.nii.gz")
    return folder


@pytest.fixture
def settings(tmp_path, images, volumes, small_config):
    """Make settings of a run of 14 steps: two epochs of 2D, two of 3D, and so on."""
    MiTForPreTraining(small_config).save_pretrained(tmp_path / "start")

    def make(**changes) -> PretrainingSettings:
        values = {
            "output": str(tmp_path / "run"),
            "initial_checkpoint": str(tmp_path / "start"),
            "dataset_2d": [str(images)],
            "dataset_3d": [str(volumes)],
            "image_size": [32, 32],
            "volume_size": [4, 32, 32],
            "image_window": [48, 48],
            "volume_window": [6, 40, 40],
            "batch_size_2d": 4,
            "batch_size_3d": 2,
            "max_steps": 14,
            "checkpoint_every": 100,
            "base_learning_rate": 0.02,
            "warmup_epochs": 1,
            "figures": False,
        }
        return PretrainingSettings(**{**values, **changes})

    return make


@pytest.fixture
def hub(monkeypatch):
    """A Hub on this machine, which the environment of the test names."""
    with LoopbackHub() as hub:
        for name, value in hub.environment.items():
            monkeypatch.setenv(name, value)
        yield hub


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen]]:
    """Start programs that use one module; what still runs at the end of the test is killed.

    The module is run from its file, which imports no more than it needs: a program of this kind
    starts at once, where the whole package takes seconds.
    """
    processes = []

    def start_program(module: ModuleType, program: str, *arguments: object) -> subprocess.Popen:
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                f"import runpy; globals().update(runpy.run_path({module.__file__!r}))\n{program}",
                *map(str, arguments),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield start_program
    for process in processes:
        process.kill()
        process.communicate()
