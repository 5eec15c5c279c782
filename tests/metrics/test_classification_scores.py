import json

import numpy as np
import pytest

from unimiss_hf.metrics.classification_scores import classification_scores

SINGLE, MULTI = "single_label_classification", "multi_label_classification"
NAMES = ["covid", "normal", "pneumonia"]


def auroc_of_pairs(scores, positive):
    wins = scores[positive][:, None] - scores[~positive][None]
    return ((wins > 0) + 0.5 * (wins == 0)).mean()


def average_precision_of_thresholds(scores, positive):
    area, recall_before = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        found = scores >= threshold
        recall = (found & positive).sum() / positive.sum()
        area += (recall - recall_before) * (found & positive).sum() / found.sum()
        recall_before = recall
    return area


def f1_of_counts(found, positive):
    return 2 * (found & positive).sum() / (found.sum() + positive.sum())


@pytest.fixture
def exclusive():
    """Probabilities of three classes with ties, and the classes."""
    random = np.random.default_rng(0)
    targets = random.integers(0, 3, 40)
    scores = random.integers(1, 6, (40, 3)) + 2 * (targets[:, None] == np.arange(3))
    return scores / scores.sum(axis=1, keepdims=True), targets


@pytest.fixture
def overlapping():
    """Probabilities of three findings with ties, and which are there."""
    random = np.random.default_rng(1)
    targets = random.integers(0, 2, (50, 3))
    return np.round(random.random((50, 3)) * 0.7 + 0.3 * targets, 1), targets


def test_classes_that_exclude_each_other(exclusive):
    scores, targets = exclusive
    result = classification_scores(scores, targets, SINGLE, NAMES, bootstrap=0)
    best = scores.argmax(axis=1)
    for number, name in enumerate(NAMES):
        row, positive = result["per_class"][name], targets == number
        assert row["positives"] == positive.sum()
        assert row["negatives"] == (~positive).sum()
        assert row["auroc"] == pytest.approx(auroc_of_pairs(scores[:, number], positive))
        assert row["average_precision"] == pytest.approx(
            average_precision_of_thresholds(scores[:, number], positive)
        )
        assert row["f1"] == pytest.approx(f1_of_counts(best == number, positive))
    for metric in ("auroc", "average_precision", "f1"):
        rows = result["per_class"].values()
        assert result[metric] == pytest.approx(np.mean([row[metric] for row in rows]))
    assert result["accuracy"] == pytest.approx((best == targets).mean())
    assert "exact_match" not in result
    assert result["cases"] == 40
    assert set(result["classes_counted"].values()) == {3}
    assert result["undefined"] == {}


def test_findings_that_overlap(overlapping):
    scores, targets = overlapping
    result = classification_scores(scores, targets, MULTI, NAMES, bootstrap=0, threshold=0.6)
    found = scores >= 0.6
    for number, name in enumerate(NAMES):
        row, positive = result["per_class"][name], targets[:, number] == 1
        assert row["auroc"] == pytest.approx(auroc_of_pairs(scores[:, number], positive))
        assert row["f1"] == pytest.approx(f1_of_counts(found[:, number], positive))
    assert result["accuracy"] == pytest.approx((found == targets).mean())
    assert result["exact_match"] == pytest.approx((found == targets).all(axis=1).mean())


def test_a_hand_worked_ranking():
    # Positives at ranks 1 and 3 of 4: 3 of 4 pairs in order; precision 1 at the first, 2/3 at both.
    scores = [[0.9], [0.8], [0.7], [0.1]]
    result = classification_scores(scores, [[1], [0], [1], [0]], MULTI, ["nodule"], bootstrap=0)
    assert result["auroc"] == 0.75
    assert result["average_precision"] == pytest.approx((1 + 2 / 3) / 2)
    # Three are found from 0.5 on, two of them rightly.
    assert result["f1"] == pytest.approx(4 / 5)
    assert result["accuracy"] == 0.75
    # Without a false alarm, one of two; a specificity of 0.5 allows one, and then both are found.
    assert result["sensitivity_at_specificity"] == {"specificity": 0.9, "sensitivity": 0.5}
    result = classification_scores(
        scores, [[1], [0], [1], [0]], MULTI, ["nodule"], specificity=0.5, bootstrap=0
    )
    assert result["sensitivity_at_specificity"] == {"specificity": 0.5, "sensitivity": 1.0}


def test_two_classes_have_one_auroc_whatever_rounding_does():
    rare = np.float32([1e-9, 2e-9, 3e-9, 4e-9])
    # In float32 the first class's scores are all 1: ranked by them, every pair would be a tie.
    scores = np.stack([1 - rare, rare], axis=1)
    assert len(set(scores[:, 0])) == 1
    result = classification_scores(scores, [0, 1, 0, 1], SINGLE, ["no", "yes"], bootstrap=20)
    assert result["auroc"] == 0.75
    assert [row["auroc"] for row in result["per_class"].values()] == [0.75, 0.75]
    assert result["auroc_interval"] == result["per_class"]["yes"]["auroc_interval"]


