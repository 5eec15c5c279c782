"""The example as a user calls it, rightly and wrongly."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from command_line import options_of
from unimiss_hf.pretraining import Pretrainer
from unimiss_hf.training.checkpoints import CheckpointStore

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
        (
            ["--batchsize_2d", "3"],
            "error: there is no option --batchsize_2d. Did you mean --batch_size_2d",
        ),
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


def newest_step(run) -> int:
    """The step of the newest checkpoint, all of whose files are as they were written."""
    newest = CheckpointStore(Path(run.output) / "checkpoints").latest()
    return int(newest.name.removeprefix("step-"))


def test_a_disk_without_room_ends_the_run_in_a_sentence_and_the_last_checkpoint_is_good(settings):
    run = settings(max_steps=500, checkpoint_every=2)
    checkpoints = Path(run.output) / "checkpoints"
    command = [sys.executable, str(ROOT / "examples" / "pretrain.py"), *options_of(run)]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true"}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        for _ in range(2400):
            if list(checkpoints.glob("step-*")):
                break
            time.sleep(0.05)
        # From here on, no file may become as large as the weights are: as on a full disk, writing
        # fails in the middle.
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (100_000, 100_000))
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    last = next(line for line in errors.splitlines() if line.startswith("error: "))
    assert "Cannot write the checkpoint step-000000" in last
    assert "File too large" in last
    assert "Checkpoints written before remain" in last
    assert "Traceback" not in errors
    step = newest_step(run)
    assert sorted(path.name for path in checkpoints.iterdir())[-1] == f"step-{step:08d}"
    assert Pretrainer(run).state.step == step


# Starts the example as often as there are arguments, under a root user who obeys permissions.
AS_ANYBODY = """
import ctypes, json, os, runpy, sys
if os.geteuid() == 0 and "again" not in sys.argv:
    PR_CAPBSET_DROP, CAP_DAC_OVERRIDE = 24, 1
    if ctypes.CDLL(None, use_errno=True).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "the capability cannot be dropped")
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:], "again"])
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["examples/pretrain.py", *arguments]
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        print("exit", end.code, file=sys.stderr, flush=True)
"""


def test_folders_that_cannot_be_written_end_the_run_in_a_sentence(settings, tmp_path):
    begun = settings(max_steps=20, checkpoint_every=2)
    checkpoints = CheckpointStore(Path(begun.output) / "checkpoints")
    locked, inside_locked = tmp_path / "locked", tmp_path / "locked" / "run"
    locked.mkdir()
    pretrainer = Pretrainer(begun)
    pretrainer.folder.save(pretrainer.state)
    pretrainer.folder.release()
    runs = [begun, settings(output=str(locked)), settings(output=str(inside_locked))]
    for folder in (checkpoints.folder, locked):
        folder.chmod(0o555)
    result = subprocess.run(
        [sys.executable, "-c", AS_ANYBODY, json.dumps([options_of(run) for run in runs])],
        capture_output=True,
        text=True,
        timeout=240,
        cwd=ROOT,
        env={**os.environ, "ACCELERATE_USE_CPU": "true"},
    )
    for folder in (checkpoints.folder, locked):
        folder.chmod(0o755)
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in result.stderr
    assert result.stderr.count("exit 1") == 3
    for error, told in zip(
        errors,
        ["Cannot write the checkpoint step-00000002", f"Cannot write {locked}", str(inside_locked)],
        strict=True,
    ):
        assert told in error
        assert "Permission denied" in error
    assert newest_step(begun) == 0
