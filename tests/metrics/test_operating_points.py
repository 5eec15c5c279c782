import numpy as np
import pytest

from unimiss_hf.metrics.operating_points import sensitivity_at_specificity


def of_all_thresholds(scores, positive, specificity):
    best = 0.0
    for threshold in [*scores, np.inf]:
        found = scores >= threshold
        false_alarms = (found & ~positive).sum() / (~positive).sum()
        if 1 - false_alarms > specificity - 1e-9:
            best = max(best, (found & positive).sum() / positive.sum())
    return best


@pytest.mark.parametrize("specificity", [0.0, 0.5, 0.8, 0.9, 0.95, 1.0])
def test_is_the_best_of_all_thresholds(specificity):
    random = np.random.default_rng(2)
    positive = random.random(80) < 0.4
    scores = np.round(random.random(80) + 0.4 * positive, 2)
    wanted = of_all_thresholds(scores, positive, specificity)
    assert sensitivity_at_specificity(scores, positive, specificity) == pytest.approx(wanted)


def test_a_share_that_rounding_puts_below_the_specificity_counts():
    # One false alarm of ten is a specificity of exactly 0.9, which 1 - 0.1 is not in binary.
    scores = np.array([0.9, 0.8, *np.linspace(0, 0.5, 9)])
    positive = np.array([False, True] + [False] * 9)
    assert sensitivity_at_specificity(scores, positive, 0.9) == 1
    assert sensitivity_at_specificity(scores, positive, 0.91) == 0
