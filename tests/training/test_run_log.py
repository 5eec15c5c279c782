import json
import signal

import numpy as np
import pytest
import torch

from unimiss_hf.training import run_log
from unimiss_hf.training.run_log import RunLog


@pytest.fixture
def log(tmp_path):
    with RunLog(tmp_path / "run" / "log.jsonl") as log:
        yield log


def test_lines_are_read_as_written(log):
    lines = [
        {"step": 0, "loss": 11.09, "dimension": "2d", "frozen": True, "note": None},
        {"step": 1, "loss": 11.07, "dimension": "3d", "frozen": False, "note": "é"},
    ]
    for line in lines:
        log.write(line)
    assert log.read() == lines
    assert [json.loads(line) for line in log.path.read_text().splitlines()] == lines


def test_no_file_before_the_first_line(log):
    assert log.read() == []
    assert log.truncate_after(3) == 0
    assert not log.path.exists()


def test_a_line_is_in_the_file_when_write_returns(tmp_path, start):
    program = """
import sys, time
RunLog(Path(sys.argv[1])).write({"step": 3, "loss": 0.5})
print("written", flush=True)
time.sleep(60)
"""
    process = start(run_log, program, tmp_path / "log.jsonl")
    assert process.stdout.readline() == "written\n"
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert RunLog(tmp_path / "log.jsonl").read() == [{"step": 3, "loss": 0.5}]


def test_scalars_of_numpy_and_torch(log):
    log.write({"step": np.int64(4), "loss": torch.tensor(0.5), "lr": np.float32(0.25)})
    assert log.read() == [{"step": 4, "loss": 0.5, "lr": 0.25}]


def test_what_json_cannot_say_is_named(log):
    log.write({"step": 1, "loss": float("nan"), "norm": torch.tensor(torch.inf), "lr": 0.1})
    line = json.loads(log.path.read_text(), parse_constant=pytest.fail)
    assert line == {
        "step": 1,
        "loss": None,
        "norm": None,
        "lr": 0.1,
        "non_finite": ["loss", "norm"],
    }


@pytest.mark.parametrize("value", [[1, 2], {"a": 1}, torch.zeros(1), np.zeros(2), 1j, b"x"])
def test_what_is_no_scalar_is_named(log, value):
    with pytest.raises(TypeError, match=rf"'norms' is a {type(value).__name__}"):
        log.write({"step": 1, "norms": value})
    assert log.read() == []


@pytest.mark.parametrize(
    ("line", "error", "match"),
    [
        ({"loss": 1.0}, ValueError, "'step'"),
        ({"step": 1.5}, TypeError, r"1\.5"),
        ({"step": True}, TypeError, "True"),
        ({"step": 1, "non_finite": "loss"}, ValueError, "non_finite"),
    ],
)
def test_a_line_needs_an_integer_step(log, line, error, match):
    with pytest.raises(error, match=match):
        log.write(line)


# -------------------------------------------------------------------------------- continuing


def test_lines_after_the_checkpoint_are_dropped(log):
    for step in range(6):
        log.write({"step": step, "loss": 1 / (step + 1)})
    before = log.path.read_text().splitlines()
    assert log.truncate_after(3) == 2
    assert log.path.read_text().splitlines() == before[:4]
    log.write({"step": 4, "loss": 9.0})
    assert [line["step"] for line in log.read()] == [0, 1, 2, 3, 4]
    assert log.read()[-1]["loss"] == 9.0
    assert [path.name for path in log.path.parent.iterdir()] == ["log.jsonl"]


def test_a_run_that_begins_anew_drops_all(log):
    log.write({"step": 0})
    assert log.truncate_after(-1) == 1
    assert log.read() == []


@pytest.fixture
def torn(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 0, "loss": 2.0}\n{"step": 1, "loss": 1.0}\n{"step": 2, "lo')
    return RunLog(path)


def test_a_torn_line_is_passed_over_in_reading(torn, caplog):
    assert [line["step"] for line in torn.read()] == [0, 1]
    assert f"Line 3 of {torn.path}" in caplog.text


def test_a_torn_line_is_dropped_in_continuing(torn, caplog):
    assert torn.truncate_after(2) == 0
    assert "Line 3" in caplog.text
    assert torn.path.read_text().endswith('{"step": 1, "loss": 1.0}\n')


def test_a_new_line_is_not_joined_to_a_torn_one(torn, caplog):
    torn.write({"step": 2, "loss": 0.5})
    assert "Line 3" in caplog.text
    caplog.clear()
    assert [line["step"] for line in torn.read()] == [0, 1, 2]
    assert not caplog.records


def test_a_whole_line_without_its_end_is_kept(tmp_path, caplog):
    log = RunLog(tmp_path / "log.jsonl")
    log.path.write_text('{"step": 0}\n{"step": 1}')
    log.write({"step": 2})
    assert [line["step"] for line in log.read()] == [0, 1, 2]
    assert not caplog.records


def test_a_folder_in_place_of_the_file(tmp_path):
    with pytest.raises(IsADirectoryError, match=f"Cannot write the log {tmp_path}"):
        RunLog(tmp_path).write({"step": 1})


def test_a_line_that_does_not_fit_is_told_and_dropped(tmp_path, start):
    program = """
import resource, sys
log = RunLog(Path(sys.argv[1]))
log.write({"step": 0})
resource.setrlimit(resource.RLIMIT_FSIZE, (20, resource.RLIM_INFINITY))
try:
    log.write({"step": 1, "loss": 2.0})
except OSError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
log.write({"step": 2})
"""
    path = tmp_path / "log.jsonl"
    output, errors = start(run_log, program, path).communicate()
    assert f"Cannot write the log {path}: File too large" in output
    assert errors == f"Line 2 of {path} is torn or not a line of a log, and is dropped.\n"
    assert path.read_text() == '{"step": 0}\n{"step": 2}\n'
