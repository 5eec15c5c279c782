"""Measures how fast views are made: from memory, from files, and from prepared data as in training.

    python benchmarks/views.py --folder3d ct --source-spacing 3 1 1 --folder2d radiographs

A sample is two views. Prepared data are made of the CT files, in a temporary folder. `per core` is
per second of this process's CPU time, which also means something on a machine that others use;
`by the clock` is per second and thread. Both are medians of all batches. With workers, the CPU time
is that of all processes.
"""

import argparse
import itertools
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import psutil
import torch

from unimiss_hf.data.loader import make_loader
from unimiss_hf.data.preparing.loop import prepare
from unimiss_hf.data.preparing.settings import PreparationSettings
from unimiss_hf.data.reading import cut_window, fit_window, read_record
from unimiss_hf.data.sample import find_sample_ct
from unimiss_hf.data.sources import open_source
from unimiss_hf.data.stream import SampleStream
from unimiss_hf.data.stream_settings import StreamSettings
from unimiss_hf.pretraining.feed import Feed
from unimiss_hf.pretraining.settings import PretrainingSettings
from unimiss_hf.pretraining.view_parameters import needed_region
from unimiss_hf.pretraining.views import (
    VolumeViewSettings,
    make_image_views,
    make_volume_views,
)
from unimiss_hf.training.host_memory import keep_freed_memory

# The official loader, two views of a CT sample, reading included, on one core.
OFFICIAL_SAMPLES_PER_SECOND = 23.0
SPACING = (3.0, 1.0, 1.0)
VOLUME_WINDOW, VOLUME_MINIMUM, IMAGE_WINDOW = (24, 172, 172), (16, 96, 96), (512, 512)
AIR = -1.0
# Prepared volumes are repeated, so that the beginning of an epoch counts as little as in training.
PREPARED_VOLUMES = 32
WARM_UP = 2

Sample = tuple[torch.Tensor, ...]


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()  # as in training
    # That a header's spacing looks invented.
    warnings.filterwarnings("ignore", message=".*a spacing of exactly.*")
    print(f"{arguments.samples} samples, batches of {arguments.batch_size}, ", end="")
    print(f"{arguments.threads} thread(s), torch {torch.__version__}\n")
    print(f"{'samples a second':50}{'per core':>10}{'by the clock':>14}{'x official':>12}")
    volumes = measure_volumes(arguments)
    with tempfile.TemporaryDirectory() as folder:
        prepared = prepare_volumes(volumes, Path(folder), arguments)
        measure_prepared(prepared, arguments)
        measure_images(arguments)
        print(f"\nOfficial: {OFFICIAL_SAMPLES_PER_SECOND:g} CT samples/s/core, reading included.")
        measure_scaling(prepared, arguments)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder3d", type=Path, help="NIfTI files; the sample CT by default")
    parser.add_argument("--folder2d", type=Path, help="radiographs; random images by default")
    parser.add_argument(
        "--source-spacing",
        type=float,
        nargs=3,
        metavar="MM",
        help="depth, height, width in mm, where headers of NIfTI files are wrong",
    )
    parser.add_argument("--samples", type=int, default=240, help="samples per measurement")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1, help="of this process")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count(), help="most workers; 0 shows no scaling"
    )
    return parser.parse_args()


def measure_volumes(arguments: argparse.Namespace) -> list[np.ndarray]:
    paths = files(arguments.folder3d, ".nii", ".nii.gz") or [find_sample_ct()]

    def read(path: Path) -> np.ndarray:
        grids = {"spacing": SPACING, "source_spacing": arguments.source_spacing}
        return read_record({"image": {"path": str(path)}}, "3d", **grids)

    def cut(volume: np.ndarray, seed: int) -> Sample:
        return cut_window(volume, VOLUME_WINDOW, VOLUME_MINIMUM, seed, AIR)

    volumes = [read(path) for path in paths]
    windows = [cut(volume, seed) for seed, volume in enumerate(volumes)]
    report = Report(arguments, make_volume_views, OFFICIAL_SAMPLES_PER_SECOND)
    report("CT: views of windows in memory", windows)
    report("CT: windows cut from volumes in memory", volumes, cut)
    few = min(arguments.samples, 24)
    report("CT: files read each time", paths, lambda path, seed: cut(read(path), seed), few)
    return volumes


