"""Measures what labelling a whole CT takes: seconds, and the most memory that the process held.

    python benchmarks/whole_volume.py                       # 512 x 512 x 600 voxels, 104 classes
    python benchmarks/whole_volume.py --size tiny --overlap 0

The CT, of 0.8 x 0.8 x 1 mm, is noise that the processor brings to `--spacing`; its labels lie on
its own grid. The network has random weights, which changes neither time nor memory, and, unless a
published size is asked for, few channels: what is measured then is what joins windows, interpolates
logits and chooses labels. It runs in a process of its own, whose peak resident memory is that of
everything: the libraries, the CT, the prepared volume, windows, logits and labels.
"""

import argparse
import json
import math
import resource
import subprocess
import sys
import time

import nibabel
import numpy as np
import torch

from unimiss_hf import MiTConfig, MiTForSemanticSegmentation, MiTImageProcessor
from unimiss_hf.whole_prediction_mit import predict_labels

FEW_CHANNELS = {
    "stem_channels": 4,
    "hidden_sizes": [8, 8, 16, 16],
    "depths": [1, 1, 1, 1],
    "num_attention_heads": [1, 1, 2, 2],
    "decoder_hidden_sizes": [16, 8, 8],
    "decoder_depths": [1, 1, 1],
    "decoder_num_attention_heads": [2, 1, 1],
}
SIZES = {
    "few channels": lambda **settings: MiTConfig(**FEW_CHANNELS, **settings),
    "tiny": MiTConfig.tiny,
    "small": MiTConfig.small,
}


def main() -> None:
    arguments = parse_arguments()
    if arguments.child:
        print(json.dumps(label_a_volume(arguments)))
        return
    result = subprocess.run(
        [sys.executable, __file__, "--child", *sys.argv[1:]],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found = json.loads(result.stdout.splitlines()[-1])
    logits = math.prod(found["prepared"]) * arguments.classes * 4 / 1e9
    native = math.prod(arguments.shape) * arguments.classes * 4 / 1e9
    print(f"CT of {arguments.shape} voxels, {arguments.classes} classes, MiT: {arguments.size}")
    print(f"prepared (depth, height, width): {tuple(found['prepared'])} at {arguments.spacing} mm")
    print(f"overlap {arguments.overlap:g}, batches of {arguments.batch_size}, {arguments.device}")
    print(f"all logits would take {logits:.1f} GB there and {native:.1f} GB on the CT's grid\n")
    for title, name, unit in (
        ("network and libraries", "start", "GB"),
        ("with the CT, and prepared", "prepared_peak", "GB"),
        ("peak of all", "peak", "GB"),
        ("preparing", "preparing", "s"),
        ("labelling", "labelling", "s"),
    ):
        print(f"{title:28}{found[name]:8.2f} {unit}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument(
        "--shape", type=int, nargs=3, default=[512, 512, 600], help="x, y, z of the CT in voxels"
    )
    parser.add_argument("--classes", type=int, default=104)
    parser.add_argument("--size", choices=SIZES, default="few channels")
    parser.add_argument(
        "--spacing", type=float, nargs=3, default=[3.0, 1.0, 1.0], help="depth, height, width in mm"
    )
    parser.add_argument("--overlap", type=float, default=0.5)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--accumulate-on", default="cpu")
    parser.add_argument("--threads", type=int)
    return parser.parse_args()


def label_a_volume(arguments: argparse.Namespace) -> dict:
    """Prepare and label one volume in this process."""
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    config = SIZES[arguments.size](num_labels=arguments.classes, deep_supervision=False)
    model = MiTForSemanticSegmentation(config).eval().to(arguments.device)
    found = {"start": peak_gigabytes()}
    begin = time.perf_counter()
    voxels = np.random.default_rng(0).integers(-1000, 1000, arguments.shape, dtype=np.int16)
    image = nibabel.Nifti1Image(voxels, np.diag([0.8, 0.8, 1.0, 1.0]))
    processor = MiTImageProcessor(spacing=arguments.spacing)
    batch = processor(image, return_tensors="pt")
    found["preparing"] = time.perf_counter() - begin
    found["prepared"] = batch["pixel_values"].shape[2:]
    found["prepared_peak"] = peak_gigabytes()
    begin = time.perf_counter()
    labels = predict_labels(
        model,
        batch["pixel_values"],
        batch.grids[0].grid,
        overlap=arguments.overlap,
        batch_size=arguments.batch_size,
        accumulate_on=arguments.accumulate_on,
    )
    found["labelling"] = time.perf_counter() - begin
    found["peak"] = peak_gigabytes()
    if labels.shape != tuple(arguments.shape[::-1]):
        raise RuntimeError(f"labels have shape {labels.shape}")
    return found


def peak_gigabytes() -> float:
    """The most resident memory that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


if __name__ == "__main__":
    main()
