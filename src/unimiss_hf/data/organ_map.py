"""Five organs of the sample CT, as the package that carries it labels them."""

import csv
from pathlib import Path

import nibabel
import numpy as np

from .sample import SAMPLE_PACKAGE, find_sample_ct

# Each organ's structures in the package's table: whole names, or how they begin.
_STRUCTURES = {
    "lungs": ("lung_",),
    "heart": ("heart", "atrial_appendage_"),
    "aorta": ("aorta",),
    "spine": ("vertebrae_",),
    "liver": ("liver",),
}
ORGANS = tuple(_STRUCTURES)
"""Names; the organ map holds 1 for the first, and so on."""

_LABELS_NAME, _TABLE_NAME = "mask.nii.gz", "structures.csv"


def read_structures() -> tuple[nibabel.Nifti1Image, dict[int, str]]:
    """Open the label map of all structures of the sample CT, on its grid.

    Returns:
        The map, uint8, 0 where nothing is labelled, and the structures' names by their numbers.

    Raises:
        FileNotFoundError: if the package with the CT is not installed, or does not hold the files.
    """
    folder = find_sample_ct().parent
    for name in (_LABELS_NAME, _TABLE_NAME):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder} has no {name}, which says where the organs of the sample CT are. "
                f"Install {SAMPLE_PACKAGE} again."
            )
    with (folder / _TABLE_NAME).open(encoding="utf-8", newline="") as file:
        names = {int(row["id"]): row["structure"] for row in csv.DictReader(file)}
    return nibabel.load(folder / _LABELS_NAME), names


def read_organ_map() -> nibabel.Nifti1Image:
    """Read which voxels of the sample CT belong to which of [`ORGANS`].

    Returns:
        A uint8 image on the CT's grid: 0 for none of them, 1 for the first, and so on.

    Raises:
        FileNotFoundError: as `read_structures` does.
        ValueError: if the package's table names none of an organ's structures.
    """
    structures, names = read_structures()
    numbers = np.zeros(256, dtype=np.uint8)
    for number, (organ, parts) in enumerate(_STRUCTURES.items(), start=1):
        of_organ = [label for label, name in names.items() if _is_part(name, parts)]
        if not of_organ:
            table = Path(structures.get_filename()).with_name(_TABLE_NAME)
            raise ValueError(
                f"{table} names no structure like {' or '.join(parts)} for {organ}. Install "
                f"{SAMPLE_PACKAGE} again."
            )
        numbers[of_organ] = number
    organ_map = numbers[np.asanyarray(structures.dataobj)]
    return nibabel.Nifti1Image(organ_map, structures.affine)


def _is_part(name: str, parts: tuple[str, ...]) -> bool:
    return any(name.startswith(part) if part.endswith("_") else name == part for part in parts)