def prepare_volumes(volumes: list[np.ndarray], folder: Path, arguments: argparse.Namespace) -> Path:
    """Prepare volumes, each several times."""
    sources = folder / "files"
    sources.mkdir()
    affine = np.diag([*reversed(SPACING), 1.0])
    for index, volume in enumerate(volumes):
        voxels = np.rint(volume[0] * 1024).astype(np.int16)
        first = sources / f"{index}-0.nii"
        nibabel.save(nibabel.Nifti1Image(voxels.transpose(), affine), first)
        for copy in range(1, -(-PREPARED_VOLUMES // len(volumes))):
            os.link(first, sources / f"{index}-{copy}.nii")
    shards = max(arguments.workers, 1)
    settings = PreparationSettings(dimension="3d", min_shards=shards, spacing=SPACING)
    prepare([sources], folder / "prepared", settings)
    return folder / "prepared"


def measure_prepared(folder: Path, arguments: argparse.Namespace) -> None:
    """Measure reading and views, each by itself and together as in training."""
    settings = VolumeViewSettings()
    batches = itertools.islice(read_prepared(folder, arguments, 0), WARM_UP + num_of(arguments))
    kept = []
    cpu, wall = timed(batches, kept.append)
    show("CT: prepared, what views need read each time", arguments, cpu, wall, None)

    def make(batch: dict) -> None:
        make_volume_views(batch["image"], batch["extent"], batch["seed"], settings, batch["start"])

    cpu, wall = timed(kept, make)
    show("CT: prepared, views of that in memory", arguments, cpu, wall, None)
    kept.clear()
    with_views = itertools.islice(feed(folder, arguments, 0), WARM_UP + num_of(arguments))
    cpu, wall = timed(with_views)
    title = "CT: prepared, both, as in training"
    show(title, arguments, cpu, wall, OFFICIAL_SAMPLES_PER_SECOND)


def read_prepared(folder: Path, arguments: argparse.Namespace, workers: int) -> Iterator[dict]:
    region = partial(needed_region, settings=VolumeViewSettings())
    stream = SampleStream(open_source(folder, "3d"), StreamSettings(), region=region)
    return iter(make_loader(stream, arguments.batch_size, workers))


def feed(folder: Path, arguments: argparse.Namespace, workers: int) -> Iterator:
    settings = PretrainingSettings(
        dataset_3d=[str(folder)],
        batch_size_3d=arguments.batch_size,
        num_workers=workers,
        max_steps=1,
    )
    endless = Feed(settings, "3d", open_source(folder, "3d"), torch.device("cpu"))
    try:
        while True:
            yield endless.next_batch()
    finally:
        endless.close()


def measure_images(arguments: argparse.Namespace) -> None:
    paths = files(arguments.folder2d, ".png", ".jpg", ".jpeg")
    generator = np.random.default_rng(0)
    images = [read_image(path) for path in paths] or [
        generator.uniform(0, 1, (1, 512, 512)).astype(np.float32) for _ in range(8)
    ]
    fitted = [fit_window(image, IMAGE_WINDOW) for image in images]
    report = Report(arguments, make_image_views, None)
    report("Radiographs: views of windows in memory", fitted)
    report(
        "Radiographs: images in memory fitted to them",
        images,
        lambda image, seed: fit_window(image, IMAGE_WINDOW),
    )
    if paths:
        report(
            "Radiographs: files read each time",
            paths,
            lambda path, seed: fit_window(read_image(path), IMAGE_WINDOW),
        )


def measure_scaling(folder: Path, arguments: argparse.Namespace) -> None:
    """Show what more workers bring: to read for a GPU that makes the views, and to make them."""
    if not arguments.workers:
        return
    print(f"\nPrepared CT with workers, {os.cpu_count()} cores; efficiency is that of each worker,")
    print("compared with none:\n")
    header = f"{'samples/s':>12}{'per core':>10}{'efficiency':>12}"
    print(f"{'':8}{'read, for views on a GPU':>34}{'views made by workers':>34}")
    print(f"{'workers':8}{header}{header}")
    counts = [0, *itertools.takewhile(lambda n: n < arguments.workers, (2**i for i in range(9)))]
    alone: dict[Callable, float] = {}
    for workers in [*counts, arguments.workers]:
        print(f"{workers:<8}", end="", flush=True)
        for source in (read_prepared, feed):
            speed, per_core = throughput(source(folder, arguments, workers), workers, arguments)
            alone.setdefault(source, speed)
            efficiency = speed / alone[source] / max(workers, 1)
            print(f"{speed:12.0f}{per_core:10.0f}{efficiency:12.2f}", end="", flush=True)
        print()


def throughput(
    batches: Iterator, workers: int, arguments: argparse.Namespace
) -> tuple[float, float]:
    """Samples in a second by the clock, and in a second of all processes' CPU time."""
    rounds = max(workers, 1)
    for _ in range(WARM_UP * rounds):
        next(batches)
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]

    def cpu_seconds() -> float:
        return sum(sum(process.cpu_times()[:2]) for process in processes)

    count = num_of(arguments) * rounds
    cpu, start = cpu_seconds(), time.perf_counter()
    for _ in range(count):
        next(batches)
    wall, cpu = time.perf_counter() - start, cpu_seconds() - cpu
    del batches
    samples = count * arguments.batch_size
    return samples / wall, samples / cpu


class Report:
    """Measures one way to the windows and prints it as a line of the table."""

    def __init__(self, arguments: argparse.Namespace, make_views: Callable, official: float | None):
        self.arguments = arguments
        self.make_views = make_views
        self.official = official

    def __call__(
        self,
        title: str,
        items: list,
        window: Callable[..., Sample] | None = None,
        samples: int | None = None,
    ) -> None:
        """Measure; without `window`, the items are windows and lie in batches beforehand."""
        batch_size = self.arguments.batch_size
        endless = itertools.cycle(items)

        def batch(number: int) -> Sample:
            seeds = range(number * batch_size, (number + 1) * batch_size)
            chosen = list(itertools.islice(endless, batch_size))
            if window is not None:
                chosen = [window(item, seed) for item, seed in zip(chosen, seeds, strict=True)]
            return *(torch.stack(parts) for parts in zip(*chosen, strict=True)), torch.tensor(seeds)

        numbers = range(WARM_UP + num_of(self.arguments, samples))
        batches = map(batch, numbers) if window is not None else [batch(n) for n in numbers]
        cpu, wall = timed(batches, lambda parts: self.make_views(*parts))
        show(title, self.arguments, cpu, wall, self.official)


def num_of(arguments: argparse.Namespace, samples: int | None = None) -> int:
    """How many batches are measured."""
    return -(-(samples or arguments.samples) // arguments.batch_size)


def timed(
    batches: Iterable, handle: Callable[..., object] = lambda batch: None
) -> tuple[float, float]:
    """The median of a batch's seconds, of the process's CPU and by the clock."""
    seconds = []
    began = (time.process_time(), time.perf_counter())
    for batch in batches:
        handle(batch)
        now = (time.process_time(), time.perf_counter())
        seconds.append(tuple(new - old for new, old in zip(now, began, strict=True)))
        began = now
    cpu, wall = zip(*seconds[WARM_UP:], strict=True)
    return statistics.median(cpu), statistics.median(wall)


def show(
    title: str, arguments: argparse.Namespace, cpu: float, wall: float, official: float | None
) -> None:
    per_core = arguments.batch_size / cpu
    by_clock = arguments.batch_size / wall / arguments.threads
    ratio = f"{per_core / official:.1f}" if official else ""
    print(f"{title:50}{per_core:10.1f}{by_clock:14.1f}{ratio:>12}", flush=True)


def files(folder: Path | None, *suffixes: str) -> list[Path]:
    if folder is None:
        return []
    found = sorted(path for path in folder.iterdir() if path.name.endswith(suffixes))
    if not found:
        raise FileNotFoundError(f"{folder} holds no file ending in {' or '.join(suffixes)}.")
    return found


def read_image(path: Path) -> np.ndarray:
    return read_record({"image": {"path": str(path)}}, "2d")


if __name__ == "__main__":
    main()
