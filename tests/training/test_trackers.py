"""Trackers that a run reports to."""

import pytest
from accelerate import Accelerator
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from unimiss_hf.training.trackers import begin_trackers, check_trackers


def accelerator_with(tmp_path, *trackers):
    return Accelerator(cpu=True, log_with=list(trackers), project_dir=str(tmp_path))


def test_a_tracker_that_is_not_there(tmp_path):
    accelerator = accelerator_with(tmp_path, "tensorboard")
    check_trackers(accelerator, ["tensorboard"])
    told = r"The trackers \['no_such'\] are not installed or not known\. Install them"
    with pytest.raises(ValueError, match=told):
        check_trackers(accelerator, ["tensorboard", "no_such"])


def test_what_a_run_shows_again_replaces_what_it_showed(tmp_path):
    for start, values in ((0, [0, 1, 2, 3]), (2, [20, 30])):
        accelerator = accelerator_with(tmp_path, "tensorboard")
        begin_trackers(accelerator, {"rate": 0.1, "sizes": [4, 8], "model": None}, start)
        for step, value in enumerate(values, start=start):
            accelerator.log({"loss": float(value)}, step=step)
        accelerator.end_training()
    events = EventAccumulator(str(tmp_path / "unimiss"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [
        (0, 0),
        (1, 1),
        (2, 20),
        (3, 30),
    ]
