"""Prints what each switch for speed on a GPU brings a pretraining step.

    python benchmarks/gpu_step.py                  # one H100: MiT-small, batch 24, 2D and 3D
    python benchmarks/gpu_step.py --device cpu --size tiny --batch-size 1 --prototypes 256 \
        --dimensions 2d --steps 1 --warmup 1       # a look at it without a GPU

The first row is the step in IEEE float32 with none of the switches; each of the next adds one, up
to all. Each runs in a process of its own. A step makes two views of each sample (on the CPU until
the last switch), runs teacher and student, clips, steps and moves the teacher; its samples lie in
the host's memory from the start. As in training, the device is waited for once a step. What is
printed are medians; the loss is that of the last step, by which you see that all do the same.

`share` is the step's products (counted once, without what checkpoints make again) over its time,
as part of what this device reaches in one large matrix product of the row's precision; products in
16 bits are held against those in 16 bits.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from unimiss_hf import MiTConfig, MiTForPreTraining
from unimiss_hf.pretraining.acceleration import choose_float32_arithmetic, compile_blocks
from unimiss_hf.pretraining.distillation import SelfDistillation, make_teacher
from unimiss_hf.pretraining.objective import SelfDistillationObjective
from unimiss_hf.pretraining.settings import PretrainingSettings
from unimiss_hf.pretraining.update import StudentUpdate
from unimiss_hf.pretraining.views import make_image_views, make_volume_views
from unimiss_hf.training.optimizers import parameter_groups, set_hyperparameters

PRECISIONS = ("float32", "tf32", "bfloat16")
# Compiling takes minutes.
LONGEST_SECONDS = 3600
LEARNING_RATE, WEIGHT_DECAY, TEACHER_MOMENTUM = 1e-4, 0.04, 0.996


@dataclass(frozen=True)
class Switches:
    """What a row of the table is measured with."""

    autocast: bool = False
    sdpa: bool = False
    compiled: bool = False
    fused_optimizer: bool = False
    foreach_teacher: bool = False
    views_on_device: bool = False
    tf32: bool = False


PLAIN = Switches()
AUTOCAST = replace(PLAIN, autocast=True)
SDPA = replace(AUTOCAST, sdpa=True)
COMPILED = replace(SDPA, compiled=True)
FUSED = replace(COMPILED, fused_optimizer=True)
FOREACH = replace(FUSED, foreach_teacher=True)
ALL = replace(FOREACH, views_on_device=True)
VARIANTS = {
    "float32": PLAIN,
    "+ bf16 autocast": AUTOCAST,
    "+ SDPA": SDPA,
    "+ compiled blocks": COMPILED,
    "+ fused AdamW": FUSED,
    "+ foreach teacher": FOREACH,
    "+ views on device": ALL,
    "all, not compiled": replace(ALL, compiled=False),
    "all, in float32": replace(ALL, autocast=False),
    "all, in TF32": replace(ALL, autocast=False, tf32=True),
}


def main(arguments: list[str] | None = None, run: Callable[..., dict] | None = None) -> None:
    """Measure and print.

    Args:
        arguments: Words of the command.
        run: Measures one thing and returns its numbers; in a process of its own by default.
    """
    options = parse(arguments)
    run = run or partial(run_alone, arguments=sys.argv[1:] if arguments is None else arguments)
    if options.child:
        print(json.dumps(measure(options.child, options.dimensions[0], options)))
        return
    peaks = run("peaks", options.dimensions[0], options)
    if "error" in peaks:
        sys.exit(f"The largest matrix product could not be measured: {peaks['error']}")
    print(
        f"{peaks['device']}, torch {torch.__version__}: matrix products of "
        f"{options.matrix_size} x {options.matrix_size} at "
        + ", ".join(f"{peaks[name] / 1e12:.3g} TFLOP/s in {name}" for name in PRECISIONS)
    )
    for dimension in options.dimensions:
        flops = count_flops(dimension, options) * options.batch_size
        print(
            f"\nMiT-{options.size}, {dimension}, batch {options.batch_size}, {options.prototypes} "
            f"prototypes: {flops / 1e12:.3g} TFLOP a step\n"
            f"{'':<20}{'ms/step':>9}{'samples/s':>11}{'peak GB':>9}{'share':>8}{'speed':>8}"
            f"{'loss':>11}"
        )
        first = None
        for name in options.variants:
            result = run(name, dimension, options)
            if "error" not in result:
                first = first or result
            print(row(name, result, first, flops, peaks, options.batch_size), flush=True)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=("tiny", "small"), default="small")
    parser.add_argument("--dimensions", nargs="+", choices=("2d", "3d"), default=["2d", "3d"])
    parser.add_argument("--batch-size", type=int, default=24)
    parser.add_argument("--prototypes", type=int, default=65536)
    parser.add_argument("--samples-per-backward", type=int, help="default: the whole batch")
    parser.add_argument("--steps", type=int, default=10, help="timed steps")
    parser.add_argument("--warmup", type=int, default=3, help="steps before them, untimed")
    parser.add_argument("--device", default="cuda", help="cuda or cpu")
    parser.add_argument("--matrix-size", type=int, help="default: 8192; 1024 on a CPU")
    parser.add_argument("--image-size", type=int, nargs=2, help="of views; default: the recipe's")
    parser.add_argument("--volume-size", type=int, nargs=3, help="of views; default: the recipe's")
    parser.add_argument("--backend", default="inductor", help="of torch.compile")
    parser.add_argument(
        "--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS), help="which rows"
    )
    parser.add_argument("--child", choices=["peaks", *VARIANTS], help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.matrix_size is None:
        options.matrix_size = 1024 if options.device == "cpu" else 8192
    return options


def run_alone(name: str, dimension: str, options: argparse.Namespace, arguments: list[str]) -> dict:
    """Measure one thing in a process of its own, which may fail."""
    command = [sys.executable, str(Path(__file__)), *arguments]
    command += ["--dimensions", dimension, "--child", name]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_SECONDS)
    except subprocess.TimeoutExpired:
        return {"error": f"took longer than {LONGEST_SECONDS} s"}
    if result.returncode != 0:
        told = [line for line in result.stderr.splitlines() if line.strip()]
        return {"error": told[-1] if told else f"ended with {result.returncode}"}
    return json.loads(result.stdout.splitlines()[-1])


def row(
    name: str, result: dict, first: dict | None, flops: float, peaks: dict, batch_size: int
) -> str:
    """Write one row of the table; `first` is what speeds are compared with."""
    if "error" in result:
        return f"{name:<20}  {result['error'][:200]}"
    seconds = result["seconds"]
    share = flops / seconds / peaks[result["precision"]]
    return (
        f"{name:<20}{1e3 * seconds:>9.1f}{batch_size / seconds:>11.1f}"
        f"{result['gigabytes']:>9.2f}{share:>8.1%}{first['seconds'] / seconds:>7.2f}x"
        f"{result['loss']:>11.5f}"
    )


# -------------------------------------------------------------------------------- one process


def measure(name: str, dimension: str, options: argparse.Namespace) -> dict:
    """Measure the peaks of matrix products, or one variant of the step."""
    device = torch.device(options.device)
    try:
        if name == "peaks":
            return measure_peaks(device, options.matrix_size)
        return measure_step(VARIANTS[name], dimension, device, options)
    except torch.cuda.OutOfMemoryError as error:
        return {"error": f"out of memory ({str(error).split('. ')[0]})"}


def measure_peaks(device: torch.device, size: int) -> dict:
    """FLOP/s of one large matrix product in each precision."""
    result = {"device": device.type}
    if device.type == "cuda":
        result["device"] = torch.cuda.get_device_name(device)
    for name in PRECISIONS:
        choose_float32_arithmetic(tf32=name == "tf32")
        dtype = torch.bfloat16 if name == "bfloat16" else torch.float32
        factors = [torch.randn(size, size, device=device, dtype=dtype) for _ in range(2)]
        product = torch.empty(size, size, device=device, dtype=dtype)
        seconds = timed(partial(torch.mm, *factors, out=product), device, warmup=5, repeats=20)
        result[name] = 2 * size**3 / statistics.median(seconds)
    return result


def timed(
    function: Callable[[], object], device: torch.device, warmup: int, repeats: int
) -> list[float]:
    """Seconds of each call, the device's work included."""
    wait = partial(torch.cuda.synchronize, device) if device.type == "cuda" else nullcontext
    for _ in range(warmup):
        function()
    seconds = []
    for _ in range(repeats):
        wait()
        start = time.perf_counter()
        function()
        wait()
        seconds.append(time.perf_counter() - start)
    return seconds


