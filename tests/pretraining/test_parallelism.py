"""Parameters split over processes, and what pretraining refuses to run with."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from safetensors.torch import load_file

from command_line import options_of
from unimiss_hf.pretraining.parallelism import check_accelerator, precision_of
from unimiss_hf.training.run_log import RunLog

ROOT = Path(__file__).parents[2]


@pytest.fixture
def runs(settings, tmp_path) -> dict[str, Path]:
    """Runs of two processes with whole and with split parameters; see `fsdp_on_cpu.py`."""
    run = settings(
        output=str(tmp_path / "runs"),
        max_steps=4,
        checkpoint_every=2,
        batch_size_3d=1,
        probe_every=2,
        probe_size=4,
    )
    command = [sys.executable, "-m", "accelerate.commands.launch", "--main_process_port", "0"]
    command += ["--config_file", str(ROOT / "examples" / "launch" / "fsdp.yaml")]
    command += ["--num_processes", "2", "--mixed_precision", "no"]
    command += [str(ROOT / "tests" / "pretraining" / "fsdp_on_cpu.py"), *options_of(run)]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-4000:]
    return {folder.name: folder for folder in (tmp_path / "runs").iterdir() if folder.is_dir()}


def numbers_of(run: Path, name: str) -> list[float]:
    return [line[name] for line in RunLog(run / "log.jsonl").read()]


def files_of(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def test_split_parameters_give_the_same_run_and_the_same_files(runs):
    whole, split = runs["whole"], runs["split"]
    # two epochs of 2D, the first with frozen prototypes, then 3D
    assert len(numbers_of(whole, "loss")) == 4
    for name in ("loss", "gradient_norm"):
        assert numbers_of(split, name) == pytest.approx(numbers_of(whole, name), rel=1e-5)

    # One process probes the teacher in one piece.
    probes = [
        [
            line["probe/knn_accuracy"]
            for line in RunLog(run / "log.jsonl").read()
            if line["step"] % 2
        ]
        for run in (whole, split)
    ]
    assert len(probes[0]) == 2
    assert probes[1] == pytest.approx(probes[0], abs=0.1)

    first, last = ("checkpoints/step-00000002", "checkpoints/step-00000004")
    assert files_of(whole / last) == files_of(split / last)
    # Of the second step on, noise in gradients that ought to be 0 tells in AdamW's steps.
    for file in ("model.safetensors", "training_state/student.safetensors"):
        expected, weights = (load_file(run / first / file) for run in (whole, split))
        assert expected.keys() == weights.keys()
        for name, tensor in weights.items():
            assert tensor.shape == expected[name].shape, name
        name = "decoder.stages.2.layers.1.mlp.up_projection.weight"
        torch.testing.assert_close(weights[name], expected[name], rtol=1e-4, atol=1e-6)
    expected, state = (
        torch.load(run / first / "training_state" / "state.pt")["optimizer"]
        for run in (whole, split)
    )
    assert state["param_groups"] == expected["param_groups"]
    # Volume-only parameters have no gradient on images, and so no moments.
    assert state["state"].keys() == expected["state"].keys()
    assert 0 < len(state["state"]) < sum(len(g["params"]) for g in state["param_groups"])
    config = json.loads((split / "model" / "config.json").read_text())
    assert config["architectures"] == ["MiTForPreTraining"]
    assert files_of(split / "model") == files_of(whole / "model")

    # A checkpoint of whole parameters continues with split ones.
    continued = runs["whole_then_split"]
    assert numbers_of(continued, "step") == [2, 3]
    assert numbers_of(continued, "loss") == pytest.approx(numbers_of(whole, "loss")[2:], rel=1e-5)


def accelerator_with(**state) -> SimpleNamespace:
    """What `check_accelerator` looks at, where Accelerate would want a GPU or DeepSpeed."""
    accelerator = Accelerator()
    return SimpleNamespace(
        gradient_accumulation_steps=1,
        distributed_type=state.pop("distributed_type"),
        scaler=None,
        mixed_precision="no",
        state=SimpleNamespace(dynamo_plugin=accelerator.state.dynamo_plugin, **state),
    )


def deepspeed(**config) -> SimpleNamespace:
    return accelerator_with(
        distributed_type=DistributedType.DEEPSPEED,
        deepspeed_plugin=SimpleNamespace(deepspeed_config=config),
    )


def fsdp(monkeypatch, **settings) -> SimpleNamespace:
    # The plugin notes some settings there.
    monkeypatch.setattr(os, "environ", dict(os.environ))
    plugin = FullyShardedDataParallelPlugin(**{"fsdp_version": 2, **settings})
    return accelerator_with(distributed_type=DistributedType.FSDP, fsdp_plugin=plugin)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"zero_optimization": {"stage": 2}}, r"ZeRO stage 2, which moves and decays .* stage 0"),
        ({"bf16": {"enabled": True}}, r'bf16, which keeps no float32 weights: .*"torch_autocast"'),
        ({"torch_autocast": {"enabled": True, "dtype": "float16"}}, "needs scaling"),
    ],
)
def test_what_deepspeed_does_differently_is_refused(config, told):
    with pytest.raises(ValueError, match=told):
        check_accelerator(deepspeed(**config))


def test_deepspeed_as_the_example_configures_it_is_taken():
    config = json.loads((ROOT / "examples" / "launch" / "deepspeed.json").read_text())
    check_accelerator(deepspeed(**config))
    assert precision_of(deepspeed(**config)) == "bf16"
    assert precision_of(deepspeed()) == "no"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"fsdp_version": 1}, "fsdp_version 1: give 2"),
        ({"cpu_offload": True}, "fsdp_offload_params true"),
        ({"activation_checkpointing": True}, "give --gradient_checkpointing instead"),
    ],
)
def test_what_fsdp_cannot_do_here_is_refused(monkeypatch, settings, told):
    with pytest.raises(ValueError, match=rf"{told}.*examples/launch/fsdp\.yaml"):
        check_accelerator(fsdp(monkeypatch, **settings))


def test_megatron_and_compiling_by_accelerate_are_refused(monkeypatch):
    with pytest.raises(ValueError, match="Megatron-LM, which has no MiT"):
        check_accelerator(accelerator_with(distributed_type=DistributedType.MEGATRON_LM))
    other = accelerator_with(distributed_type=DistributedType.NO)
    check_accelerator(other)
    other.state.dynamo_plugin = SimpleNamespace(backend="INDUCTOR")
    with pytest.raises(ValueError, match="give --compile_blocks instead"):
        check_accelerator(other)
