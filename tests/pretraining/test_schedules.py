import itertools

import pytest

from unimiss_hf.pretraining.plan import Phase, Plan
from unimiss_hf.pretraining.schedules import Schedules, cosine

PLAN = Plan([Phase("2d", 2, 50), Phase("3d", 2, 20)], epochs=20)


@pytest.fixture
def schedules():
    return Schedules(PLAN, {"2d": 256, "3d": 64}, warmup_epochs=4)


def test_cosine_is_half_way_in_the_middle():
    assert [cosine(4.0, 2.0, step, 10) for step in (0, 5, 10)] == pytest.approx([4.0, 3.0, 2.0])


def test_warm_up_rises_to_the_scaled_peak_and_falls_to_the_end(schedules):
    rates = [schedules.at(step).learning_rate for step in range(PLAN.total_steps)]
    warmup = 2 * 50 + 2 * 20
    assert rates[0] == pytest.approx(8e-4 / warmup)
    # step 139 is the last of the warm-up and one of 3D, with a quarter of 256 samples
    assert rates[warmup - 1] == pytest.approx(8e-4 * 64 / 256)
    assert rates[warmup] == pytest.approx(8e-4)
    assert max(rates) == pytest.approx(8e-4)
    assert 1e-6 < rates[-1] < 2e-6


def test_nothing_jumps_where_an_epoch_ends(schedules):
    points = [schedules.at(step) for step in range(PLAN.total_steps)]
    for name, span in (("weight_decay", 0.36), ("teacher_momentum", 0.004)):
        values = [getattr(point, name) for point in points]
        steps = [after - before for before, after in itertools.pairwise(values)]
        assert all(0 <= step < 1.1 * span * 3.15 / 2 / PLAN.total_steps for step in steps)
        assert values[0] == pytest.approx({"weight_decay": 0.04, "teacher_momentum": 0.996}[name])
        assert values[-1] == pytest.approx(
            {"weight_decay": 0.4, "teacher_momentum": 1.0}[name], rel=1e-4
        )
    same_dimension = [p.learning_rate for i, p in enumerate(points) if 140 <= i < 240]
    assert same_dimension == sorted(same_dimension, reverse=True)


def test_prototypes_are_frozen_in_the_first_epoch_alone(schedules):
    frozen = [schedules.at(step).prototypes_frozen for step in range(PLAN.total_steps)]
    assert frozen == [True] * 50 + [False] * (PLAN.total_steps - 50)


def test_a_run_of_nothing_but_warm_up():
    plan = Plan([Phase("2d", 1, 5)], epochs=1)
    rates = [
        Schedules(plan, {"2d": 256}, warmup_epochs=10).at(step).learning_rate for step in range(5)
    ]
    assert rates == pytest.approx([8e-4 * share for share in (0.2, 0.4, 0.6, 0.8, 1.0)])
