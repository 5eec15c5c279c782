import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from unimiss_hf.metrics.bootstrap import resample_auroc


def draws(cases, number, seed):
    random = np.random.default_rng(seed)
    return random.integers(cases, size=(number, cases))


def test_each_value_is_the_auroc_of_cases_drawn_again():
    random = np.random.default_rng(3)
    positive = random.integers(0, 2, (60, 2)) == 1
    ranking = np.round(random.random((60, 2)) + 0.3 * positive, 1)
    drawn = resample_auroc(ranking, positive, 25, seed=7)
    assert drawn.redrawn == 0
    for row, chosen in zip(drawn.values, draws(60, 25, 7), strict=True):
        for column in range(2):
            assert row[column] == pytest.approx(
                roc_auc_score(positive[chosen, column], ranking[chosen, column])
            )


def test_draws_that_lack_a_class_are_drawn_again_and_counted():
    # One positive of six: a third of the draws miss it.
    positive = np.arange(6)[:, None] == 0
    drawn = resample_auroc(np.arange(6.0)[:, None], positive, 40, seed=0)
    usable, wasted = 0, 0
    for chosen in np.concatenate(list(blocks_of(6, 40, 0))):
        there = 0 < positive[chosen].sum() < 6
        usable, wasted = usable + there, wasted + (not there)
        if usable == 40:
            break
    assert len(drawn.values) == 40
    assert drawn.redrawn == wasted > 0
    # The positive ranks below all others.
    assert (drawn.values == 0).all()


def blocks_of(cases, number, seed):
    random = np.random.default_rng(seed)
    for _ in range(20):
        yield random.integers(cases, size=(number, cases))


def test_intervals_are_percentiles_of_the_values_and_of_their_mean():
    random = np.random.default_rng(5)
    positive = random.integers(0, 2, (30, 3)) == 1
    drawn = resample_auroc(random.random((30, 3)), positive, 100, seed=1)
    for column, (low, high) in enumerate(drawn.intervals()):
        outside = (drawn.values[:, column] < low) | (drawn.values[:, column] > high)
        assert 2 <= outside.sum() <= 6
    low, high = drawn.macro_interval()
    means = drawn.values.mean(axis=1)
    assert 2 <= ((means < low) | (means > high)).sum() <= 6


def test_the_interval_is_as_wide_as_theory_says():
    # Hanley and McNeil's standard error of an AUROC of 0.5 is sqrt((m + n + 1) / 12 m n).
    random = np.random.default_rng(0)
    positive = np.arange(400)[:, None] < 200
    ((low, high),) = resample_auroc(random.random((400, 1)), positive, 1000, seed=0).intervals()
    assert (high - low) / (2 * 1.96) == pytest.approx((401 / (12 * 200 * 200)) ** 0.5, rel=0.1)
