"""What tests of predictions share: fine-tuned models, and settings that are quick."""

import pytest
import torch

from small_pyramid import SMALLEST_PYRAMID
from unimiss_hf import (
    MiTConfig,
    MiTForImageClassification,
    MiTForPreTraining,
    MiTForSemanticSegmentation,
    MiTImageProcessor,
)
from unimiss_hf.prediction import PredictionSettings

MODELS = {
    "segmentation": (MiTForSemanticSegmentation, ["background", "left lung", "heart"], None),
    "overlapping": (
        MiTForSemanticSegmentation,
        ["left lung", "heart"],
        "multi_label_classification",
    ),
    "classification": (MiTForImageClassification, ["normal", "covid", "name"], None),
    "findings": (MiTForImageClassification, ["mass", "nodule"], "multi_label_classification"),
    "regression": (MiTForImageClassification, ["age"], "regression"),
    "pretraining": (MiTForPreTraining, ["a", "b"], None),
}


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """A saved folder of each kind, whose processor makes small images."""
    torch.manual_seed(0)
    folders = {}
    for kind, (model_class, names, problem_type) in MODELS.items():
        folders[kind] = tmp_path_factory.mktemp(kind)
        config = MiTConfig(
            **SMALLEST_PYRAMID, id2label=dict(enumerate(names)), problem_type=problem_type
        )
        model_class(config).save_pretrained(folders[kind])
        MiTImageProcessor(image_size={"height": 40, "width": 40}).save_pretrained(folders[kind])
    return folders


@pytest.fixture
def make_settings(tmp_path, models):
    def make(kind="segmentation", **changes) -> PredictionSettings:
        values = {"model": str(models[kind]), "output": str(tmp_path / "out"), "workers": 0}
        return PredictionSettings(**{**values, **changes})

    return make
