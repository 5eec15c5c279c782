"""Two processes share a batch: what they learn is what one process learns of the whole."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from unimiss_hf.finetuning import FinetuningSettings, run_finetuning
from unimiss_hf.training.run_log import RunLog

ROOT = Path(__file__).parents[2]


def options_of(settings: FinetuningSettings) -> list[str]:
    words = ["--no_figures"]
    for name, value in settings.to_dict().items():
        if isinstance(value, list) and value:
            words += [f"--{name}", *map(str, value)]
        elif value is not None and not isinstance(value, (list, bool)):
            words += [f"--{name}", str(value)]
    return words


def test_half_a_batch_each_is_the_whole_batch(of_images, tmp_path):
    # A small rate, so that rounding stays rounding: the first steps of AdamW magnify it.
    changes = {"max_steps": 4, "validate_every": 2, "learning_rate": 1e-4}
    one = run_finetuning(of_images(output=str(tmp_path / "one"), batch_size=6, **changes))
    two = of_images(output=str(tmp_path / "two"), batch_size=3, **changes)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--standalone", str(ROOT / "examples" / "finetune.py"), *options_of(two)]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert result.returncode == 0, result.stderr[-4000:]
    assert "Finished at step 4 of 4." in result.stdout

    logs = [RunLog(tmp_path / name / "log.jsonl").read() for name in ("one", "two")]
    assert [line["samples"] for line in logs[1]] == [6] * 4
    for ours, theirs in zip(*logs, strict=True):
        assert ours.keys() == theirs.keys()
        for name in ours.keys() - {"seconds", "data_wait"}:
            assert theirs[name] == pytest.approx(ours[name], rel=1e-3), name
    scores = [
        json.loads((tmp_path / name / "results.json").read_text())["scores"]
        for name in ("one", "two")
    ]
    assert scores[0]["cases"] == scores[1]["cases"] == 6
    assert scores[1]["auroc"] == pytest.approx(scores[0]["auroc"])
    assert one.result.finished
