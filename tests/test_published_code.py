"""A checkpoint opens where the package is not installed."""

import json
import os
import subprocess
import sys

import pytest
import torch

from unimiss_hf import MiTForPreTraining, MiTImageProcessor

OPEN_WITHOUT_THE_PACKAGE = """
import json, sys

class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "unimiss_hf":
            raise ModuleNotFoundError(f"No module named {name!r}")

sys.meta_path.insert(0, NotInstalled())

import torch
from transformers import AutoImageProcessor, AutoModelForPreTraining

folder = sys.argv[1]
model = AutoModelForPreTraining.from_pretrained(folder, trust_remote_code=True).eval()
processor = AutoImageProcessor.from_pretrained(folder, trust_remote_code=True)
with torch.no_grad():
    output = model(torch.ones(1, 1, 5, 32, 40))
print(json.dumps([type(processor).__name__, output.class_token.tolist()]))
"""


def test_code_and_weights_travel_together(small_config, tmp_path):
    model = MiTForPreTraining(small_config).eval()
    model.save_pretrained(tmp_path / "published")
    MiTImageProcessor().save_pretrained(tmp_path / "published")
    with torch.no_grad():
        expected = model(torch.ones(1, 1, 5, 32, 40)).class_token.tolist()

    result = subprocess.run(
        [sys.executable, "-c", OPEN_WITHOUT_THE_PACKAGE, str(tmp_path / "published")],
        env={**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    processor_name, class_token = json.loads(result.stdout.splitlines()[-1])
    assert processor_name == "MiTImageProcessor"
    # to rounding, which may differ between two processes
    assert class_token[0] == pytest.approx(expected[0], abs=1e-5)
