"""Configurations of `accelerate launch` as Accelerate reads them, and the script for Slurm."""

import json
import os
import signal
import stat
import subprocess
import time
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DistributedType
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / "examples" / "launch"
SCRIPT = ROOT / "examples" / "slurm" / "pretrain_multi_node.sbatch"


def environment_of(name: str, prepare) -> dict[str, str]:
    """What `accelerate launch --config_file` tells the processes it starts."""
    words = ["--config_file", str(LAUNCH / name), "examples/pretrain.py"]
    arguments, defaults, _ = _validate_launch_command(launch_command_parser().parse_args(words))
    arguments.deepspeed_fields_from_accelerate_config = ",".join(defaults.deepspeed_config)
    prepared = prepare(arguments)
    return prepared[1] if isinstance(prepared, tuple) else prepared


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ddp_8gpu.yaml", DistributedType.MULTI_GPU),
        ("fsdp.yaml", DistributedType.FSDP),
        ("deepspeed.yaml", DistributedType.DEEPSPEED),
    ],
)
def test_accelerate_reads_each_configuration(name, kind):
    config = load_config_from_file(str(LAUNCH / name))
    assert (config.distributed_type, config.num_processes) == (kind, 8)
    assert not config.use_cpu


def test_what_accelerate_makes_of_the_configurations(monkeypatch):
    monkeypatch.chdir(ROOT)
    ddp = environment_of("ddp_8gpu.yaml", prepare_multi_gpu_env)
    assert ddp["ACCELERATE_MIXED_PRECISION"] == "bf16"
    assert "ACCELERATE_USE_FSDP" not in ddp

    fsdp = environment_of("fsdp.yaml", prepare_multi_gpu_env)
    assert (fsdp["ACCELERATE_USE_FSDP"], fsdp["FSDP_VERSION"]) == ("true", "2")
    assert fsdp["FSDP_TRANSFORMER_CLS_TO_WRAP"] == "MiTLayer,MiTPatchEmbedding,MiTPrototypes"

    deepspeed = environment_of("deepspeed.yaml", prepare_deepspeed_cmd_env)
    assert deepspeed["ACCELERATE_USE_DEEPSPEED"] == "true"
    file = Path(deepspeed["ACCELERATE_DEEPSPEED_CONFIG_FILE"])
    assert json.loads(file.read_text())["zero_optimization"] == {"stage": 0}


# -------------------------------------------------------------------------------- Slurm

# Programs of a cluster, as small as can be. srun starts the step on both nodes.
CLUSTER = {
    "srun": """
while [[ $1 == --* ]]; do shift; done
status=0
for node in 0 1; do SLURM_NODEID=$node "$@" & done
for task in $(jobs -p); do wait "$task" || status=$?; done
exit "$status"
""",
    "accelerate": """
echo "$*" >"$LOG/node-$SLURM_NODEID"
if [[ -n ${SECONDS_TO_RUN:-} ]]; then
    trap 'echo saved >>"$LOG/node-$SLURM_NODEID"; exit 1' TERM
    echo "$$" >"$LOG/.task-$SLURM_NODEID"
    mv "$LOG/.task-$SLURM_NODEID" "$LOG/task-$SLURM_NODEID"
    for _ in $(seq $((SECONDS_TO_RUN * 20))); do sleep 0.05; done
fi
exit "${STATUS:-0}"
""",
    "scancel": """
echo "scancel $*" >>"$LOG/slurm"
kill -TERM $(cat "$LOG"/task-*)
""",
    "scontrol": """
echo "scontrol $*" >>"$LOG/slurm"
if [[ $1 == show ]]; then printf 'first\\nsecond\\n'; fi
""",
}


@pytest.fixture
def submit(tmp_path):
    """Start the script as Slurm would, on two nodes of eight GPUs."""
    programs, log = tmp_path / "bin", tmp_path / "log"
    programs.mkdir()
    log.mkdir()
    for name, text in CLUSTER.items():
        (programs / name).write_text(f"#!/bin/bash\n{text}")
        (programs / name).chmod(stat.S_IRWXU)

    def start(*arguments: str, **variables: str) -> subprocess.Popen:
        environment = {
            **os.environ,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "LOG": str(log),
            "SLURM_JOB_ID": "123",
            "SLURM_JOB_NODELIST": "first,second",
            "SLURM_JOB_NUM_NODES": "2",
            "SLURM_GPUS_ON_NODE": "8",
            **variables,
        }
        return subprocess.Popen(["bash", str(SCRIPT), *arguments], env=environment, cwd=ROOT)

    return start, log


def test_the_script_for_slurm_starts_a_launcher_on_each_node(submit):
    start, log = submit
    assert start("--output", "runs/of mine").wait(timeout=60) == 0
    launched = sorted((log / f"node-{node}").read_text() for node in (0, 1))
    for node, command in enumerate(launched):
        assert f"--num_machines 2 --num_processes 16 --machine_rank {node}" in command
        assert "--main_process_ip first --main_process_port 20123" in command
        assert "--config_file examples/launch/ddp_8gpu.yaml" in command
        assert command.endswith("examples/pretrain.py --output runs/of mine\n")
    assert (log / "slurm").read_text() == "scontrol show hostnames first,second\n"


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_a_job_whose_time_is_nearly_over_saves_and_queues_itself_again(submit, number):
    start, log = submit
    process = start(SECONDS_TO_RUN="30")
    for _ in range(600):
        if len(list(log.glob("task-*"))) == 2:
            break
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(timeout=60) == 0
    assert all((log / f"node-{node}").read_text().endswith("saved\n") for node in (0, 1))
    assert (log / "slurm").read_text().splitlines()[1:] == [
        "scancel --signal=TERM 123.0",
        "scontrol requeue 123",
    ]


def test_a_run_that_fails_is_not_started_again(submit):
    start, log = submit
    assert start(STATUS="3").wait(timeout=60) == 3
    assert "requeue" not in (log / "slurm").read_text()


def test_the_script_is_written_for_bash_and_asks_slurm_for_a_warning():
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)
    asked = [line for line in SCRIPT.read_text().splitlines() if line.startswith("#SBATCH")]
    assert "#SBATCH --signal=B:USR1@600" in asked
    assert "#SBATCH --requeue" in asked
