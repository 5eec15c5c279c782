"""Measures how fast views are made: from memory, with cutting, and with reading files each time.

    python benchmarks/views.py --folder3d ct --folder2d radiographs

A sample is two views. `per core` is per second and thread.
"""

import argparse
import itertools
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from unimiss_hf.data.reading import cut_window, fit_window, read_record
from unimiss_hf.pretraining.views import make_image_views, make_volume_views

# The official loader, two views of a CT sample, reading included, on one core.
OFFICIAL_SAMPLES_PER_SECOND = 23.0
VOLUME_WINDOW, VOLUME_MINIMUM, IMAGE_WINDOW = (24, 172, 172), (16, 96, 96), (512, 512)
AIR = -1.0
# Some sources state the grid of the files wrongly; speed is measured on the native one.
NATIVE_GRID = None

Batch = tuple[torch.Tensor, torch.Tensor]


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    print(f"{arguments.samples} samples, batches of {arguments.batch_size}, ", end="")
    print(f"{arguments.threads} thread(s), torch {torch.__version__}\n")
    print(f"{'':44}{'samples/s/core':>15}{'views/s/core':>14}{'x official':>12}")
    measure_volumes(arguments)
    measure_images(arguments)
    print(f"\nOfficial: {OFFICIAL_SAMPLES_PER_SECOND:g} CT samples/s/core, reading included.")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder3d", type=Path, help="NIfTI files; random volumes by default")
    parser.add_argument("--folder2d", type=Path, help="radiographs; random images by default")
    parser.add_argument("--samples", type=int, default=96, help="samples per measurement")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def measure_volumes(arguments: argparse.Namespace) -> None:
    paths = files(arguments.folder3d, ".nii", ".nii.gz")
    generator = np.random.default_rng(0)
    volumes = [read_volume(path) for path in paths] or [
        generator.uniform(-1, 1, (1, 24, 250, 250)).astype(np.float32) for _ in range(8)
    ]

    def cut(volume: np.ndarray, seed: int) -> Batch:
        return cut_window(volume, VOLUME_WINDOW, VOLUME_MINIMUM, seed, AIR)

    windows = [cut(volume, seed) for seed, volume in enumerate(volumes)]
    report = Report(arguments, make_volume_views, OFFICIAL_SAMPLES_PER_SECOND)
    report("CT: views of windows in memory", windows)
    report("CT: windows cut from volumes in memory", volumes, cut)
    if paths:
        report("CT: files read each time", paths, lambda path, seed: cut(read_volume(path), seed))


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


class Report:
    """Measures one way to the windows and prints it as a line of the table."""

    def __init__(self, arguments: argparse.Namespace, make_views: Callable, official: float | None):
        self.arguments = arguments
        self.make_views = make_views
        self.official = official

    def __call__(self, title: str, items: list, window: Callable[..., Batch] | None = None) -> None:
        """Measure; without `window`, the items are windows and lie in batches beforehand."""
        batch_size = self.arguments.batch_size
        endless = itertools.cycle(items)

        def batch(number: int) -> tuple[torch.Tensor, ...]:
            seeds = range(number * batch_size, (number + 1) * batch_size)
            chosen = list(itertools.islice(endless, batch_size))
            if window is not None:
                chosen = [window(item, seed) for item, seed in zip(chosen, seeds, strict=True)]
            return *(torch.stack(parts) for parts in zip(*chosen, strict=True)), torch.tensor(seeds)

        self.make_views(*batch(0))
        numbers = range(1, 1 + -(-self.arguments.samples // batch_size))
        batches = map(batch, numbers) if window is not None else [batch(n) for n in numbers]
        start = time.perf_counter()
        for parts in batches:
            self.make_views(*parts)
        elapsed = time.perf_counter() - start
        speed = len(numbers) * batch_size / elapsed / self.arguments.threads
        ratio = f"{speed / self.official:.1f}" if self.official else ""
        print(f"{title:44}{speed:15.1f}{2 * speed:14.1f}{ratio:>12}")


def files(folder: Path | None, *suffixes: str) -> list[Path]:
    if folder is None:
        return []
    found = sorted(path for path in folder.iterdir() if path.name.endswith(suffixes))
    if not found:
        raise FileNotFoundError(f"{folder} holds no file ending in {' or '.join(suffixes)}.")
    return found


def read_volume(path: Path) -> np.ndarray:
    return read_record({"image": {"path": str(path)}}, "3d", spacing=NATIVE_GRID)


def read_image(path: Path) -> np.ndarray:
    return read_record({"image": {"path": str(path)}}, "2d")


if __name__ == "__main__":
    main()
