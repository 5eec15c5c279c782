"""A run that is killed goes on as if it had not been: same samples, same views, same numbers."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from killed_runs import Moment, RunInProcesses
from safetensors.torch import load_file

from unimiss_hf.pretraining import PretrainingSettings
from unimiss_hf.training.run_log import RunLog

# What a line of the log tells of the clock, which no two runs share.
TIMES = ("seconds", "data_wait", "view_share")
SEED = 20


def lines_of(output: Path) -> list[dict[str, Any]]:
    lines = RunLog(output / "log.jsonl").read()
    return [{k: v for k, v in line.items() if k not in TIMES} for line in lines]


def final_state(output: Path) -> dict[str, Any]:
    """All that the last checkpoint holds: weights, centre, optimiser, random state."""
    newest = sorted((output / "checkpoints").glob("step-*"))[-1]
    state = newest / "training_state"
    return {
        "teacher": load_file(newest / "model.safetensors"),
        "student": load_file(state / "student.safetensors"),
        "objective": load_file(state / "objective.safetensors"),
        **torch.load(state / "state.pt", weights_only=True),
    }


def differences(ours: Any, theirs: Any, tolerance: float, where: str = "") -> list[str]:
    """Name what two states differ in; a `tolerance` of 0 asks for equal bits."""
    if isinstance(ours, torch.Tensor):
        if tolerance and ours.is_floating_point():
            same = torch.allclose(ours, theirs, rtol=0, atol=tolerance)
        else:
            same = torch.equal(ours, theirs)
        return [] if same else [where]
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), where
        pairs = [(key, ours[key], theirs[key]) for key in ours]
    elif isinstance(ours, list | tuple):
        assert len(ours) == len(theirs), where
        pairs = [(index, *pair) for index, pair in enumerate(zip(ours, theirs, strict=True))]
    elif tolerance and isinstance(ours, float):
        return [] if ours == pytest.approx(theirs, rel=tolerance) else [where]
    else:
        return [] if ours == theirs else [where]
    return [
        found
        for key, our_value, their_value in pairs
        for found in differences(our_value, their_value, tolerance, f"{where}/{key}")
    ]


def scores(output: Path) -> dict[str, Any]:
    """What each checkpoint that is kept was judged by."""
    return {
        path.parent.name: json.loads(path.read_text()).get("score")
        for path in sorted((output / "checkpoints").glob("*/checkpoint.json"))
    }


def seen(output: Path, rank: int) -> dict[int, dict[str, Any]]:
    """What each step saw; a step that was taken again must have seen the same again."""
    steps: dict[int, dict[str, Any]] = {}
    for text in (output / f"seen-{rank}.jsonl").read_text().splitlines():
        line = json.loads(text)
        assert steps.setdefault(line["step"], line) == line
    return steps


def survive(settings: PretrainingSettings, moments: list[Moment], world_size: int = 1) -> Path:
    """Run, be killed at each moment and be started again; return the folder."""
    output = Path(settings.output)
    for moment in moments:
        with RunInProcesses(settings, moment, world_size) as run:
            run.kill_at_its_moment()
        being_written = list((output / "checkpoints").glob(".step-*.partial-*"))
        if moment.within_step:
            assert [line["step"] for line in lines_of(output)] == list(range(moment.step))
            assert being_written == []
        else:
            (partial,) = being_written
            assert partial.name.startswith(f".step-{moment.step:08d}.")
    with RunInProcesses(settings, world_size=world_size) as run:
        run.finish()
    return output


def whole(settings: PretrainingSettings, world_size: int = 1) -> Path:
    """Run without interruption; return the folder."""
    with RunInProcesses(settings, world_size=world_size) as run:
        run.finish()
    return Path(settings.output)


def mid_step(chance: random.Random, step: int, rank: int = 0) -> Moment:
    return Moment(step, calls=chance.randint(2, 15_000), rank=rank)


def mid_save(chance: random.Random, step: int) -> Moment:
    return Moment(step, within_step=False, calls=chance.randint(500, 40_000))


def test_killed_at_ten_moments_a_run_is_the_same_bit_for_bit(settings, tmp_path):
    chance = random.Random(SEED)
    # Two epochs of two steps in 2D, two in 3D, and so on; a checkpoint every third step.
    moments = sorted(
        [
            mid_step(chance, 1),  # in a 2D phase, before there is any checkpoint
            mid_step(chance, 5),  # in a 3D phase
            Moment(6),  # at an epoch's end, right behind its checkpoint
            Moment(8),  # at a phase boundary
            mid_save(chance, 15),  # while a checkpoint is being written
            *(mid_step(chance, step) for step in chance.sample(range(24), 4)),
            mid_save(chance, 3 * chance.randint(1, 7)),
        ]
    )
    run = {"max_steps": 24, "checkpoint_every": 3, "best_metric": "loss/image_to_image"}
    expected = whole(settings(**run, output=str(tmp_path / "whole")))
    output = survive(settings(**run), moments)

    assert lines_of(output) == lines_of(expected), moments
    assert [line["step"] for line in lines_of(output)] == list(range(24))
    assert seen(output, 0) == seen(expected, 0), moments
    assert differences(final_state(output), final_state(expected), tolerance=0) == [], moments
    assert scores(output) == scores(expected), moments
    assert "best" in scores(output)


def test_readers_in_processes_of_their_own_are_killed_with_the_run(settings, tmp_path):
    chance = random.Random(SEED)
    moments = [mid_step(chance, 1), Moment(4), mid_save(chance, 6), mid_step(chance, 7)]
    run = {"max_steps": 10, "checkpoint_every": 2, "num_workers": 2, "slice_stride": 2}
    expected = whole(settings(**run, output=str(tmp_path / "whole")))
    output = survive(settings(**run), moments)

    assert lines_of(output) == lines_of(expected), moments
    assert seen(output, 0) == seen(expected, 0), moments
    assert differences(final_state(output), final_state(expected), tolerance=0) == [], moments


def test_two_processes_that_are_killed_go_on_together(settings, tmp_path):
    chance = random.Random(SEED)
    moments = [mid_step(chance, 3, rank=1), mid_save(chance, 6), mid_step(chance, 7)]
    run = {"max_steps": 9, "checkpoint_every": 2, "batch_size_2d": 2, "batch_size_3d": 1}
    expected = whole(settings(**run, output=str(tmp_path / "whole")), world_size=2)
    output = survive(settings(**run), moments, world_size=2)

    lines = lines_of(output)
    assert [line["step"] for line in lines] == list(range(9))
    assert differences(lines, lines_of(expected), tolerance=1e-6) == [], moments
    for rank in range(2):
        assert seen(output, rank) == seen(expected, rank), moments
    assert differences(final_state(output), final_state(expected), tolerance=1e-6) == [], moments
