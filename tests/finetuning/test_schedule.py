"""The learning rate of each step, worked by hand."""

import pytest

from unimiss_hf.finetuning.schedule import learning_rate_at


def rates(steps, peak=1.0, warmup=0.0, power=1.0):
    return [learning_rate_at(step, steps, peak, warmup, power) for step in range(steps)]


def test_a_rise_to_the_peak_and_a_straight_fall():
    # 20 % of 10 steps rise; the other 8 fall by an eighth each
    wanted = [1.0, 2.0, 2.0, 1.75, 1.5, 1.25, 1.0, 0.75, 0.5, 0.25]
    assert rates(10, peak=2.0, warmup=0.2) == pytest.approx(wanted)


def test_a_fall_by_a_power():
    assert rates(4, power=2.0) == pytest.approx([1, 0.5625, 0.25, 0.0625])
    assert rates(4, power=0.9)[1] == pytest.approx(0.75**0.9)
    assert rates(3, power=0.0) == [1, 1, 1]


def test_a_run_that_rises_only():
    assert rates(4, warmup=1.0) == pytest.approx([0.25, 0.5, 0.75, 1])


def test_one_step_is_taken_at_the_peak():
    assert rates(1, peak=0.3, warmup=0.05) == [0.3]


@pytest.mark.parametrize("step", [-1, 10])
def test_a_step_that_the_run_has_not(step):
    with pytest.raises(IndexError, match=f"Step {step} is none of the 10 steps"):
        learning_rate_at(step, 10, 1.0, 0.1, 0.9)
