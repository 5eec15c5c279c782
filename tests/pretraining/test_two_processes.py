import os
import subprocess
import sys
from pathlib import Path

import torch
import two_processes
from safetensors.torch import load_file

from command_line import options_of
from unimiss_hf.pretraining.distillation import SelfDistillation
from unimiss_hf.pretraining.objective import SelfDistillationObjective
from unimiss_hf.training.run_log import RunLog

TESTS = Path(__file__).parents[1]


def torchrun(script: Path, *arguments: str) -> str:
    environment = {
        **os.environ,
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(TESTS),
    }
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--standalone", str(script), *arguments]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr[-4000:]
    return result.stdout


def test_half_a_batch_each_is_the_whole_batch(tmp_path):
    torchrun(TESTS / "pretraining" / "two_processes.py", str(tmp_path / "result"))
    results = [load_file(tmp_path / f"result-{rank}.safetensors") for rank in range(2)]

    student, teacher = two_processes.build()
    objective = SelfDistillationObjective(student.config.num_prototypes).double()
    step = SelfDistillation(student, teacher, objective)
    expected = {}
    for dimension in two_processes.SHAPES:
        step.accumulate(two_processes.batch_of(dimension))
        expected |= two_processes.gradients(student, objective, dimension)
        student.zero_grad()

    for result in results:
        assert result.pop("wrapped")
        assert result.keys() == expected.keys()
        for name, tensor in expected.items():
            scale = tensor.abs().max().item()
            torch.testing.assert_close(
                result[name], tensor, rtol=1e-9, atol=1e-10 * scale + 1e-18, msg=name
            )


def test_a_launcher_starts_a_run_of_two_processes(settings):
    run = settings(max_steps=3, checkpoint_every=3, batch_size_3d=1)
    example = TESTS.parent / "examples" / "pretrain.py"
    assert "Finished 3 steps." in torchrun(example, *options_of(run))
    lines = RunLog(Path(run.output) / "log.jsonl").read()
    # two processes of 4 images, then of 1 volume: half as many steps an epoch
    assert [(line["step"], line["dimension"], line["samples"]) for line in lines] == [
        (0, "2d", 8),
        (1, "2d", 8),
        (2, "3d", 2),
    ]
