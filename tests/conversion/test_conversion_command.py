"""`python -m unimiss_hf.conversion`, as a user calls it, rightly and wrongly."""

import os
import runpy
import sys

import pytest
import torch
from transformers import AutoModelForPreTraining

from official_checkpoints import constant_network
from unimiss_hf.conversion.__main__ import main


class HarmfulArgs:
    def __reduce__(self):
        return os.system, ("exit 1",)


@pytest.fixture
def file(tmp_path):
    def save(content):
        path = tmp_path / "official.pth"
        torch.save(content, path)
        return str(path)

    return save


def test_a_report_is_printed(official_file, tmp_path, capsys):
    assert main([str(official_file), str(tmp_path / "out"), "--branch", "student"]) == 0
    output = capsys.readouterr()
    lines = output.out.splitlines()
    assert lines[0].startswith("Checkpoint: UniMiSS_tiny.pth, student, epoch 200, sha256 ")
    assert lines[1].startswith("MiT-tiny: 20.38 M parameters, and ")
    assert lines[1].endswith("M in the projection head with 256 prototypes")
    assert lines[2] == "Weights: 206 matched, 0 missing, 0 unexpected"
    assert lines[3].startswith(f"Model: {tmp_path / 'out'}")
    assert len(lines) == 4
    assert output.err == ""
    assert AutoModelForPreTraining.from_pretrained(tmp_path / "out").config.num_prototypes == 256


def test_what_is_not_as_usual_is_printed(file, tmp_path, capsys):
    weights = constant_network("tiny") | {"seg_head.weight": torch.zeros(1)}
    del weights["head.mlp.0.weight"]
    half = {name: weight.half() for name, weight in weights.items()}
    assert main([file(half), str(tmp_path / "out")]) == 0
    output = capsys.readouterr().out
    assert "official.pth, one network, epoch not recorded" in output
    assert "Weights: 205 matched, 1 missing, 1 unexpected" in output
    assert "Warning: the projection head is partly new, randomly initialised" in output
    assert "Missing: projection_head.mlp.0.weight\n" in output
    assert "Left out: seg_head.weight" in output
    assert "Converted from float16 to float32: 205 weights" in output


@pytest.mark.parametrize(
    ("content", "options", "told"),
    [
        ({"teacher": {}, "args": HarmfulArgs()}, [], "it asks for posix.system."),
        (constant_network("tiny", head=None), ["--branch", "teacher"], "has no branches"),
        ({"norm.weight": torch.zeros(48)}, [], "cannot be converted: none of its 1 keys"),
    ],
)
def test_a_file_that_is_refused_is_told_in_a_line(file, tmp_path, capsys, content, options, told):
    assert main([file(content), str(tmp_path / "out"), *options]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("error: ")
    assert "official.pth" in output.err and told in output.err
    assert output.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_module_is_a_command(tmp_path, monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "unimiss_hf.conversion.__main__")
    monkeypatch.setattr(sys, "argv", ["conversion", str(tmp_path / "missing.pth"), "out"])
    with pytest.raises(SystemExit) as end:
        runpy.run_module("unimiss_hf.conversion", run_name="__main__")
    assert end.value.code == 1
    assert capsys.readouterr().err == f"error: There is no checkpoint {tmp_path / 'missing.pth'}.\n"


@pytest.mark.parametrize("arguments", [[], ["a.pth"], ["a.pth", "out", "--branch", "ema"]])
def test_wrong_options_are_argparses_to_tell(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "usage: python -m unimiss_hf.conversion" in capsys.readouterr().err
