"""Two processes give what one gives that takes the batches of both."""

import json
from pathlib import Path

import pytest
from killed_runs import RunInProcesses

from unimiss_hf.training.run_log import RunLog


def names_of(output: Path, world_size: int) -> list[list[str]]:
    """Where the samples of each step were read from, over all processes."""
    steps: dict[int, list[str]] = {}
    for rank in range(world_size):
        for text in (output / f"seen-{rank}.jsonl").read_text().splitlines():
            line = json.loads(text)
            steps.setdefault(line["step"], []).extend(line["names"])
    return [sorted(steps[step]) for step in sorted(steps)]


def test_two_processes_give_the_curve_of_one_with_twice_the_batch(settings, tmp_path):
    # Each reader shuffles the records that it reads together. Where these are one at a time, they
    # come in the order of the shards, which is drawn for all readers alike: dealt out in turn, two
    # readers' batches make up one reader's of twice the size.
    run = {"max_steps": 20, "shuffle_buffer": 1}
    one = settings(**run, batch_size_2d=4, batch_size_3d=2, output=str(tmp_path / "one"))
    two = settings(**run, batch_size_2d=2, batch_size_3d=1, output=str(tmp_path / "two"))
    with (
        RunInProcesses(one) as one_process,
        RunInProcesses(two, world_size=2) as two_processes,
    ):
        one_process.finish()
        two_processes.finish()

    names = names_of(tmp_path / "one", 1)
    assert names == names_of(tmp_path / "two", 2)
    assert len({tuple(step) for step in names}) > 4
    expected, lines = (RunLog(tmp_path / name / "log.jsonl").read() for name in ("one", "two"))
    assert [line["samples"] for line in lines] == [line["samples"] for line in expected]
    assert {line["dimension"] for line in lines} == {"2d", "3d"}
    losses = [line["loss"] for line in lines]
    assert losses == pytest.approx([line["loss"] for line in expected], abs=1e-4)
    # The curve moves by far more than that.
    assert max(losses[:4]) - min(losses[:4]) > 1e-2