def test_answers_can_be_written_as_json(overlapping):
    result = classification_scores(*overlapping, MULTI, NAMES, bootstrap=10)
    assert json.loads(json.dumps(result)) == result


def test_the_interval_holds_the_auroc_and_is_repeatable(overlapping):
    first, again, other = (
        classification_scores(*overlapping, MULTI, NAMES, bootstrap=200, seed=seed)
        for seed in (0, 0, 1)
    )
    assert first == again
    assert first["auroc_interval"] != other["auroc_interval"]
    assert first["bootstrap"] == {"resamples": 200, "redrawn": 0}
    rows = list(first["per_class"].values())
    for row in [first, *rows]:
        low, high = row["auroc_interval"]
        assert low < row["auroc"] < high
    # A mean of three is surer than each of them.
    widths = [np.ptp(row["auroc_interval"]) for row in rows]
    assert np.ptp(first["auroc_interval"]) < min(widths)


def test_no_interval_without_resamples(exclusive):
    result = classification_scores(*exclusive, SINGLE, NAMES, bootstrap=0)
    assert result["auroc_interval"] is None
    assert result["bootstrap"] == {"resamples": 0, "redrawn": 0}


def test_classes_too_rare_to_be_resampled_have_no_interval_and_it_is_told():
    # Twelve classes with one case each: a draw with all of them comes once in 20,000.
    result = classification_scores(
        np.full((12, 12), 1 / 12), range(12), SINGLE, list("abcdefghijkl"), bootstrap=10
    )
    assert result["auroc"] == 0.5
    assert result["auroc_interval"] is None
    assert result["per_class"]["a"]["auroc_interval"] is None
    assert "of 200 draws had positive and negative cases of all 12" in result["bootstrap"]["reason"]


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([0, 1, 0, 1], "class pneumonia: none of the 4 cases is positive, so that auroc, average"),
        ([1, 1, 1, 1], "class normal: all of the 4 cases are positive, so that auroc, sensitivity"),
    ],
)
def test_a_class_without_positives_or_negatives_is_named(targets, message):
    with pytest.raises(ValueError, match=message):
        classification_scores(np.full((4, 3), 1 / 3), targets, SINGLE, NAMES)


def test_undefined_classes_are_left_out_and_told_when_asked_for(overlapping):
    scores, targets = overlapping
    targets = np.stack([targets[:, 0], np.zeros(50), np.ones(50)], axis=1)
    result = classification_scores(scores, targets, MULTI, NAMES, undefined="omit", bootstrap=50)
    covid, normal, pneumonia = result["per_class"].values()
    assert result["auroc"] == covid["auroc"]
    assert result["auroc_interval"] == covid["auroc_interval"]
    assert [normal[metric] for metric in ("auroc", "average_precision", "f1")] == [None] * 3
    assert pneumonia["auroc"] is pneumonia["auroc_interval"] is None
    assert pneumonia["average_precision"] == pytest.approx(1)
    assert result["average_precision"] == pytest.approx((covid["average_precision"] + 1) / 2)
    assert result["classes_counted"] == {
        "auroc": 1,
        "average_precision": 2,
        "f1": 2,
        "sensitivity_at_specificity": 1,
    }
    assert result["undefined"] == {
        "normal": {
            "reason": "none of the 50 cases is positive",
            "metrics": ["auroc", "average_precision", "f1", "sensitivity_at_specificity"],
        },
        "pneumonia": {
            "reason": "all of the 50 cases are positive",
            "metrics": ["auroc", "sensitivity_at_specificity"],
        },
    }


def test_a_mean_over_no_class_is_none():
    result = classification_scores([[0.2]], [[0]], MULTI, ["a"], undefined="omit")
    assert result["auroc"] is result["auroc_interval"] is result["f1"] is None
    assert result["classes_counted"]["auroc"] == 0
    assert result["accuracy"] == 1


def test_accuracy_alone_needs_no_case_of_every_class():
    result = classification_scores([[0.2, 0.8]], [1], SINGLE, ["a", "b"], metrics=["accuracy"])
    assert result["accuracy"] == 1
    assert "auroc" not in result


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"specificity": 1.1}, "specificity must be from 0 to 1; got 1.1"),
        ({"threshold": 0.0}, "threshold must be above 0 and at most 1; got 0.0"),
        ({"bootstrap": -1}, "bootstrap must be a number of resamples or 0; got -1"),
        ({"undefined": "skip"}, "undefined must be 'raise' or 'omit'; got 'skip'"),
        ({"metrics": ["aurok"]}, "no metric 'aurok' of classes.*Did you mean auroc"),
    ],
)
def test_refuses_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        classification_scores([[0.5, 0.5]], [0], SINGLE, ["a", "b"], **settings)