def measure_step(
    switches: Switches, dimension: str, device: torch.device, options: argparse.Namespace
) -> dict:
    """Time, memory and loss of one variant of the step."""
    torch.manual_seed(0)
    choose_float32_arithmetic(switches.tf32)
    step = Step(switches, dimension, device, options)
    for _ in range(options.warmup):
        step()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    seconds = timed(step, device, warmup=0, repeats=options.steps)
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device)
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    precision = "bfloat16" if switches.autocast else "tf32" if switches.tf32 else "float32"
    return {
        "seconds": statistics.median(seconds),
        "gigabytes": peak / 1e9,
        "precision": precision,
        "loss": step.loss,
    }


class Step:
    """A whole optimiser step: views, teacher, student, update."""

    def __init__(
        self, switches: Switches, dimension: str, device: torch.device, options: argparse.Namespace
    ):
        self.switches, self.device = switches, device
        config = getattr(MiTConfig, options.size)(num_prototypes=options.prototypes)
        attention = "sdpa" if switches.sdpa else "eager"
        self.student = MiTForPreTraining._from_config(config, attn_implementation=attention)
        self.student.train().to(device)
        self.teacher = make_teacher(self.student)
        if switches.compiled:
            for model in (self.student, self.teacher):
                compile_blocks(model, options.backend)
        autocast = nullcontext
        if switches.autocast:
            autocast = partial(torch.autocast, device.type, dtype=torch.bfloat16)
        self.distillation = SelfDistillation(
            self.student,
            self.teacher,
            SelfDistillationObjective(options.prototypes).to(device),
            autocast=autocast,
            samples_per_backward=options.samples_per_backward,
        )
        # Made of the same groups as the package's own.
        self.optimizer = torch.optim.AdamW(
            parameter_groups(self.student, 0.0),
            lr=0.0,
            **({"fused": True} if switches.fused_optimizer else {"foreach": False}),
        )
        self.update = StudentUpdate(self.student, self.teacher, self.optimizer)
        self.make_views = self.prepare_views(dimension, options)
        self.loss = 0.0

    def prepare_views(
        self, dimension: str, options: argparse.Namespace
    ) -> Callable[[], tuple[torch.Tensor, torch.Tensor]]:
        """Put windows of a batch into memory, as a reader leaves them."""
        sizes = {}
        if options.image_size:
            sizes["image_size"] = list(options.image_size)
        if options.volume_size:
            sizes["volume_size"] = list(options.volume_size)
        settings = PretrainingSettings(**sizes)
        if dimension == "2d":
            window, make, own = settings.image_window, make_image_views, settings.image_views()
        else:
            window, make, own = settings.volume_window, make_volume_views, settings.volume_views()
        generator = torch.Generator().manual_seed(1)
        windows = torch.rand((options.batch_size, 1, *window), generator=generator)
        if self.device.type == "cuda":
            windows = windows.pin_memory()
        extents = torch.tensor([window] * options.batch_size)
        seeds = torch.arange(options.batch_size)

        def make_views() -> tuple[torch.Tensor, torch.Tensor]:
            if self.switches.views_on_device:
                on_device = windows.to(self.device, non_blocking=True)
                return make(on_device, extents, seeds, own)
            first, second = make(windows, extents, seeds, own)
            return first.to(self.device), second.to(self.device)

        return make_views

    def __call__(self) -> None:
        """Take the step, in the order of the training loop."""
        report = self.distillation.accumulate(self.make_views())
        norm = self.update.clip().norm()
        self.loss, norm = torch.stack((report.loss.float(), norm.float())).tolist()
        self.update.require_finite(norm)
        if self.switches.foreach_teacher:
            self.update.step(LEARNING_RATE, WEIGHT_DECAY, TEACHER_MOMENTUM)
            return
        set_hyperparameters(self.optimizer, LEARNING_RATE, WEIGHT_DECAY)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            for own, other in zip(
                self.teacher.parameters(), self.student.parameters(), strict=True
            ):
                own.mul_(TEACHER_MOMENTUM).add_(other, alpha=1 - TEACHER_MOMENTUM)


def count_flops(dimension: str, options: argparse.Namespace) -> float:
    """FLOPs of one sample's products in a step, counted without computing them."""
    config = getattr(MiTConfig, options.size)(num_prototypes=options.prototypes)
    with torch.device("meta"):
        student = MiTForPreTraining._from_config(config).train()
        objective = SelfDistillationObjective(options.prototypes)
        if dimension == "2d":
            size = options.image_size or config.image_size
        else:
            size = options.volume_size or config.volume_size
        views = torch.rand(1, 1, *size), torch.rand(1, 1, *size)
    with FlopCounterMode(display=False) as counter:
        SelfDistillation(student, make_teacher(student), objective).accumulate(views)
    return float(counter.get_total_flops())


if __name__ == "__main__":
    main()
