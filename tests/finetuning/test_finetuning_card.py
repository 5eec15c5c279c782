"""The card of a fine-tuned model: what it is, and nothing of the machine."""

import json
import re
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from card_validation import card_errors
from unimiss_hf.finetuning import Finetuner
from unimiss_hf.finetuning.card import make_card
from unimiss_hf.finetuning.model import open_model, open_processor
from unimiss_hf.finetuning.runs import put_scores_into_card
from unimiss_hf.finetuning.task_data import open_task_data
from unimiss_hf.hub.compute_record import ComputeRecord
from unimiss_hf.hub.widget import EXAMPLE


def card_of(settings, validation=None, compute=None, **told):
    task = open_task_data(settings)
    model = open_model(settings, task.data, task.layout.task).model
    processor = open_processor(settings)
    named = type(settings)(**{**settings.to_dict(), **told, "epochs": None}) if told else settings
    card = make_card(model, processor, named, task, 1500, validation, compute)
    assert card_errors(str(card)) == []
    return card


def test_a_segmentation_of_volumes(settings, checkpoint):
    card = card_of(settings(), {"validation/dice": 0.51239, "validation/dice/liver": 0.8})
    assert card.data.pipeline_tag == "image-segmentation"
    assert {"segmentation", "3d", "ct", "medical-imaging"} <= set(card.data.tags)
    assert "base_model" not in card.data.to_dict()
    assert "license" not in card.data.to_dict()  # one's own data
    assert "widget" not in card.data.to_dict()
    text = str(card)
    assert "to segment 2 structures in volumes, for 1,500 steps" in text
    for row in ("| 0 | background |", "| 1 | liver |", "| 2 | tumour |"):
        assert row in text
    assert "| cases that trained, validated, test | 5, 1, 2 |" in text
    assert "| validation/dice | 0.5124 |" in text
    assert "may have several classes" not in text
    assert 'pipeline("medical-image-segmentation", "the/folder/of/this/file")' in text
    assert str(checkpoint) not in text and settings().dataset not in text
    assert "has no widget that takes volumes" in text and EXAMPLE not in text
    assert "| spacing | as it is |" in text
    assert "clipped to -150 to 250 HU, scaled to 0 to 1" in text
    assert "in windows of 4 \N{MULTIPLICATION SIGN} 32 \N{MULTIPLICATION SIGN} 32 voxels" in text
    assert "Not scored yet" in text
    assert "not known to this card" in text


def test_what_is_known_of_the_machine_is_told(settings):
    text = str(card_of(settings(), compute=ComputeRecord(1.5, 8, "NVIDIA H100")))
    for row in (
        "| hours of training steps, over all restarts | 1.5 |",
        "| processes | 8 |",
        "| device of each | NVIDIA H100 |",
    ):
        assert row in text
    assert "Energy and emissions were not measured" in text


def test_shadows_that_overlap(of_shadows):
    card = card_of(of_shadows())
    text = str(card)
    assert "may have several classes, or none" in text
    assert "| 4 | liver |" in text
    assert "## Validation" not in text
    assert card.data.widget[0]["src"] == EXAMPLE
    assert "CC BY 3.0" in text and "was trained and tested on one patient" in text
    # the checkpoint has no card, so nobody knows what its terms add
    assert card.data.license_name == "cc-by-3.0-and-of-the-pretrained-weights"


def test_a_classification(of_images):
    card = card_of(of_images(), push_to_hub="owner/chests", model="someone/unimiss-tiny")
    assert card.data.pipeline_tag == "image-classification"
    assert card.data.base_model == "someone/unimiss-tiny"
    assert card.data.license == "other" and "chestxr" in card.data.license_name
    assert 'pipeline("medical-image-classification", "owner/chests")' in str(card)
    assert "to tell images of 3 classes apart" in str(card)


def test_a_branch_of_a_pretrained_model_is_not_part_of_its_name(of_images):
    card = card_of(of_images(), model="someone/unimiss-tiny@v2")
    assert card.data.base_model == "someone/unimiss-tiny"


