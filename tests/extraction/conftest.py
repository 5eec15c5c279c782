"""What tests of extraction share: a saved model, and settings that are quick."""

import pytest
import torch

from small_pyramid import SMALLEST_PYRAMID
from unimiss_hf import MiTConfig, MiTForPreTraining, MiTImageProcessor
from unimiss_hf.extraction import ExtractionSettings


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    """A pretraining checkpoint whose processor keeps volumes' grids."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    MiTForPreTraining(MiTConfig(**SMALLEST_PYRAMID)).save_pretrained(folder)
    MiTImageProcessor(image_size={"height": 40, "width": 40}).save_pretrained(folder)
    return folder


@pytest.fixture
def make_settings(tmp_path, model_folder):
    def make(**changes) -> ExtractionSettings:
        values = {
            "model": str(model_folder),
            "output": str(tmp_path / "out" / "features.parquet"),
            "workers": 0,
        }
        return ExtractionSettings(**{**values, **changes})

    return make
