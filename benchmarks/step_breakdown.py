"""Where the time of a pretraining step goes, from waiting for samples to moving the teacher."""

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import nibabel
import numpy as np
import torch
from PIL import Image

from unimiss_hf import MiTForPreTraining
from unimiss_hf.pretraining.distillation import SelfDistillation
from unimiss_hf.pretraining.feed import Feed, open_dataset
from unimiss_hf.pretraining.objective import SelfDistillationObjective
from unimiss_hf.pretraining.settings import PretrainingSettings
from unimiss_hf.pretraining.update import StudentUpdate

# Random inputs, when no folder is given: (depth, height, width) in voxels of 3x1x1 mm; pixels.
NUM_FILES, VOLUME_SIZE, IMAGE_SIZE = 8, (40, 256, 256), (512, 512)
PARTS = (
    "data wait",
    "views",
    "teacher",
    "student forward",
    "head and loss",
    "backward",
    "clipping",
    "optimiser",
    "EMA",
)


def print_breakdown(
    student: MiTForPreTraining, teacher: MiTForPreTraining, options: argparse.Namespace
) -> None:
    """Run steps on samples that are read as in training, and print the parts of their time."""
    step = TimedStep(student, teacher, options)
    with tempfile.TemporaryDirectory() as folder:
        data = options.folder or make_files(Path(folder), options.dimension)
        feed = make_feed(data, student.device, options)
        steps = [step(feed) for _ in range(options.steps + 1)][1:]
        feed.close()
    whole = statistics.median(sum(seconds.values()) for seconds in steps)
    print(
        f"Median of {len(steps)} steps on {options.folder or 'random files'}, "
        f"{options.workers} reading processes"
    )
    print(f"{'part':<17}{'seconds':>9}{'share':>8}")
    for part in PARTS:
        seconds = statistics.median(step[part] for step in steps)
        print(f"{part:<17}{seconds:>9.3f}{seconds / whole:>8.1%}")
    print(f"{'step':<17}{whole:>9.3f}")


class TimedStep:
    """A step of the package, with a clock between its parts."""

    def __init__(
        self, student: MiTForPreTraining, teacher: MiTForPreTraining, options: argparse.Namespace
    ):
        self.device = student.device
        self.seconds: dict[str, float] = defaultdict(float)
        objective = SelfDistillationObjective(student.config.num_prototypes).to(student.device)
        self.distillation = SelfDistillation(
            student,
            teacher,
            objective,
            forward=self.timed("student forward", student.forward),
            backward=self.timed("backward", torch.Tensor.backward),
            samples_per_backward=options.samples_per_backward,
            slice_stride=options.slice_stride,
        )
        run_teacher = self.timed("teacher", self.distillation._run_teacher)
        self.distillation._run_teacher = run_teacher
        self.update = StudentUpdate(student, teacher)
        self.update.optimizer.register_step_pre_hook(lambda *_: self.note("optimiser begins"))
        self.update.optimizer.register_step_post_hook(lambda *_: self.note("optimiser ends"))
        student.projection_head.register_forward_pre_hook(lambda *_: self.note("head begins"))
        student.projection_head.register_forward_hook(lambda *_: self.end_of_head())
        self.times: dict[str, float] = {}

    def __call__(self, feed: Feed) -> dict[str, float]:
        self.seconds.clear()
        seconds = self.seconds
        batch = feed.next_batch()
        seconds["data wait"], seconds["views"] = batch.seconds_waited, batch.seconds_on_views
        with self.clock("accumulation"):
            self.distillation.accumulate(batch.views)
        self.note("update begins")
        self.update(1e-4, 0.04, 0.996)
        self.note("update ends")
        # What accumulation does beside the network is comparing with prototypes, and the loss.
        seconds["student forward"] -= seconds["projection"]
        networks = ("teacher", "student forward", "backward")
        seconds["head and loss"] = seconds["accumulation"] - sum(seconds[part] for part in networks)
        for part, start, end in (
            ("clipping", "update begins", "optimiser begins"),
            ("optimiser", "optimiser begins", "optimiser ends"),
            ("EMA", "optimiser ends", "update ends"),
        ):
            seconds[part] = self.times[end] - self.times[start]
        return {part: seconds[part] for part in PARTS}

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def note(self, moment: str) -> None:
        self.times[moment] = self.now()

    def end_of_head(self) -> None:
        self.seconds["projection"] += self.now() - self.times["head begins"]

    @contextmanager
    def clock(self, part: str) -> Iterator[None]:
        start = self.now()
        yield
        self.seconds[part] += self.now() - start

    def timed(self, part: str, function: Callable) -> Callable:
        def timed_function(*arguments, **keywords):
            with self.clock(part):
                return function(*arguments, **keywords)

        return timed_function


def make_feed(data: Path, device: torch.device, options: argparse.Namespace) -> Feed:
    dimension = options.dimension
    settings = PretrainingSettings(
        **{f"dataset_{dimension}": [str(data)], f"batch_size_{dimension}": options.batch_size},
        num_workers=options.workers,
        crops_per_volume=options.crops_per_volume,
    )
    return Feed(settings, dimension, open_dataset(settings, dimension), device)


def make_files(folder: Path, dimension: str) -> Path:
    generator = np.random.default_rng(0)
    for index in range(NUM_FILES):
        if dimension == "2d":
            pixels = generator.integers(0, 256, IMAGE_SIZE, dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{index}.png")
        else:
            voxels = generator.integers(-1024, 1024, VOLUME_SIZE, dtype=np.int16)
            affine = np.diag([1.0, 1.0, 3.0, 1.0])
            nibabel.Nifti1Image(voxels.transpose(2, 1, 0), affine).to_filename(
                folder / f"{index}.nii"
            )
    return folder
