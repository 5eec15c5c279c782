import io
import math

import pytest

from unimiss_hf.training.progress import Progress, StepTimes


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    """Time that passes when it is told to."""

    def __init__(self):
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock():
    return Clock()


def run(progress, clock, steps, seconds=1.0, **values):
    for _ in range(steps):
        clock.seconds += seconds
        progress.update(**{"loss": 2.0, "lr": 1e-3, **values})


# -------------------------------------------------------------------------------- time to go


def test_each_kind_of_step_has_its_own_time():
    times = StepTimes()
    for seconds in (9.0, 1.0, 3.0):
        times.add("2d", seconds)
    for seconds in (60.0, 10.0, 10.0):
        times.add("3d", seconds)
    # The first of each kind does not count: 2 s and 10 s.
    assert times.remaining({"2d": 100, "3d": 7}) == (270.0, [])


def test_a_kind_not_seen_yet_is_named():
    times = StepTimes()
    times.add("2d", 2.0)
    assert times.remaining({"2d": 10, "3d": 5}) == (20.0, ["3d"])
    assert times.remaining({"2d": 10, "3d": 0}) == (20.0, [])


def test_only_recent_steps_count():
    times = StepTimes(window=2)
    for seconds in (1.0, 100.0, 3.0, 5.0):
        times.add("2d", seconds)
    assert times.remaining({"2d": 1}) == (4.0, [])


# -------------------------------------------------------------------------------- lines


def test_lines_now_and_then_without_a_terminal(clock):
    file = io.StringIO()
    with Progress(1000, initial=400, every_seconds=30, file=file, clock=clock) as progress:
        run(progress, clock, 65, samples=8, kind="2d")
    lines = file.getvalue().splitlines()
    assert [line.split(",")[0] for line in lines] == [
        "step 401/1000 (40 %)",
        "step 431/1000 (43 %)",
        "step 461/1000 (46 %)",
        "step 465/1000 (46 %)",
    ]
    assert lines[1] == ("step 431/1000 (43 %), 2d, loss 2, lr 1.00e-03, 8 samples/s, 0:09:29 to go")
    assert "\r" not in file.getvalue()


def test_the_last_step_is_shown_once(clock):
    file = io.StringIO()
    with Progress(1, file=file, clock=clock) as progress:
        run(progress, clock, 1)
    assert file.getvalue() == "step 1/1 (100 %), loss 2, lr 1.00e-03, 0:00:00 to go\n"


def test_the_time_to_go_follows_the_steps_left_of_each_kind(clock):
    file = io.StringIO()
    with Progress(10_000, every_seconds=0, file=file, clock=clock) as progress:
        run(progress, clock, 5, 2.0, kind="2d", remaining={"2d": 1000, "3d": 4000})
        run(progress, clock, 5, 30.0, kind="3d", remaining={"2d": 1000, "3d": 4000})
    lines = file.getvalue().splitlines()
    assert lines[4].endswith("over 0:33:20 to go (3d not timed yet)")
    # 1000 * 2 s + 4000 * 30 s
    assert lines[-1].endswith("1 d 9:53:20 to go")


def test_the_speed_is_that_of_recent_steps(clock):
    file = io.StringIO()
    with Progress(100, every_seconds=0, window=4, file=file, clock=clock) as progress:
        run(progress, clock, 10, 1.0, samples=32)
        run(progress, clock, 4, 4.0, samples=8)
    lines = file.getvalue().splitlines()
    assert "32 samples/s" in lines[9]
    assert " 2 samples/s" in lines[13]


def test_the_loss_is_smoothed_for_each_kind(clock):
    file = io.StringIO()
    with Progress(100, every_seconds=0, file=file, clock=clock) as progress:
        for kind, loss in [("2d", 2.0), ("3d", 40.0), ("2d", 3.0), ("2d", math.nan), ("2d", 2.1)]:
            run(progress, clock, 1, kind=kind, loss=loss)
    shown = [line.split(", ")[2] for line in file.getvalue().splitlines()]
    assert shown == ["loss 2", "loss 40", "loss 2.1", "loss nan", "loss 2.1"]


# -------------------------------------------------------------------------------- bar and quiet


def test_a_bar_on_a_terminal(clock):
    file = Terminal()
    with Progress(40, initial=10, file=file, clock=clock) as progress:
        run(progress, clock, 5, samples=8, kind="3d", remaining={"3d": 25})
        progress.write("Warning: the output collapses")
    shown = file.getvalue().replace("\r", "\n").splitlines()
    assert "Warning: the output collapses" in shown
    last = [line for line in shown if "15/40" in line][-1]
    assert "3d, loss 2, lr 1.00e-03, 8 samples/s, 0:00:25 to go" in last


def test_messages_without_a_terminal(clock):
    file = io.StringIO()
    with Progress(4, file=file, clock=clock) as progress:
        progress.write("Warning: one")
    assert file.getvalue() == "Warning: one\n"


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_other_processes_show_nothing(clock, kind):
    file = kind()
    with Progress(4, enabled=False, every_seconds=0, file=file, clock=clock) as progress:
        run(progress, clock, 4, samples=2)
        progress.write("Warning: one")
    assert progress.step == 4
    assert file.getvalue() == ""
