"""Cards of the models that recipes make: what they say is what recipes and data sets say."""

from pathlib import Path

import pytest
from huggingface_hub import ModelCard

import labelled_miniatures_classification as classification
import labelled_miniatures_segmentation as segmentation
from card_validation import card_errors
from layout_miniatures import chestxray14
from unimiss_hf.data.labelled.catalog import LABELLED_LAYOUTS
from unimiss_hf.data.labelled.chestxray14 import FINDINGS
from unimiss_hf.data.labelled.totalsegmentator_classes import ALL_2
from unimiss_hf.finetuning import FinetuningSettings
from unimiss_hf.finetuning.ready_card import model_name, ready_card
from unimiss_hf.training.recipes import read_recipe

RECIPES = Path(__file__).parents[2] / "recipes"
TIMES = "\N{MULTIPLICATION SIGN}"
# Small copies, as they are downloaded, of the data sets whose classes a card tells.
MINIATURES = {
    "btcv": segmentation.btcv,
    "chaos": segmentation.chaos,
    "chestxr": classification.chestxr,
    "chestxray14": lambda folder: chestxray14(folder, FINDINGS),
    "jsrt": classification.jsrt,
    "mmwhs": segmentation.mmwhs,
    "nlst": classification.nlst,
    "ricord": classification.ricord,
    "totalsegmentator": lambda folder: segmentation.totalsegmentator(
        folder, ALL_2, shape=(6, 7, 7)
    ),
}


def card_of(name: str) -> str:
    text = ready_card(RECIPES / f"finetune_{name}.yaml")
    assert card_errors(text) == []
    return text


@pytest.mark.parametrize("name", MINIATURES)
@pytest.mark.filterwarnings("ignore:.*has modality MR")
def test_classes_are_those_of_the_reader(name, tmp_path):
    recipe = read_recipe(RECIPES / f"finetune_{name}.yaml", FinetuningSettings)
    folder = MINIATURES[name](tmp_path)
    layout = LABELLED_LAYOUTS[recipe["layout"]]
    data = layout.read(folder, **recipe.get("layout_options", {}))
    text = card_of(name)
    rows = [f"| {number} | {label} |" for number, label in enumerate(data.class_names)]
    section = text.partition("## Classes")[2].partition("\n## ")[0]
    assert [line for line in section.splitlines() if line.startswith("| ")][1:] == rows
    assert ("may have several classes" in section) == data.is_multi_label
    assert f"\n- {data.cases[0].dimension}\n" in text


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("btcv", (f"3 {TIMES} 0.76 {TIMES} 0.76 mm", "-125 to 275 HU", "max_steps | 25000")),
        ("chaos", ("each volume's own 0.5th", "trained on MR", "option modality of the reader")),
        ("nlst", (f"cut out to 48 {TIMES} 96 {TIMES} 96 mm", "do the same")),
        ("ricord", (f"resized to 64 {TIMES} 128 {TIMES} 128 voxels", "less 158.58")),
        ("chestxray14", (f"resized to 224 {TIMES} 224 pixels", "which of 14 findings")),
        ("nnunet", ("data of one's own in nnU-Net's raw format", "Those of the data set")),
        ("sample_views", ("trained and tested on one patient", "| 0 | frontal |")),
    ],
)
def test_what_a_recipe_asks_for_is_told(name, rows):
    text = card_of(name)
    for row in rows:
        assert row in text
    assert "The weights are not published yet" in text
    assert f"recipes/finetune_{name}.yaml" in text


@pytest.mark.parametrize(
    "name", [path.stem[9:] for path in sorted(RECIPES.glob("finetune_*.yaml"))]
)
def test_nothing_is_claimed_that_is_not_there(name):
    card = ModelCard(card_of(name))
    data = card.data.to_dict()
    assert not {"model-index", "metrics", "base_model", "datasets"} & data.keys()
    assert ("widget" in data) == ("2d" in data["tags"])
    assert "Not scored yet" in card.text


def test_scores_of_a_run_go_in():
    scores = {"accuracy": 0.5, "auroc": 0.75, "cases": 4}
    results = {"task": "classification", "data": {"title": "ChestXR"}, "scores": scores}
    text = ready_card(RECIPES / "finetune_chestxr.yaml", results)
    assert card_errors(text) == []
    assert ModelCard(text).data.model_name == "unimiss-mit-chestxr"
    assert "| AUROC | 0.7500 |" in text


def test_what_is_no_recipe_of_fine_tuning_is_refused(tmp_path):
    assert model_name(Path("finetune_sample_ct.yaml")) == "unimiss-mit-sample-ct"
    with pytest.raises(ValueError, match="is no recipe of fine-tuning"):
        ready_card(RECIPES / "pretrain_small.yaml")
    recipe = tmp_path / "finetune_mine.yaml"
    recipe.write_text("seed: 1\n")
    with pytest.raises(ValueError, match="has the layout None; a card needs one of"):
        ready_card(recipe)