@pytest.mark.parametrize("model", ["./runs/model", "a/b/c", "two words/model"])
def test_what_is_no_repository_is_not_named(of_images, model):
    card = card_of(of_images(), model=model)
    assert "base_model" not in card.data.to_dict()
    assert model not in str(card)


def test_paths_among_the_reader_s_options_are_not_told(settings, tmp_path):
    options = {"channel": 0, "lists": str(tmp_path)}
    text = str(card_of(settings(), layout_options=options))
    assert "| option channel of the reader | 0 |" in text
    assert str(tmp_path) not in text


@pytest.mark.parametrize(("license", "named"), [("mit", "cc-by-3.0"), ("cc-by-nc-4.0", "other")])
def test_terms_of_the_pretrained_model_count(of_shadows, tmp_path, license, named):
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "README.md").write_text(f"---\nlicense: {license}\n---\n")
    card = card_of(of_shadows(), model=str(tmp_path / "base"))
    assert card.data.license == named


def test_random_weights_are_told_and_add_no_terms(of_shadows):
    card = card_of(of_shadows(), model=None, model_size="tiny")
    assert card.data.license == "cc-by-3.0"
    assert "| began with | random weights, MiT-tiny |" in str(card)


# ------------------------------------------------------------------------------- of whole runs


def run_example(text: str, model: Path, image: Path, folder: Path, monkeypatch) -> None:
    example = re.search("```python\n(.*?)```", text, re.DOTALL)[1]
    monkeypatch.chdir(folder)
    for name in ("ct.nii.gz", "chest.png"):
        example = example.replace(json.dumps(name), json.dumps(str(image)))
    exec(example.replace("the/folder/of/this/file", str(model)), {})


def test_a_finished_run_s_card_has_its_scores_and_an_example_that_runs(
    finished, organs, tmp_path, monkeypatch, capsys
):
    run, outcome = finished
    text = (outcome.result.model / "README.md").read_text(encoding="utf-8")
    assert card_errors(text) == []
    scores = json.loads((Path(run.output) / "results.json").read_text())["scores"]
    results = {found.metric_name: found.metric_value for found in ModelCard(text).data.eval_results}
    assert results["mean Dice"] == pytest.approx(scores["dice"]["mean"], abs=1e-6)
    assert "Not scored yet" not in text
    assert "| device of each | CPU, " in text
    image = organs / "imagesTs" / "case_06_0000.nii.gz"
    run_example(text, outcome.result.model, image, tmp_path, monkeypatch)
    assert "tumour" in capsys.readouterr().out
    assert (tmp_path / "labels.nii.gz").is_file()


def test_the_example_of_a_classifier_runs(of_images, chests, tmp_path, monkeypatch, capsys):
    model = Finetuner(of_images(max_steps=1, validate_every=1)).run().model
    text = (model / "README.md").read_text(encoding="utf-8")
    image = chests / "test" / "covid" / "covid_0.png"
    run_example(text, model, image, tmp_path, monkeypatch)
    assert "pneumonia 0." in capsys.readouterr().out


def test_the_example_of_shadows_runs(of_shadows, shadows, tmp_path, monkeypatch):
    model = Finetuner(of_shadows(max_steps=1, validate_every=1)).run().model
    text = (model / "README.md").read_text(encoding="utf-8")
    image = next((shadows / "images").iterdir())
    run_example(text, model, image, tmp_path, monkeypatch)
    assert (tmp_path / "first_class.png").is_file()


def test_a_card_that_cannot_take_scores_stays_and_is_told(finished, tmp_path):
    run, outcome = finished
    torn = (outcome.result.model / "README.md").read_text().replace("<!-- scores: end -->", "")
    card = tmp_path / "README.md"
    card.write_text(torn)
    told = []
    put_scores_into_card(Path(run.output) / "results.json", card, run, told.append)
    assert card.read_text() == torn
    (sentence,) = told
    assert str(card) in sentence and "wanted one of each" in sentence
