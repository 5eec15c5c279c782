import numpy as np
import pytest

from unimiss_hf.metrics.classification_scores import classification_scores

SINGLE, MULTI = "single_label_classification", "multi_label_classification"
NAMES = ["covid", "normal", "pneumonia"]
CASES = ["p1", "p2"]
GOOD = [[0.2, 0.3, 0.5], [0.6, 0.2, 0.2]]


def changed(row, column, value):
    scores = np.array(GOOD)
    scores[row, column] = value
    return scores


@pytest.mark.parametrize(
    ("scores", "targets", "problem_type", "message"),
    [
        (
            changed(1, 2, np.nan),
            [0, 1],
            SINGLE,
            "p2, class pneumonia: wanted a finite score; got n",
        ),
        (changed(0, 1, np.inf), [0, 1], SINGLE, "p1, class normal: wanted a finite score; got inf"),
        (changed(1, 0, 2.5), [0, 1], SINGLE, "p2, class covid: wanted a probability from 0 to 1"),
        (changed(0, 0, -0.1), [[0, 1, 0]] * 2, MULTI, "p1, class covid: wanted a probability"),
        (changed(1, 0, 0.9), [0, 1], SINGLE, "p2: its scores add up to 1.3; wanted .* softmax"),
        (GOOD, [0, 3], SINGLE, "p2: its target 3 is none of the 3 classes, 0 to 2"),
        (GOOD, [-1, 0], SINGLE, "p1: its target -1 is none"),
        (GOOD, [0.5, 0], SINGLE, "p1: its target 0.5 is none"),
        (
            GOOD,
            [[0, 1, 0], [0, -1, 1]],
            MULTI,
            "p2, class normal: wanted 0 or 1 as a target; got -",
        ),
        (GOOD, [0, 1, 2], SINGLE, r"targets of shape \(2,\) for scores of shape \(2, 3\)"),
        (GOOD, [0, 1], MULTI, r"targets of shape \(2, 3\).*multi_label.*got shape \(2,\)"),
        (GOOD, ["a", "b"], SINGLE, r"targets of shape \(2,\)"),
        ([[0.5, 0.5]] * 2, [0, 1], SINGLE, r"Wanted scores \(cases, 3\).*got shape \(2, 2\)"),
        ([0.5, 0.5], [0, 1], SINGLE, r"got shape \(2,\)"),
        (GOOD, [0, 1], "multilabel_classification", "Did you mean multi_label_classification"),
    ],
)
def test_names_the_case_that_is_wrong(scores, targets, problem_type, message):
    with pytest.raises(ValueError, match=message):
        classification_scores(scores, targets, problem_type, NAMES, CASES)


@pytest.mark.parametrize(
    ("names", "cases", "message"),
    [
        (["a", "a", "b"], None, "unique; these are not: a"),
        ("abc", None, "class_names must be a list of names; got 'abc'"),
        (["a"], None, r"Wanted 2 classes or more; class_names are \['a'\]"),
        (NAMES, ["p1"], "scores of 2 cases, but 1 case_names"),
    ],
)
def test_refuses_names(names, cases, message):
    with pytest.raises(ValueError, match=message):
        classification_scores(GOOD, [0, 1], SINGLE, names, cases)


def test_cases_without_names_are_numbered():
    with pytest.raises(ValueError, match="case 1: its target 7"):
        classification_scores(GOOD, [0, 7], SINGLE, NAMES)


def test_no_cases_are_refused():
    with pytest.raises(ValueError, match=r"got shape \(0, 3\)"):
        classification_scores(np.empty((0, 3)), [], SINGLE, NAMES)


def test_probabilities_of_bfloat16_are_taken():
    scores = np.array([[0.334, 0.334, 0.334], [0.9, 0.05, 0.047]])
    result = classification_scores(scores, [0, 0], SINGLE, NAMES, metrics=["accuracy"])
    assert result["accuracy"] == 1
