"""Measures how long a CT takes from its file to a tensor, beside MONAI's transforms for the same.

    python benchmarks/processor.py [CT.nii.gz]

Both run in this process, in turn: reorientation to RAS+, resampling to 3 x 1 x 1 mm, windowing and
scaling. Without a file, the sample CT is read. Also prints what `import unimiss_hf` adds to
importing transformers' PreTrainedModel.
"""

import argparse
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import nibabel
import torch
from monai.transforms import Compose, LoadImage, Orientation, ScaleIntensityRange, Spacing

from unimiss_hf import MiTImageProcessor
from unimiss_hf.data.sample import find_sample_ct
from unimiss_hf.hounsfield_mit import AIR_HU, HU_SCALE, MAX_HU

SPACING = (3.0, 1.0, 1.0)
IMPORTS = """
import time
from transformers import PreTrainedModel
start = time.perf_counter()
import unimiss_hf
print(time.perf_counter() - start)
"""


def main() -> None:
    arguments = parse_arguments()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    path = arguments.ct or find_sample_ct()
    processor = MiTImageProcessor(spacing=SPACING)
    warnings.filterwarnings("ignore", category=FutureWarning)
    baseline = monai_transforms()
    ways: dict[str, Callable[[], object]] = {
        "reading and decompressing alone": lambda: nibabel.load(path).dataobj.get_unscaled(),
        "MONAI": lambda: baseline(path),
        "MiTImageProcessor": lambda: processor(path, return_tensors="pt"),
    }
    seconds: dict[str, list[float]] = {title: [] for title in ways}
    for title, way in ways.items():
        print(f"{title}: {describe(way())}")
    for _ in range(arguments.repeats):
        for title, way in ways.items():
            start = time.perf_counter()
            way()
            seconds[title].append(time.perf_counter() - start)
    reference = statistics.median(seconds["MONAI"])
    print(f"\n{path.name}, {torch.get_num_threads()} thread(s), {arguments.repeats} repeats\n")
    print(f"{'':34}{'median s':>10}{'min s':>10}{'x MONAI':>10}")
    for title, times in seconds.items():
        median = statistics.median(times)
        print(f"{title:34}{median:10.2f}{min(times):10.2f}{median / reference:10.2f}")
    imports = [import_seconds() for _ in range(arguments.repeats)]
    print(f"\nimport unimiss_hf after PreTrainedModel: median {statistics.median(imports):.2f} s")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ct", type=Path, nargs="?", help="a NIfTI file; the sample CT by default")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--threads", type=int, default=0, help="of torch; its own choice by default"
    )
    return parser.parse_args()


def monai_transforms() -> Compose:
    depth, height, width = SPACING
    return Compose(
        [
            LoadImage(ensure_channel_first=True),
            Orientation("RAS"),
            Spacing((width, height, depth)),
            ScaleIntensityRange(AIR_HU, MAX_HU, AIR_HU / HU_SCALE, MAX_HU / HU_SCALE, clip=True),
        ]
    )


def describe(result: object) -> str:
    array = result["pixel_values"] if hasattr(result, "keys") else result
    return f"{tuple(array.shape)}, mean {float(array.mean()):.4f}"


def import_seconds() -> float:
    command = [sys.executable, "-c", IMPORTS]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(result.stdout)


if __name__ == "__main__":
    main()
