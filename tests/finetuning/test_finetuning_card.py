"""The card of a fine-tuned model: what it is, and nothing of the machine."""

import pytest

from unimiss_hf.finetuning.card import make_card
from unimiss_hf.finetuning.model import open_model
from unimiss_hf.finetuning.task_data import open_task_data


def card_of(settings, validation=None, **told):
    task = open_task_data(settings)
    model = open_model(settings, task.data, task.layout.task).model
    named = type(settings)(**{**settings.to_dict(), **told, "epochs": None}) if told else settings
    return make_card(model, named, task, 1500, validation)


def test_a_segmentation_of_volumes(settings, checkpoint):
    card = card_of(settings(), {"validation/dice": 0.51239, "validation/dice/liver": 0.8})
    assert card.data.pipeline_tag == "image-segmentation"
    assert {"segmentation", "3d", "medical-imaging"} <= set(card.data.tags)
    assert "base_model" not in card.data.to_dict()
    text = str(card)
    assert "for 1,500 steps" in text
    for row in ("| 0 | background |", "| 1 | liver |", "| 2 | tumour |"):
        assert row in text
    assert "| cases that trained, validated, test | 5, 1, 2 |" in text
    assert "| validation/dice | 0.5124 |" in text
    assert "may have several classes" not in text
    assert 'pipeline("medical-image-segmentation", "the/folder/of/this/file")' in text
    assert str(checkpoint) not in text and settings().dataset not in text


def test_shadows_that_overlap(of_shadows):
    text = str(card_of(of_shadows()))
    assert "may have several classes, or none" in text
    assert "| 4 | liver |" in text
    assert "## Validation" not in text


def test_a_classification(of_images):
    card = card_of(of_images(), push_to_hub="owner/chests", model="someone/unimiss-tiny")
    assert card.data.pipeline_tag == "image-classification"
    assert card.data.base_model == "someone/unimiss-tiny"
    assert 'pipeline("medical-image-classification", "owner/chests")' in str(card)


@pytest.mark.parametrize("model", ["./runs/model", "a/b/c", "two words/model"])
def test_what_is_no_repository_is_not_named(of_images, model):
    card = card_of(of_images(), model=model)
    assert "base_model" not in card.data.to_dict()
    assert model not in str(card)
