import pytest

from unimiss_hf.pretraining.plan import Phase, Plan, Position


def test_phases_take_turns():
    plan = Plan([Phase("2d", 2, 3), Phase("3d", 1, 2)], epochs=5)
    order = [plan.position(step) for step in range(plan.total_steps)]
    assert [(p.epoch, p.dimension) for p in order] == (
        [(0, "2d")] * 3 + [(1, "2d")] * 3 + [(2, "3d")] * 2 + [(3, "2d")] * 3 + [(4, "2d")] * 3
    )
    assert order[7] == Position(2, "3d", 1)


def test_one_dimension_alone():
    plan = Plan([Phase("3d", 2, 4)], epochs=3)
    assert plan.total_steps == 12
    assert {plan.position(step).dimension for step in range(12)} == {"3d"}


def test_max_steps_cuts_the_last_epoch_short():
    plan = Plan([Phase("2d", 1, 4), Phase("3d", 1, 4)], max_steps=10)
    assert (plan.total_steps, plan.epochs) == (10, 3)
    assert plan.position(9) == Position(2, "2d", 1)
    assert plan.steps_before_epoch(2) == 8
    assert plan.steps_before_epoch(99) == 10


def test_what_remains_is_counted_by_dimension():
    plan = Plan([Phase("2d", 1, 4), Phase("3d", 1, 4)], max_steps=10)
    assert plan.remaining(0) == {"2d": 6, "3d": 4}
    assert plan.remaining(5) == {"2d": 2, "3d": 3}
    assert plan.remaining(10) == {"2d": 0, "3d": 0}


def test_the_papers_run_is_quick_to_lay_out():
    plan = Plan([Phase("2d", 2, 4690), Phase("3d", 2, 5025)], epochs=200)
    assert plan.total_steps == 100 * 4690 + 100 * 5025
    assert plan.position(2 * 4690).dimension == "3d"


@pytest.mark.parametrize(
    ("phases", "length", "named"),
    [
        ([], {"epochs": 1}, "at least one phase"),
        ([("2d", 1, 1)], {}, "either epochs or max_steps"),
        ([("2d", 1, 1)], {"epochs": 1, "max_steps": 1}, "either epochs or max_steps"),
        ([("2d", 1, 1)], {"max_steps": 0}, "at least one step"),
        ([("2d", 1, 0)], {"epochs": 1}, "steps_per_epoch of the 2d phase is 0.*batch size"),
        ([("3d", 0, 1)], {"epochs": 1}, "epochs of the 3d phase is 0"),
    ],
)
def test_what_cannot_be_is_refused(phases, length, named):
    with pytest.raises(ValueError, match=named):
        Plan([Phase(*phase) for phase in phases], **length)


def test_steps_outside_the_run_are_refused():
    plan = Plan([Phase("2d", 1, 4)], epochs=1)
    for step in (-1, 4):
        with pytest.raises(IndexError, match=f"Step {step} "):
            plan.position(step)
