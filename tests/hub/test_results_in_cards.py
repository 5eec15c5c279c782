"""Scores in cards: metadata that the Hub reads back, tables, and nothing made up."""

import json

import numpy as np
import pytest
from huggingface_hub import ModelCard

from card_validation import card_errors
from unimiss_hf.hub.card_sections import section_of
from unimiss_hf.hub.results_in_cards import SCORES, with_results
from unimiss_hf.metrics.classification_scores import classification_scores
from unimiss_hf.metrics.segmentation_scores import segmentation_scores, summarise_segmentation

CARD = """---
license: mit  # mine
tags:
- a
---

# Mine

Text of mine.

<!-- scores: begin -->
Not scored yet.
<!-- scores: end -->

More of mine.
"""


def about(task: str, dimension: str = "3d", part: str = "test") -> dict:
    data = {"layout": "btcv", "title": "BTCV", "options": {}, "part": part}
    return {"task": task, "dimension": dimension, "data": data}


@pytest.fixture(scope="module")
def segmentation() -> dict:
    """Scores of two cases; nobody has a tumour, and one liver is not found."""
    volume = np.zeros((4, 8, 8), np.uint8)
    volume[1:3, 2:6, 2:6] = 1
    names = ("background", "liver", "tumour")
    cases = {
        name: segmentation_scores(found, volume, names, (3.0, 1.0, 1.0), case=name)
        for name, found in (("secret_1", volume), ("secret_2", np.zeros_like(volume)))
    }
    settings = {"surface_tolerance": 2.0}
    scores = summarise_segmentation(cases)
    return json.loads(json.dumps({**about("segmentation"), "settings": settings, "scores": scores}))


def classification(problem_type: str) -> dict:
    scores = np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.8, 0.2]])
    targets = np.array([0, 1, 1, 1])
    if problem_type != "single_label_classification":
        targets = np.stack([1 - targets, targets], axis=1)
    found = classification_scores(scores, targets, problem_type, ("normal", "covid"), bootstrap=50)
    return json.loads(json.dumps({**about("classification", "2d"), "scores": found}))


def numbers(text: str) -> dict[str, float]:
    return {result.metric_name: result.metric_value for result in ModelCard(text).data.eval_results}


def test_scores_of_a_segmentation(segmentation):
    text = with_results(CARD, segmentation, "unimiss-mit-btcv")
    assert card_errors(text) == []
    assert numbers(text)["Dice of liver"] == 0.5
    assert numbers(text)["mean Dice"] == 0.5
    card = ModelCard(text)
    assert card.data.model_name == "unimiss-mit-btcv"
    assert set(card.data.metrics) >= {"dice", "surface_dice", "hausdorff95"}
    result = card.data.eval_results[0]
    assert (result.dataset_name, result.dataset_type) == ("BTCV", "btcv")
    assert (result.dataset_split, result.task_type) == ("test", "image-segmentation")
    table = section_of(text, SCORES)
    assert "## Scores of the test split" in table
    assert "| mean Dice | 0.5000 |" in table
    assert "| liver | 0.5000 |" in table
    assert "The surface Dice tolerates 2 of it." in table
    assert "Not found at all though it is there: liver in 1 case." in table
    assert "Not scored yet" not in text


def test_a_class_without_a_number_is_left_out_and_told(segmentation):
    text = with_results(CARD, segmentation, "name")
    assert "Dice of tumour" not in numbers(text)
    assert "| tumour | undefined |" in text
    assert "in no mean: Dice of tumour." in text


def test_names_of_cases_stay_out(segmentation):
    assert "secret" in json.dumps(segmentation)
    assert "secret" not in with_results(CARD, segmentation, "name")


@pytest.mark.parametrize(
    "problem_type", ["single_label_classification", "multi_label_classification"]
)
def test_scores_of_a_classification(problem_type):
    results = classification(problem_type)
    text = with_results(CARD, results, "name")
    assert card_errors(text) == []
    found = numbers(text)
    assert found["AUROC"] == pytest.approx(results["scores"]["auroc"], abs=1e-6)
    assert found["accuracy"] == results["scores"]["accuracy"]
    assert "sensitivity at a specificity of 0.9" in found
    assert set(ModelCard(text).data.metrics) >= {"roc_auc", "average_precision", "accuracy", "f1"}
    low, high = results["scores"]["auroc_interval"]
    assert f"| interval of the AUROC, 95% | {low:.4f} to {high:.4f} |" in text
    assert "| covid | " in text and "positive cases |" in text


