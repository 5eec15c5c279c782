"""A folder of sample data: one set of settings each, files whole or not there, and its command."""

import argparse
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..image_reading_mit import read_volume
from .radiographs import RadiographGeometry, render_radiograph
from .whole_files import put_in_place

# Threads: one leaves a core idle between its operations.
_RENDERERS = 2


def require_range(least: Mapping[str, float], settings: Mapping[str, float]) -> None:
    """Refuse numbers that no sample can be made with.

    Args:
        least: The least value of each setting, by name; that of `voxel_spacing` is anything above
            0 mm.
        settings: What was given.

    Raises:
        ValueError: If one is below its least value, or not finite.
    """
    for name, smallest in least.items():
        if not smallest <= settings[name] < math.inf:
            raise ValueError(f"{name} is {settings[name]}; it must be at least {smallest}.")
    spacing = settings["voxel_spacing"]
    if not 0 < spacing < math.inf:
        raise ValueError(f"voxel_spacing is {spacing} mm; it must be a positive number.")


def claim_folder(folder: Path, name: str, settings: Mapping[str, float]) -> None:
    """Keep images of different settings out of one folder: note them in it, or compare.

    Args:
        folder: Where the sample is written; made if missing.
        name: Of the file that notes the settings.
        settings: That images depend on.

    Raises:
        NotADirectoryError: If the folder's path is that of a file.
        ValueError: If the folder holds other files, or was prepared with other settings.
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; the sample needs a folder of its own.")
    path = folder / name
    if not path.exists():
        others = {entry.name for entry in folder.glob("*") if not entry.name.startswith(".")}
        if others:
            raise ValueError(
                f"{folder} holds other files ({min(others)}, ...), which the sample could "
                "overwrite. Give a new folder or an empty one."
            )
        write_whole(path, (json.dumps(settings) + "\n").encode())
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON. Delete {folder} and prepare it again.") from error
    if found != settings:
        raise ValueError(
            f"{folder} was prepared with the settings {found}, but {settings} was asked for. Give "
            "another folder, or delete this one."
        )


def draw_geometry(
    random: np.random.Generator,
    image_size: int,
    *,
    view: float,
    turns: tuple[float, float],
    tilt: float,
    least_field: float,
) -> RadiographGeometry:
    """Vary the geometry of a usual view of the sample CT.

    Args:
        random: What is drawn from.
        image_size: Height and width in pixels.
        view: The usual view's angle in degrees: 0 behind the patient (PA).
        turns: Least and greatest deviation of the angle from it, in degrees.
        tilt: Greatest elevation to either side, in degrees.
        least_field: Least width of what is seen, in mm at the isocentre.
    """
    isocentre_to_detector = random.uniform(300, 380)
    source_to_detector = random.uniform(1500, 1900)
    source_to_isocentre = source_to_detector - isocentre_to_detector
    # The CT is 332 mm high: a larger field would show where it ends.
    field_of_view = random.uniform(least_field, 300)
    magnification = source_to_detector / source_to_isocentre
    return RadiographGeometry(
        angle=round(view + random.uniform(*turns), 1) % 360,
        elevation=random.uniform(-tilt, tilt),
        roll=random.uniform(-4, 4),
        isocentre=(random.uniform(-8, 8), random.uniform(-12, 12), random.uniform(-12, 12)),
        source_to_isocentre=source_to_isocentre,
        source_to_detector=source_to_detector,
        detector_size=(image_size, image_size),
        pixel_spacing=field_of_view * magnification / image_size,
    )


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; one that holds the same already is left alone.

    Raises:
        OSError: If it cannot be written.
    """
    if path.exists() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with put_in_place(path, path.parent) as partial:
        partial.write_bytes(content)


def write_png(path: Path, grey: np.ndarray) -> None:
    """Write a picture as 8-bit grey, whole or not at all.

    Args:
        path: The file.
        grey: `(height, width)`, 0 black to 1 white.

    Raises:
        OSError: If it cannot be written.
    """
    content = io.BytesIO()
    Image.fromarray(np.rint(grey * 255.0).astype(np.uint8)).save(content, format="PNG")
    write_whole(path, content.getvalue())


def render_radiographs(
    source: Path,
    voxel_spacing: float,
    radiographs: Mapping[Path, RadiographGeometry],
) -> None:
    """Render radiographs of a CT and write them as PNG, each complete or not there.

    Args:
        source: The CT's file.
        voxel_spacing: Of the CT for rendering, in mm.
        radiographs: File → geometry.
    """
    spacing = (voxel_spacing,) * 3
    volume = read_volume(source, spacing=spacing)

    def write(path: Path) -> None:
        write_png(path, render_radiograph(volume, spacing, radiographs[path]).numpy())

    render_all(write, list(radiographs), "Rendering radiographs")


def render_all(render: Callable[[Any], None], items: Sequence[Any], description: str) -> None:
    """Render items in a few threads, with a bar; Ctrl-C ends it behind those under way.

    Args:
        render: Renders one item and writes it.
        items: What it is called with.
        description: What the bar says.
    """
    with ThreadPoolExecutor(_RENDERERS) as pool:
        rendered = pool.map(render, items)
        try:
            for _ in tqdm(rendered, total=len(items), desc=description, unit="image"):
                pass
        except BaseException:
            # Ctrl-C does not wait for the others.
            pool.shutdown(cancel_futures=True)
            raise


def run_command(
    prepare: Callable[..., Path],
    program: str,
    description: str,
    num_radiographs: int,
    arguments: list[str] | None = None,
) -> Path:
    """Prepare sample data from a command line.

    Args:
        prepare: Takes the folder, `num_radiographs` and `seed`, and returns the folder.
        program: The module that is run.
        description: What it does, for its help.
        num_radiographs: How many radiographs there are by default.
        arguments: The words behind the program's name; those of the process by default.

    Returns:
        The folder.

    Raises:
        SystemExit: If the words or the folder cannot be had, with a message that says why.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {program}", description=description)
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="where to write")
    parser.add_argument(
        "--num_radiographs",
        type=int,
        default=num_radiographs,
        help="how many radiographs (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of the views' variations (default: %(default)s)"
    )
    words = parser.parse_args(arguments)
    try:
        return prepare(words.folder, num_radiographs=words.num_radiographs, seed=words.seed)
    except (OSError, ValueError) as error:
        parser.error(str(error))
