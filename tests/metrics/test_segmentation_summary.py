import json

import numpy as np
import pytest

from unimiss_hf.metrics.segmentation_scores import segmentation_scores
from unimiss_hf.metrics.segmentation_summary import summarise_segmentation

NAMES = ["background", "liver", "spleen", "rib"]


def row(dice, predicted, reference):
    return {"dice": dice, "predicted_voxels": predicted, "reference_voxels": reference}


def test_means_are_over_cases_and_then_over_classes():
    summary = summarise_segmentation(
        {
            "p1": {"liver": row(0.9, 5, 5), "spleen": row(0.4, 1, 2)},
            "p2": {"liver": row(0.7, 5, 5), "spleen": row(None, 0, 0)},
            "p3": {"liver": row(0.0, 0, 5), "spleen": row(0.0, 3, 0)},
        }
    )
    liver, spleen = summary["dice"]["per_class"].values()
    assert liver["mean"] == pytest.approx(1.6 / 3)
    assert liver["std"] == pytest.approx(np.std([0.9, 0.7, 0.0]))
    assert (liver["cases"], liver["undefined"]) == (3, [])
    assert spleen["mean"] == pytest.approx(0.2)
    assert (spleen["cases"], spleen["undefined"]) == (2, ["p2"])
    assert summary["dice"]["mean"] == pytest.approx((1.6 / 3 + 0.2) / 2)
    assert summary["cases"] == 3
    assert summary["present"] == {"liver": 3, "spleen": 1}
    assert summary["misses"] == {"liver": 1, "spleen": 0}
    assert summary["false_positives"] == {"liver": 0, "spleen": 1}
    assert summary["never_present"] == []
    # Surfaces were not compared.
    assert "surface_dice" not in summary


def test_of_scores_with_a_miss_and_a_class_that_is_never_there():
    prediction, reference = np.zeros((2, 6, 9, 9), np.uint8)
    prediction[1:3, 1:5, 1:5] = reference[1:3, 1:5, 2:5] = 1
    reference[4:, 6:, 6:] = 2
    cases = {
        case: segmentation_scores(prediction, target, NAMES, (2.0, 1.0, 1.0), case=case)
        for case, target in (("p1", reference), ("p2", prediction))
    }
    summary = summarise_segmentation(cases)
    assert json.loads(json.dumps(summary)) == summary
    assert summary["never_present"] == ["rib"]
    assert summary["misses"] == {"liver": 0, "spleen": 1, "rib": 0}
    rib, spleen = (summary["hausdorff95"]["per_class"][name] for name in ("rib", "spleen"))
    assert (rib["mean"], rib["std"], rib["cases"]) == (None, None, 0)
    assert rib["undefined"] == spleen["undefined"] == ["p1", "p2"]
    # A miss is no distance, but it is a Dice of 0.
    assert summary["dice"]["per_class"]["spleen"]["mean"] == 0
    assert summary["dice"]["classes_counted"] == 2
    assert summary["hausdorff95"]["classes_counted"] == 1
    assert summary["hausdorff95"]["mean"] == pytest.approx(0.5)


def test_a_mean_over_nothing_is_none():
    summary = summarise_segmentation({"p1": {"liver": row(None, 0, 0)}})
    assert summary["dice"]["mean"] is None
    assert summary["dice"]["classes_counted"] == 0


@pytest.mark.parametrize(
    ("cases", "message"),
    [
        ({}, "no scores of cases"),
        (
            {"p1": {"liver": row(1.0, 1, 1)}, "p2": {"spleen": row(1.0, 1, 1)}},
            "p2 has scores of other classes or metrics than p1",
        ),
        (
            {"p1": {"liver": row(1.0, 1, 1)}, "p2": {"liver": {**row(1.0, 1, 1), "more": 1}}},
            "p2 has scores of other classes or metrics than p1",
        ),
    ],
)
def test_refuses(cases, message):
    with pytest.raises(ValueError, match=message):
        summarise_segmentation(cases)