def test_scores_of_a_regression():
    text = with_results(CARD, classification("regression"), "name")
    assert card_errors(text) == []
    assert ModelCard(text).data.metrics[:2] == ["mae", "rmse"]
    assert "| value | mean absolute error |" in text


def test_means_over_folds():
    scores = {
        "mean Dice": {"mean": 0.8, "std": 0.1, "folds": {"fold 0": 0.7, "fold 1": 0.9}},
        "Dice of liver": {"mean": 0.8, "std": None, "folds": {"fold 0": 0.8}},
    }
    text = with_results(CARD, {**about("segmentation"), "folds": 2, "scores": scores}, "name")
    assert card_errors(text) == []
    assert numbers(text)["mean Dice, mean of 2 folds"] == 0.8
    assert "| mean Dice | 0.8000 | 0.1000 | 2 |" in text
    assert "| Dice of liver | 0.8000 | undefined | 1 |" in text


def test_scored_again_the_same_card_comes_out(segmentation):
    once = with_results(CARD, segmentation, "name")
    assert with_results(once, segmentation, "name") == once
    other = json.loads(json.dumps(segmentation))
    other["scores"]["dice"]["mean"] = 0.75
    again = with_results(once, other, "name")
    assert numbers(again)["mean Dice"] == 0.75
    assert len(numbers(again)) == len(numbers(once))
    assert with_results(again, segmentation, "name") == once


def test_what_a_user_wrote_stays(segmentation):
    text = with_results(CARD, segmentation, "name")
    head, tail = CARD.split("Not scored yet.\n")
    assert text.endswith(tail)
    assert "license: mit  # mine\ntags:\n- a\n" in text
    assert head.split("---")[2] in text


def test_results_of_other_data_stay_in_the_metadata(segmentation):
    elsewhere = json.loads(json.dumps(segmentation))
    elsewhere["data"] |= {"title": "CHAOS", "layout": "chaos", "part": "all"}
    text = with_results(with_results(CARD, segmentation, "name"), elsewhere, "name")
    assert card_errors(text) == []
    found = ModelCard(text).data.eval_results
    assert {result.dataset_name for result in found} == {"BTCV", "CHAOS"}
    assert "## Scores of all labelled cases" in text and "data: CHAOS." in text


def test_a_card_without_marks_gets_the_table_at_its_end(segmentation):
    text = with_results("# Mine\n", segmentation, "name")
    assert card_errors(text) == []
    assert text.index("# Mine\n") < text.index("## Scores of the test split")


@pytest.mark.parametrize(
    "results",
    [
        {},
        {"scores": [1]},
        {"scores": {"loss": 1.0}},
        {"scores": {"dice": {"mean": 0.5}}},
        {"folds": 2, "scores": {"unheard-of": {"mean": 1.0, "std": None, "folds": {}}}},
        [],
    ],
)
def test_what_are_no_results_are_refused(results):
    with pytest.raises(ValueError, match=r"results\.json|no results"):
        with_results(CARD, results, "name")


def test_a_number_that_is_not_finite_is_refused(segmentation):
    wrong = json.loads(json.dumps(segmentation))
    wrong["scores"]["dice"]["mean"] = float("nan")
    with pytest.raises(ValueError, match="mean Dice is nan"):
        with_results(CARD, wrong, "name")


def test_another_task_is_refused(segmentation):
    with pytest.raises(ValueError, match="task 'detection'; wanted one of classification"):
        with_results(CARD, {**segmentation, "task": "detection"}, "name")


def test_a_model_index_of_another_shape_is_told(segmentation):
    card = CARD.replace("license: mit", "model-index: [{}]\nlicense: mit")
    with pytest.raises(ValueError, match="model-index is not what the Hub takes"):
        with_results(card, segmentation, "name")
