import pytest
import torch

from unimiss_hf.classification_scores_mit import ranked_labels

NAMES = {0: "covid", 1: "normal", 2: "pneumonia"}


def scores(answer):
    return {item["label"]: pytest.approx(item["score"]) for item in answer}


def test_several_classes_are_a_softmax_ranked():
    (answer,) = ranked_labels(torch.tensor([[0.0, 2.0, 1.0]]), NAMES, None, None)
    assert [item["label"] for item in answer] == ["normal", "pneumonia", "covid"]
    assert sum(item["score"] for item in answer) == pytest.approx(1)
    assert answer[0]["score"] / answer[1]["score"] == pytest.approx(2.718281828)


def test_multi_label_and_single_score_are_sigmoids():
    logits = torch.tensor([[0.0, 100.0, -100.0]])
    (answer,) = ranked_labels(logits, NAMES, "multi_label_classification", None)
    assert scores(answer) == {"normal": 1, "covid": 0.5, "pneumonia": 0}
    assert ranked_labels(torch.zeros(1, 1), None, None, None) == [[{"label": "0", "score": 0.5}]]


def test_a_regression_keeps_values_and_order():
    (answer,) = ranked_labels(torch.tensor([[-1.0, 3.0]]), None, "regression", None)
    assert answer == [{"label": "0", "score": -1.0}, {"label": "1", "score": 3.0}]


def test_top_k():
    answers = ranked_labels(torch.tensor([[0.0, 2.0, 1.0], [5.0, 2.0, 1.0]]), NAMES, None, 1)
    assert [[item["label"] for item in answer] for answer in answers] == [["normal"], ["covid"]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(3), None, None, None), r"\(batch, classes\); got shape \(3,\)"),
        ((torch.zeros(1, 0), None, None, None), r"\(batch, classes\)"),
        ((torch.zeros(1, 4), NAMES, None, None), r"classes \[3\] of 4"),
        ((torch.zeros(1, 3), None, "multilabel", None), "problem_type must be one of"),
        ((torch.zeros(1, 3), None, None, 0), "top_k"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        ranked_labels(*arguments)
