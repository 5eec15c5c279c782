"""The recipes of segmentation benchmarks: what they name is there, and takes their data."""

import re
from pathlib import Path

import pytest

from labelled_miniatures_segmentation import (
    btcv,
    chaos,
    decathlon,
    mmwhs,
    nnunet,
    totalsegmentator,
)
from unimiss_hf import MiTImageProcessor
from unimiss_hf.data.labelled.catalog import find_labelled_layout
from unimiss_hf.data.labelled.totalsegmentator_classes import ALL_2
from unimiss_hf.finetuning.augmentation import AugmentationSettings
from unimiss_hf.finetuning.settings import parse_settings

RECIPES = Path(__file__).parents[2] / "recipes"


def whole_body(folder):
    return totalsegmentator(folder, ALL_2[:100])


MINIATURES = {
    "btcv": ("btcv", btcv),
    "chaos": ("chaos", chaos),
    "mmwhs": ("mmwhs", mmwhs),
    "msd": ("msd", decathlon),
    "msd_spleen": ("msd", decathlon),
    "totalsegmentator": ("totalsegmentator", whole_body),
    "nnunet": ("nnunet", nnunet),
}
pytestmark = pytest.mark.filterwarnings("ignore:.*has modality MR")


@pytest.mark.parametrize("name", [name for name in MINIATURES if name != "totalsegmentator"])
def test_data_go_through_reader_and_processor_as_the_recipe_says(tmp_path, name):
    layout_name, miniature = MINIATURES[name]
    settings = parse_settings(["--config", str(RECIPES / f"finetune_{name}.yaml")])
    assert settings.layout == layout_name
    layout = find_labelled_layout(miniature(tmp_path), layout_name)
    data = layout.read(tmp_path, **(settings.layout_options or {}))
    processor = MiTImageProcessor(**settings.processor)
    case = next(case for case in data.cases if case.is_labelled)
    maps = case.load_labels(case)
    batch = processor(case.load_image(case), segmentation_maps=maps, return_tensors="pt")
    assert batch["pixel_values"].shape[2:] == batch["labels"].shape[1:]
    assert batch["labels"].max() < len(data.class_names)
    AugmentationSettings.of(settings.augmentation)


def test_all_of_totalsegmentator_are_asked_for(tmp_path):
    settings = parse_settings(["--config", str(RECIPES / "finetune_totalsegmentator.yaml")])
    data = find_labelled_layout(whole_body(tmp_path), settings.layout).read(
        tmp_path, **settings.layout_options
    )
    assert data.class_names == ("background", *ALL_2)
    # The miniature lacks the masks of 17 structures.
    assert not data.cases
    assert len(data.problems) == 3
    AugmentationSettings.of(settings.augmentation)
    MiTImageProcessor(**settings.processor)


@pytest.mark.parametrize("name", MINIATURES)
def test_folder_is_recognised_without_its_name(tmp_path, name):
    layout_name, miniature = MINIATURES[name]
    assert find_labelled_layout(miniature(tmp_path)).name == layout_name


@pytest.mark.parametrize("name", MINIATURES)
def test_options_that_comments_name_can_be_had(name):
    text = (RECIPES / f"finetune_{name}.yaml").read_text(encoding="utf-8")
    commands = re.sub(r"\n# *", " ", text.partition("\noutput:")[0])
    for option, value in re.findall(r"--(\w+) '([^']+)'", commands):
        settings = parse_settings(
            ["--config", str(RECIPES / f"finetune_{name}.yaml"), f"--{option}", value]
        )
        if option == "processor":
            MiTImageProcessor(**settings.processor)
