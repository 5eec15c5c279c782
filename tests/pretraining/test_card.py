import json
import re

import pytest
import yaml

from card_validation import card_errors
from unimiss_hf import MiTForPreTraining
from unimiss_hf.pretraining import Pretrainer
from unimiss_hf.pretraining.card import make_card


@pytest.fixture
def model(small_config) -> MiTForPreTraining:
    return MiTForPreTraining(small_config)


def test_data_on_the_hub_is_named_and_paths_are_not(settings, model, tmp_path):
    card = make_card(
        model,
        settings(dataset_2d=["hf://datasets/owner/radiographs"], push_to_hub="owner/name"),
        step=500,
        total_steps=12_000,
    )
    text = str(card)
    metadata = yaml.safe_load(re.match("---\n(.*?)\n---\n", text, re.DOTALL)[1])
    assert metadata["datasets"] == ["owner/radiographs"]
    assert metadata["library_name"] == "transformers"
    assert "license" not in metadata
    for told in (
        "after 500 of 12,000 steps: training goes on.",
        "| 2D data | `owner/radiographs` |",
        "| 3D data | files |",
        "| spacing | [3.0, 1.0, 1.0] |",
        'from_pretrained("owner/name")',
        "not for diagnosis",
        "arXiv:2112.09356",
    ):
        assert told in text
    assert card_errors(text) == []
    assert str(tmp_path) not in text
    assert "{" not in text.split("```bibtex")[0]


def test_a_finished_model_says_so(settings, model):
    text = str(make_card(model, settings(), step=14, total_steps=14))
    assert "after 14 of 14 steps." in text
    assert "datasets:" not in text
    assert "training_state" not in text


def test_data_of_a_prepared_folder_are_named_with_their_terms(settings, model, tmp_path):
    terms = {"identifier": "cc-by-4.0", "name": "CC BY 4.0", "url": "https://example.org/terms"}
    source = {"title": "Tianchi", "homepage": "", "licenses": [terms], "citation": "Cite us."}
    (tmp_path / "prepared.json").write_text(json.dumps({"sources": [source]}))
    text = str(make_card(model, settings(dataset_3d=[str(tmp_path)]), 14, 14))
    assert "| Tianchi | [CC BY 4.0](https://example.org/terms) |" in text
    assert "* Cite us." in text
    assert "one patient" not in text


def test_a_model_of_the_sample_says_that_it_is_of_one_patient(settings, model, tmp_path):
    (tmp_path / "sample.json").write_text("{}")
    (tmp_path / "ct").mkdir()
    of_sample = settings(dataset_2d=[], dataset_3d=[str(tmp_path / "ct")], initial_checkpoint=None)
    card = make_card(model, of_sample, 14, 14)
    assert card.data.license == "cc-by-3.0"
    assert card_errors(str(card)) == []
    assert "It was trained on one patient's CT" in str(card)


def test_a_run_tells_its_hours_and_device(settings):
    result = Pretrainer(settings(max_steps=2)).run()
    text = (result.model / "README.md").read_text(encoding="utf-8")
    assert re.search(r"\| hours of training steps, over all restarts \| \d\S* \|", text)
    assert "| processes | 1 |" in text and "| device of each | CPU, " in text


def test_the_training_state_is_explained_where_it_is(settings, model):
    run = settings(push_to_hub="owner/name", hub_training_state=True)
    assert "`training_state` holds" in str(make_card(model, run, 1, 2))


def test_the_examples_run(settings, images, volumes, capsys):
    result = Pretrainer(settings(max_steps=1)).run()
    text = (result.model / "README.md").read_text(encoding="utf-8")
    of_tensor, of_files = re.findall("```python\n(.*?)```", text, re.DOTALL)
    exec(of_tensor.replace("the/folder/of/this/file", str(result.model)), {})
    assert "torch.Size([1, 16])" in capsys.readouterr().out
    assert "# (1, 16)" in of_tensor
    for name, path in {
        "the/folder/of/this/file": result.model,
        "chest.png": images / "0.png",
        "ct.nii.gz": volumes / "0.nii.gz",
    }.items():
        of_files = of_files.replace(name, str(path))
    exec(of_files, {})
    assert "16 16" in capsys.readouterr().out
