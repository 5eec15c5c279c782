"""The recipes of published benchmarks: what they name is there, and takes their data."""

from pathlib import Path

import pytest

from labelled_miniatures_classification import chestxr, jsrt, nlst, ricord
from layout_miniatures import chestxray14
from unimiss_hf import MiTImageProcessor
from unimiss_hf.data.labelled.catalog import find_labelled_layout
from unimiss_hf.finetuning.augmentation import AugmentationSettings
from unimiss_hf.finetuning.settings import parse_settings

RECIPES = Path(__file__).parents[2] / "recipes"
SIZES = {
    "chestxr": (chestxr, (1, 224, 224)),
    "chestxray14": (chestxray14, (1, 224, 224)),
    "ricord": (ricord, (1, 64, 128, 128)),
    "nlst": (nlst, (1, 16, 96, 96)),
    "jsrt": (jsrt, (1, 224, 224)),
}


@pytest.mark.parametrize("name", SIZES)
def test_data_go_through_reader_and_processor_as_the_recipe_says(tmp_path, name):
    miniature, size = SIZES[name]
    settings = parse_settings(["--config", str(RECIPES / f"finetune_{name}.yaml")])
    assert settings.layout == name
    layout = find_labelled_layout(miniature(tmp_path), name)
    data = layout.read(tmp_path, **(settings.layout_options or {}))
    processor = MiTImageProcessor(**settings.processor)
    case = data.cases[0]
    maps = case.load_labels(case) if layout.task == "segmentation" else None
    batch = processor(case.load_image(case), segmentation_maps=maps, return_tensors="pt")
    assert batch["pixel_values"].shape[1:] == size
    AugmentationSettings.of(settings.augmentation)


@pytest.mark.parametrize("name", SIZES)
def test_folder_is_recognised_without_its_name(tmp_path, name):
    assert find_labelled_layout(SIZES[name][0](tmp_path)).name == name
