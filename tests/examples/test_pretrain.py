"""The example as a user calls it, rightly and wrongly."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from command_line import options_of

ROOT = Path(__file__).parents[2]
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "1"]


def call(*arguments: str, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "examples" / "pretrain.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


def test_help_explains_the_settings():
    result = call("--help")
    assert result.returncode == 0
    assert "folder for checkpoints, log and figures" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--batchsize_2d", "3"], "unrecognized arguments: --batchsize_2d"),
        (["--config", "recipes/missing.yaml"], "There is no recipe recipes/missing.yaml"),
        (["--epochs", "many"], "invalid int value: 'many'"),
        (["--model_size", "huge"], "model_size is 'huge'"),
        ([], "There is no data to train on"),
        (["--dataset_2d", "./not/there"], "not/there"),
    ],
)
def test_mistakes_are_told_in_a_sentence(tmp_path, arguments, told):
    result = call(*arguments, "--output", str(tmp_path / "run"), cwd=ROOT)
    assert result.returncode != 0
    assert told in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("number", "num_workers"),
    [(signal.SIGTERM, 2), (signal.SIGINT, 0), (signal.SIGHUP, 0)],
    ids=["SIGTERM", "SIGINT", "SIGHUP"],
)
def test_a_launched_run_stops_on_a_signal_and_is_continued_by_the_same_command(
    settings, number, num_workers
):
    run = settings(max_steps=60, checkpoint_every=1000, num_workers=num_workers)
    command = [*LAUNCH, str(ROOT / "examples" / "pretrain.py"), *options_of(run)]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true"}
    log = Path(run.output) / "log.jsonl"
    # a session of its own, so that a signal reaches launcher and script as from a terminal
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        for _ in range(1200):
            if log.exists() and log.read_text().count("\n") >= 3:
                break
            time.sleep(0.05)
        os.killpg(process.pid, number)
        printed, _ = process.communicate(timeout=60)
    stopped_at = log.read_text().count("\n")
    assert 3 <= stopped_at < 60
    assert f"Stopped at step {stopped_at} of 60." in printed
    checkpoint = Path(run.output, "checkpoints", f"step-{stopped_at:08d}")
    assert (checkpoint / "checkpoint.json").is_file()

    again = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    assert "Finished 60 steps." in again.stdout
    assert log.read_text().count("\n") == 60


def test_the_script_itself_exits_with_0_when_it_is_asked_to_stop(settings):
    run = settings(max_steps=500, checkpoint_every=1000)
    command = [sys.executable, str(ROOT / "examples" / "pretrain.py"), *options_of(run)]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true"}
    log = Path(run.output) / "log.jsonl"
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        for _ in range(1200):
            if log.exists() and log.read_text().count("\n") >= 1:
                break
            time.sleep(0.05)
        process.terminate()
        printed, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Run the same command again to continue." in printed
