"""Draws one slice of a CT as the image processor sees it, in each of the named windows.

python examples/show_windows.py CT.nii.gz --output windows.png
python examples/show_windows.py FOLDER_OF_DICOM_SLICES --level 50 --width 350
"""

import argparse
import sys
from pathlib import Path

from unimiss_hf import MiTImageProcessor
from unimiss_hf.drawing import new_figure, save_figure
from unimiss_hf.hounsfield_mit import WINDOWS, window_range


def main() -> int:
    arguments = parse_arguments()
    windows = dict(WINDOWS)
    if arguments.level is not None:
        windows["given"] = (arguments.level, arguments.width)
    try:
        figure = draw(arguments.ct, arguments.slice, windows)
        print(f"Figure: {save_figure(figure, arguments.output)}")
    except (ValueError, OSError, TypeError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ct", type=Path, help="a NIfTI file, or a folder of DICOM slices")
    parser.add_argument("--output", type=Path, default=Path("windows.png"))
    parser.add_argument("--slice", type=int, help="from the feet upwards; the middle by default")
    parser.add_argument("--level", type=float, help="of one more window, in HU")
    parser.add_argument("--width", type=float, help="of one more window, in HU")
    arguments = parser.parse_args()
    if (arguments.level is None) != (arguments.width is None):
        parser.error("--level and --width go together")
    return arguments


def draw(ct: Path, index: int | None, windows: dict[str, tuple[float, float]]):
    """Draw the slice as radiologists hang it: anterior at the top, the patient's right at left."""
    processor = MiTImageProcessor(spacing=(3.0, 1.0, 1.0))
    (volume,) = processor(ct, window=None, scaling=(0, 1))["pixel_values"]
    if volume.ndim != 4:
        raise ValueError(f"{ct} is one image; a CT volume is needed.")
    index = volume.shape[1] // 2 if index is None else index
    if not 0 <= index < volume.shape[1]:
        raise ValueError(f"--slice {index}: {ct} has slices 0 to {volume.shape[1] - 1}.")
    shown = volume[0, index, ::-1, ::-1]
    figure = new_figure(2.6 * len(windows), 3.0)
    axes = figure.subplots(1, len(windows))
    for axis, (name, window) in zip(axes, windows.items(), strict=True):
        low, high = window_range(window)
        axis.imshow(shown, cmap="gray", vmin=low, vmax=high)
        axis.set_title(f"{name}\n{low:g} to {high:g} HU", fontsize=9)
        axis.axis("off")
    return figure


if __name__ == "__main__":
    sys.exit(main())
