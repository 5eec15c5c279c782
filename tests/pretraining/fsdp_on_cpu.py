"""Pretrains with whole and with split parameters; started through `accelerate launch`.

    accelerate launch --config_file examples/launch/fsdp.yaml fsdp_on_cpu.py OPTIONS

Accelerate reads FSDP's settings on a CPU too, but takes FSDP up on GPUs and their like alone. This
program makes up for that one decision; all else is what happens on GPUs, over gloo.

Leaves three runs in the output folder, each in a folder of its name. The last one continues from a
checkpoint of the first.
"""

import os
import shutil
from dataclasses import replace
from pathlib import Path

from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from torch import distributed

from unimiss_hf.pretraining import Pretrainer, PretrainingSettings, parse_settings

# Name, whether parameters are split, and which run it continues
RUNS = (
    ("whole", False, None),
    ("split", True, None),
    ("whole_then_split", True, "whole"),
)


def make_accelerator(split: bool, meeting_point: Path) -> Accelerator:
    # Each run ends its process group, and the launcher's meeting point is good for one.
    distributed.init_process_group(
        "gloo",
        f"file://{meeting_point}",
        rank=int(os.environ["RANK"]),
        world_size=int(os.environ["WORLD_SIZE"]),
    )
    accelerator = Accelerator()
    if split:
        accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin()
        accelerator.state.distributed_type = DistributedType.FSDP
    return accelerator


def begin_with_first_checkpoint_of(other: Path, output: Path) -> None:
    first = min((other / "checkpoints").iterdir())
    shutil.copytree(first, output / "checkpoints" / first.name)


def main(settings: PretrainingSettings) -> None:
    folder = Path(settings.output)
    folder.mkdir(exist_ok=True)
    for name, split, continued in RUNS:
        accelerator = make_accelerator(split, folder / f"{name}.meeting")
        if continued and accelerator.is_main_process:
            begin_with_first_checkpoint_of(folder / continued, folder / name)
        accelerator.wait_for_everyone()
        pretrainer = Pretrainer(replace(settings, output=str(folder / name)), accelerator)
        pretrainer.run()
        AcceleratorState._reset_state(reset_partial_state=True)


if __name__ == "__main__":
    main(parse_settings())
