"""Hours of a run, from its log."""

import json

import pytest
import torch

from unimiss_hf.hub.compute_record import ComputeRecord, read_compute

CPU = torch.device("cpu")


def log_of(path, steps, seconds=36.0):
    lines = [json.dumps({"step": step, "seconds": seconds}) for step in steps]
    path.write_text("\n".join([*lines, ""]))
    return path


def test_times_of_all_steps_are_summed(tmp_path):
    record = read_compute(log_of(tmp_path / "log.jsonl", range(100)), 100, 2, CPU)
    assert record.hours == pytest.approx(1)
    assert record.processes == 2
    assert record.device.startswith("CPU, ")


def test_a_log_of_some_steps_stands_for_all(tmp_path):
    log = log_of(tmp_path / "log.jsonl", range(0, 100, 10))
    assert read_compute(log, 100, 1, CPU).hours == pytest.approx(1)


def test_a_step_that_was_taken_again_counts_once_and_later_ones_do_not(tmp_path):
    log = log_of(tmp_path / "log.jsonl", [0, 1, 1, 2, 3])
    assert read_compute(log, 2, 1, CPU).hours == pytest.approx(72 / 3600)


def test_what_a_kill_tore_is_passed_over(tmp_path):
    log = log_of(tmp_path / "log.jsonl", [0])
    with log.open("a") as file:
        file.write('[]\n{"step": 1}\n{"step": 1, "sec')
    assert isinstance(read_compute(log, 1, 1, CPU), ComputeRecord)


def test_without_times_nothing_is_said(tmp_path):
    assert read_compute(tmp_path / "log.jsonl", 10, 1, CPU) is None
    assert read_compute(log_of(tmp_path / "log.jsonl", []), 10, 1, CPU) is None
