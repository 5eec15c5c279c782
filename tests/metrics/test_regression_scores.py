import json

import numpy as np
import pytest

from unimiss_hf.metrics.classification_scores import classification_scores

REGRESSION = "regression"


def test_hand_worked_values():
    result = classification_scores([[1.0], [2.0], [6.0]], [1.0, 4.0, 4.0], REGRESSION, ["age"])
    assert result["mean_absolute_error"] == pytest.approx(4 / 3)
    assert result["root_mean_squared_error"] == pytest.approx((8 / 3) ** 0.5)
    # Squared errors 8 of a scatter of 6 around the mean of 3.
    assert result["r2"] == pytest.approx(1 - 8 / 6)
    # Products of the deviations (-2, -1, 3) and (-2, 1, 1): 6; squares 14 and 6.
    assert result["pearson"] == pytest.approx(6 / (14 * 6) ** 0.5)
    assert result["per_class"]["age"]["r2"] == result["r2"]
    assert json.loads(json.dumps(result)) == result


def test_means_are_over_values():
    scores = np.array([[1.0, 10.0], [2.0, 20.0], [4.0, 20.0]])
    result = classification_scores(scores, scores + np.array([1, 3]), REGRESSION, ["a", "b"])
    assert result["mean_absolute_error"] == pytest.approx(2)
    assert result["pearson"] == pytest.approx(1)
    assert result["classes_counted"]["r2"] == 2


@pytest.mark.parametrize(
    ("scores", "targets", "reason", "counted"),
    [
        ([[1, 1], [2, 2]], [[1, 5], [2, 5]], "b: all 2 targets are 5: r2 and pearson", (1, 1)),
        ([[1, 3], [2, 3]], [[1, 4], [2, 5]], "b: all 2 predictions are 3: pearson is", (2, 1)),
    ],
)
def test_undefined_values_are_named(scores, targets, reason, counted):
    with pytest.raises(ValueError, match=reason):
        classification_scores(scores, targets, REGRESSION, ["a", "b"])
    result = classification_scores(scores, targets, REGRESSION, ["a", "b"], undefined="omit")
    assert reason.removeprefix("b: ") in result["undefined"]["b"]
    assert (result["classes_counted"]["r2"], result["classes_counted"]["pearson"]) == counted
    assert result["pearson"] == pytest.approx(1)
    assert result["per_class"]["b"]["pearson"] is None


@pytest.mark.parametrize(
    ("scores", "targets", "message"),
    [
        ([[1.0], [np.nan]], [1.0, 2.0], "p2, class age: wanted a finite score; got nan"),
        ([[1.0], [2.0]], [np.inf, 2.0], "p1, class age: wanted a finite value as a target; got i"),
        ([[1.0], [2.0]], [1.0], r"targets of the shape of the scores, \(2, 1\); got \(1,\)"),
        ([1.0, 2.0], [1.0, 2.0], r"Wanted scores \(cases, 1\)"),
    ],
)
def test_names_the_case_that_is_wrong(scores, targets, message):
    with pytest.raises(ValueError, match=message):
        classification_scores(scores, targets, REGRESSION, ["age"], ["p1", "p2"])
