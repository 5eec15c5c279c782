"""JSRT's radiographs with the masks of SCR: heart, lungs and clavicles, which may overlap.

JSRT (db.jsrt.or.jp) gives `JPCLN001.IMG` to `JPCNN093.IMG`, SCR (www.isi.uu.nl) masks `scratch/
fold1/masks/heart/JPCLN001.gif` and so on; both are unpacked into one folder, at any depth. Images
that were converted to PNG are taken as they are: dense tissue is white there. A lung and a
clavicle are either in two masks, `left lung` and `right lung`, or in one, `lung`.

`IMG` files hold 2048 x 2048 pixels and SCR's masks 1024 x 1024. Images are read on the coarser of
the two grids, as means of the pixels within one of its own, so that predictions and masks lie on
the grid that the masks were drawn on.

The split is SCR's by folds, odd numbers and even ones: as published, one is to train with and the
other to test; UniMiSS+ trains on the odd numbers.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ...image_reading_mit import read_radiograph
from ...input_checks_mit import decoding, did_you_mean, near_names
from ..layouts.item import License, Problem
from ..layouts.tree import has_root, path_below, require_root, unfinished
from ..sources import visible_files
from .case import LabelledCase, LabelledData, LabelledLayout
from .label_bits import pack_masks
from .options import refuse_unknown

_TITLE = "JSRT with the masks of SCR"
_HOMEPAGE = "https://www.isi.uu.nl/Research/Databases/SCR/"
# A structure → the folders of its masks, one way or the other.
_STRUCTURES: dict[str, tuple[tuple[str, ...], ...]] = {
    "heart": (("heart",),),
    "lung": (("left lung", "right lung"), ("lung",), ("lungs",)),
    "clavicle": (("left clavicle", "right clavicle"), ("clavicle",), ("clavicles",)),
}
_MASK_FOLDERS = {name for ways in _STRUCTURES.values() for way in ways for name in way}
_NAME = r"JPC(?:LN|NN)(\d{3})"
_IMAGE = rf"(?i:{_NAME}\.(?:img|png))"
_MASK = rf"(?i:{_NAME}\.(?:gif|png))"
_PATTERNS = tuple(f"{'.+/' * depth}{_IMAGE}" for depth in range(3))
_OPTIONS = {
    "structures": f"which of {', '.join(_STRUCTURES)}, in the order of the classes",
    "test_fold": "the fold of SCR that is the test split: 2 (even numbers) or 1 (odd ones)",
}
_SIDE, _WHITEST = 2048, 4095  # of an IMG file: pixels along an axis, the largest of 12 bits


def _read(
    folder: Path,
    *,
    structures: Sequence[str] = tuple(_STRUCTURES),
    test_fold: int = 2,
    **others: object,
) -> LabelledData:
    refuse_unknown(others, _OPTIONS, _TITLE)
    names = _checked_structures(structures)
    if test_fold not in (1, 2):
        raise ValueError(f"test_fold={test_fold!r} is no fold of SCR; there are 1 and 2.")
    root = require_root(folder, _PATTERNS, _TITLE)
    files = visible_files(root)
    problems = list(unfinished(root, files))
    images: dict[str, Path] = {}
    masks: dict[str, dict[str, Path]] = {}
    # Of an image in both formats, the original is the one.
    for path in sorted(files, key=lambda path: (path.suffix.lower() != ".img", path)):
        place = path.parent.name.lower().replace("_", " ")
        if place in _MASK_FOLDERS and re.fullmatch(_MASK, path.name):
            known = masks.setdefault(path.stem.upper(), {})
            kept = known.setdefault(place, path)
        elif re.fullmatch(_IMAGE, path.name):
            kept = images.setdefault(path.stem.upper(), path)
        else:
            continue
        if kept != path:
            reason = f"is there twice: {path_below(root, path)} is passed over for {kept}."
            problems.append(Problem(path.stem.upper(), reason, is_missing=False))
    cases = []
    for image in sorted(images.keys() | masks.keys()):
        if image not in images:
            problems.append(Problem(image, "has masks, but no image. Download it again."))
            continue
        found = _case(image, images[image], masks.get(image, {}), names, test_fold)
        (problems if isinstance(found, Problem) else cases).append(found)
    return LabelledData(names, tuple(cases), "multi_label_classification", tuple(problems))


def _checked_structures(structures: Sequence[str]) -> tuple[str, ...]:
    names = (structures,) if isinstance(structures, str) else tuple(structures)
    for name in names:
        if name not in _STRUCTURES:
            raise ValueError(
                f"There is no structure {name!r}; there are {', '.join(_STRUCTURES)}."
                f"{did_you_mean(near_names(str(name), _STRUCTURES))}"
            )
    if not names or len(set(names)) < len(names):
        raise ValueError(
            f"structures={structures!r} must name one or more of {', '.join(_STRUCTURES)}, each "
            f"once."
        )
    return names


def _case(
    name: str,
    image: Path,
    masks: Mapping[str, Path],
    structures: tuple[str, ...],
    test_fold: int,
) -> LabelledCase | Problem:
    chosen: dict[str, tuple[str, ...]] = {}
    for structure in structures:
        ways = _STRUCTURES[structure]
        way = next((way for way in ways if all(part in masks for part in way)), None)
        if way is None:
            lacking = " and ".join(part for part in ways[0] if part not in masks)
            return Problem(name, f"has no mask of {lacking}. Download the masks of SCR again.")
        chosen[structure] = way
    paths = {part: masks[part] for way in chosen.values() for part in way}
    # Of an even number, the fold is the second one.
    fold = 2 - int(name[-3:]) % 2
    return LabelledCase(
        name,
        "2d",
        (image,),
        split="test" if fold == test_fold else "train",
        label_files=tuple(paths.values()),
        load_image=_load_image,
        load_labels=_load_labels,
        details={"masks": tuple(tuple(paths[part] for part in way) for way in chosen.values())},
    )


def _load_image(case: LabelledCase) -> np.ndarray:
    """Grey levels `(height, width)` in [0, 1], float32, dense tissue white."""
    path = case.files[0]
    image = _read_img(path) if path.suffix.lower() == ".img" else read_radiograph(path)[0]
    return _means(image, _common_shape(case, image.shape))


def _load_labels(case: LabelledCase) -> np.ndarray:
    """The masks as a map of bits, `(height, width)`, int64, see `pack_masks`."""
    joined = [np.any([_read_mask(path) for path in paths], axis=0) for paths in _same_shape(case)]
    shape = _common_shape(case, _image_shape(case.files[0]))
    # A pixel is inside if half of it or more is.
    return pack_masks([_means(mask.astype(np.float32), shape) >= 0.5 for mask in joined])


def _read_img(path: Path) -> np.ndarray:
    size = path.stat().st_size
    if size != 2 * _SIDE**2:
        raise OSError(
            f"{path} has {size:,} bytes; an image of JSRT has {2 * _SIDE**2:,}, {_SIDE} x {_SIDE} "
            f"pixels of two. Download it again."
        )
    stored = np.fromfile(path, dtype=">u2").reshape(_SIDE, _SIDE)
    if stored.max() > _WHITEST:
        raise ValueError(
            f"{path} has values up to {stored.max()}; those of JSRT have 12 bits, big end first, "
            f"and go to {_WHITEST}. Download the original."
        )
    # Films were scanned: zero is white, the most exposed is black.
    return (1 - stored / np.float32(_WHITEST)).astype(np.float32)


def _read_mask(path: Path) -> np.ndarray:
    with decoding(str(path), "a complete mask"), Image.open(path) as opened:
        levels = np.asarray(opened.convert("L"))
    found = np.unique(levels)
    if len(found) > 2:
        raise ValueError(
            f"{path} has {len(found)} grey levels, {found[0]} to {found[-1]}; a mask has two, "
            f"outside and inside. Download it again."
        )
    # Of two levels, the brighter one is inside, 1 as 255; one alone is all outside or all inside.
    return levels == found[-1] if len(found) > 1 else levels > 127


def _same_shape(case: LabelledCase) -> tuple[tuple[Path, ...], ...]:
    first = _image_shape(case.label_files[0])
    for path in case.label_files[1:]:
        shape = _image_shape(path)
        if shape != first:
            raise ValueError(
                f"{path} has shape {shape} and {case.label_files[0]} has {first} (height, width). "
                f"Masks of an image have one shape. Download them again."
            )
    return case.details["masks"]


def _image_shape(path: Path) -> tuple[int, int]:
    if path.suffix.lower() == ".img":
        return _SIDE, _SIDE
    with decoding(str(path), "an image"), Image.open(path) as opened:
        return opened.height, opened.width


def _common_shape(case: LabelledCase, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The coarser one's of the shapes of an image and its masks."""
    of_masks = _image_shape(case.label_files[0])
    coarse, fine = sorted((shape, of_masks))
    factors = {long / short for long, short in zip(fine, coarse, strict=True)}
    if len(factors) > 1 or not factors.pop().is_integer():
        raise ValueError(
            f"{case.files[0]} has shape {shape} and its masks have {of_masks} (height, width); "
            f"wanted the same, or one a whole multiple of the other. Download the originals."
        )
    return coarse


def _means(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Take means of blocks, so that `(height, width)` becomes `shape`."""
    height, width = shape
    blocks = values.reshape(height, values.shape[0] // height, width, values.shape[1] // width)
    return blocks.mean(axis=(1, 3), dtype=np.float32)


JSRT = LabelledLayout(
    name="jsrt",
    title=_TITLE,
    homepage=_HOMEPAGE,
    license=License("other", "research and education only, no redistribution", _HOMEPAGE),
    citation=(
        "van Ginneken B, Stegmann MB, Loog M. Segmentation of anatomical structures in chest "
        "radiographs using supervised methods: a comparative study on a public database. Medical "
        "Image Analysis 10, 19-40 (2006). Shiraishi J, Katsuragawa S, Ikezoe J, et al. Development "
        "of a digital image database for chest radiographs with and without a lung nodule. "
        "American Journal of Roentgenology 174, 71-74 (2000)."
    ),
    task="segmentation",
    dimension="2d",
    recognise=functools.partial(has_root, patterns=_PATTERNS),
    read=_read,
    options=_OPTIONS,
)
"""247 radiographs, 124 of odd and 123 of even numbers."""
