"""Prints seconds per optimiser step, samples per second and peak memory of pretraining.

    python benchmarks/pretraining_step.py --size small --dimension 3d --batch-size 4 \
        --prototypes 65536

Each variant runs in a process of its own, so that peak memory is its own, and they take their steps
in turn, so that a machine that slows down slows all of them; ratios are medians over these rounds.
`plain` is the method written straight down: one graph over all outputs, every slice compared with
every prototype, the whole decoder, three-channel slices. The others are this package's step. All
but `stride` do the same arithmetic on the same random views; their last losses are printed so that
you can see it. Random views are made beforehand: the time is that of teacher, student and update.

`--breakdown` prints instead where the time of this package's step goes, with samples that are read
and made into views as in training, of `--folder` or of random files.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import torch

from plain_step import PlainStep
from step_breakdown import print_breakdown
from unimiss_hf import MiTConfig, MiTForPreTraining
from unimiss_hf.pretraining.distillation import SelfDistillation, make_teacher
from unimiss_hf.pretraining.objective import SelfDistillationObjective
from unimiss_hf.pretraining.update import StudentUpdate
from unimiss_hf.training.host_memory import keep_freed_memory

VARIANTS = {
    "plain": "one graph, straight down",
    "view": "this package: backward per view and dimension",
    "sample": "this package: backward per sample as well",
    "stride": "this package: backward per view and dimension, every second slice",
}
SETTINGS = {"view": {}, "sample": {"samples_per_backward": 1}, "stride": {"slice_stride": 2}}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=("tiny", "small"), default="small")
    parser.add_argument("--dimension", choices=("2d", "3d"), default="3d")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--prototypes", type=int, default=65536)
    parser.add_argument("--steps", type=int, default=5, help="timed steps, after one untimed")
    parser.add_argument("--threads", type=int, default=None, help="default: torch's choice")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument(
        "--variants",
        nargs="+",
        choices=list(VARIANTS),
        default=["plain", "view", "sample"],
        help="what to run; ratios are to the first",
    )
    parser.add_argument("--breakdown", action="store_true", help="print the parts of a step")
    parser.add_argument("--folder", type=Path, help="data set of --breakdown; random by default")
    parser.add_argument("--workers", type=int, default=0, help="reading processes of --breakdown")
    parser.add_argument("--crops-per-volume", type=int, default=1, help="of --breakdown")
    parser.add_argument("--slice-stride", type=int, default=1, help="of --breakdown")
    parser.add_argument("--samples-per-backward", type=int, help="of --breakdown; default: all")
    parser.add_argument("--child", choices=list(VARIANTS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        take_steps(options.child, options)
        return
    print(
        f"MiT-{options.size}, {options.dimension}, batch {options.batch_size}, "
        f"{options.prototypes} prototypes, float32, {options.device}, torch {torch.__version__}"
    )
    if options.breakdown:
        print_breakdown(*make_networks(options), options)
    else:
        compare(options)


def compare(options: argparse.Namespace) -> None:
    with ExitStack() as stack:
        variants = dict.fromkeys(options.variants)
        processes = {variant: stack.enter_context(start(variant)) for variant in variants}
        results = {variant: [] for variant in processes}
        for _ in range(options.steps + 1):
            for variant, process in processes.items():
                process.stdin.write("\n")
                process.stdin.flush()
                results[variant].append(json.loads(process.stdout.readline()))
    print(f"{'variant':<9}{'s/step':>8}{'min':>8}{'samples/s':>11}{'peak GB':>9}{'loss':>13}")
    baseline, *_ = results.values()
    for variant, steps in results.items():
        pairs = list(zip(baseline, steps, strict=True))[1:]
        seconds = [step["seconds"] for _, step in pairs]
        speed = statistics.median(old["seconds"] / new["seconds"] for old, new in pairs)
        memory = steps[-1]["gigabytes"]
        median = statistics.median(seconds)
        print(
            f"{variant:<9}{median:>8.2f}{min(seconds):>8.2f}{options.batch_size / median:>11.2f}"
            f"{memory:>9.2f}{steps[-1]['loss']:>13.6f}   {speed:.2f} x the speed, "
            f"{memory / baseline[-1]['gigabytes']:.2f} x the memory of {options.variants[0]}"
        )


def start(variant: str) -> subprocess.Popen:
    """Start the process of a variant, which takes a step for each line that it gets."""
    command = [sys.executable, str(Path(__file__)), *sys.argv[1:], "--child", variant]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)


def make_networks(options: argparse.Namespace) -> tuple[MiTForPreTraining, MiTForPreTraining]:
    """Make student and teacher, with as many threads as asked for."""
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    config = getattr(MiTConfig, options.size)(num_prototypes=options.prototypes)
    student = MiTForPreTraining(config).train().to(options.device)
    return student, make_teacher(student)


def take_steps(variant: str, options: argparse.Namespace) -> None:
    """Take a step for each line of the input, and print what it took as a line of JSON."""
    student, teacher = make_networks(options)
    device, config = student.device, student.config
    if variant == "plain":
        step = PlainStep(student, teacher)
    else:
        keep_freed_memory()  # as in training
        step = PackageStep(student, teacher, **SETTINGS[variant])
    shape = (1, *config.volume_size) if options.dimension == "3d" else (1, *config.image_size)
    generator = torch.Generator().manual_seed(1)
    views = tuple(
        torch.rand((options.batch_size, *shape), generator=generator).to(device) for _ in range(2)
    )
    for _ in sys.stdin:
        start = time.perf_counter()
        loss = step(views)
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
        if device.type == "cuda":
            peak = torch.cuda.max_memory_allocated()
        else:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"seconds": seconds, "gigabytes": peak / 1e9, "loss": loss}), flush=True)


class PackageStep:
    """The step as the training loop takes it."""

    def __init__(self, student, teacher, **settings):
        objective = SelfDistillationObjective(student.config.num_prototypes)
        self.distillation = SelfDistillation(student, teacher, objective, **settings)
        self.distillation.objective.to(student.device)
        self.update = StudentUpdate(student, teacher)

    def __call__(self, views):
        report = self.distillation.accumulate(views)
        self.update(1e-4, 0.04, 0.996)
        return report.loss.item()


if __name__ == "__main__":
    main()
