"""The example as a user calls it, rightly and wrongly."""

import json
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import finetuning_miniatures

SCRIPT = Path(__file__).parents[2] / "examples" / "finetune.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("finetune")


@pytest.fixture(scope="module")
def model(folder) -> str:
    return str(finetuning_miniatures.pretrained(folder / "pretrained"))


@pytest.fixture(scope="module")
def chests(folder) -> str:
    return str(finetuning_miniatures.findings(folder))


@pytest.fixture
def call(monkeypatch, capfd):
    """Run the script with arguments; returns its exit code, standard output, standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        return ended.value.code, *capfd.readouterr()

    return run


def require_one_line(code: int, error: str, wanted: int = 1) -> str:
    """Check that a command ended in one sentence; returns it."""
    assert code == wanted
    assert "Traceback" not in error
    lines = [line for line in error.splitlines() if "error: " in line]
    assert len(lines) == 1
    return lines[0]


def test_a_run_tells_where_everything_is(call, tmp_path, model, chests):
    words = ["--model", model, "--dataset", chests, "--output", tmp_path / "run"]
    words += ["--max_steps", 2, "--validate_every", 1, "--batch_size", 3, "--score_before"]
    words += ["--bootstrap", 20]
    code, told, _ = call(*words)
    assert code == 0
    assert told.startswith("Finished at step 2 of 2.\n")
    assert f"Model: {tmp_path / 'run' / 'model'}, of the best checkpoint" in told
    assert "before       after" in told and "auroc" in told
    for name in ("curves.png", "results.json", "figures/roc.png", "figures/confusion.png"):
        assert f"Written: {tmp_path / 'run' / name}\n" in told
        assert (tmp_path / "run" / name).is_file()
    code, told, _ = call(*words)
    assert code == 0 and told.startswith("Finished at step 2 of 2.\n")
    scores = json.loads((tmp_path / "run" / "results.json").read_text())["scores"]
    assert scores["cases"] == 6


def test_a_misspelt_option(call):
    code, _, error = call("--learning_rates", "1")
    told = require_one_line(code, error, 2)
    assert "there is no option --learning_rates. Did you mean --learning_rate" in told


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"--dataset": None}, "There is no data to train on. Give --dataset"),
        ({"--dataset": "{chests}s"}, "There is no folder"),
        ({"--dataset": "{model}"}, "is none of the data sets that are known"),
        ({"--dataset": "{model}/config.json"}, "is a file; wanted the folder of a data set"),
        ({"--layout": "chestxrr"}, "There is no layout 'chestxrr'"),
        ({"--layout": "jsrt"}, "does not look like JSRT"),
        ({"--layout_options": '{"splits": 1}'}, "ChestXR has no option 'splits'"),
        ({"--model": None}, "There is no model to start from. Give --model"),
        ({"--model": "{model}ed"}, "There is no folder"),
        ({"--model": "{chests}"}, "CXR"),
        ({"--config": "recipes/missing.yaml"}, "There is no recipe recipes/missing.yaml"),
        ({"--patch_size": "4"}, "patch_size is [4]"),
        ({"--best_metric": "dice", "--best_mode": "max"}, "validation has no such number"),
        ({"--processor": '{"spaceing": 1}'}, "spaceing"),
        ({"--augmentation": '{"rotations": 1}'}, "augmentation has no setting 'rotations'"),
        ({"--report_to": "tensorbored"}, "tensorbored"),
    ],
)
def test_mistakes_are_told_in_a_sentence(call, tmp_path, model, chests, changes, told):
    words = {"--dataset": chests, "--model": model, "--output": str(tmp_path / "run")} | changes
    given = [
        word.replace("{model}", model).replace("{chests}", chests)
        if isinstance(word, str) and name in ("--dataset", "--model")
        else word
        for name, value in words.items()
        if value is not None
        for word in (name, value)
    ]
    code, _, error = call(*given, "--max_steps", 1, "--no_figures")
    assert told in require_one_line(code, error)


def test_a_run_stops_on_a_signal_and_the_same_command_continues_it(tmp_path, model, chests):
    words = ["--model", model, "--dataset", chests, "--output", str(tmp_path / "run")]
    words += ["--max_steps", "300", "--validate_every", "300", "--no_figures", "--bootstrap", "0"]
    command = [sys.executable, str(SCRIPT), *words]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true"}
    log = tmp_path / "run" / "log.jsonl"
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        for _ in range(1200):
            if log.exists() and log.read_text().count("\n") >= 2:
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        told, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    steps = log.read_text().count("\n")
    assert told == (f"Stopped at step {steps} of 300.\nRun the same command again to continue.\n")
    assert (tmp_path / "run" / "checkpoints" / f"step-{steps:08d}").is_dir()
