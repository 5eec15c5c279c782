"""MOTS, the collection of partially labelled organ and tumour data sets of DoDNet.

Its seven parts are folders `0Liver`, `1Kidney`, ... `6Spleen`, as DoDNet's script makes them of
LiTS, KiTS19 and tasks of the Medical Segmentation Decathlon; folders that are still called as they
were unpacked (`Task03_Liver`, `kits19`) are taken too, and so are LiTS's own file names. The images
are taken, the labels beside them are not.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path

from ..sources import visible_files
from .item import Layout, License, Problem, SourceItem
from .licenses import CC_BY_NC_ND_4, CC_BY_NC_SA_4, CC_BY_SA_4
from .tree import each_once, has_root, path_below, require_root, stem_of, unfinished

_TITLE = "MOTS"
_HOMEPAGE = "https://github.com/jianpengz/DoDNet"
_NIFTI = r"\.nii(?:\.gz)?"
_LITS = rf"(test-)?volume-\d+{_NIFTI}"
_KITS = rf"imaging{_NIFTI}"
_CASE = r"case_(\d{5})"
_FIRST_TEST_CASE = 210  # KiTS19 gives away what is drawn in cases 0 to 209.
_IMAGES = {"imagesTr": "train", "imagesTs": "test"}
_LABELS = {"labelsTr": "imagesTr", "labelsTs": "imagesTs"}
_SEGMENTATION = rf"segmentation(-\d+)?{_NIFTI}"

_KIDNEY = "1Kidney|kits19"
_DECATHLON = (
    "0Liver|2HepaticVessel|3Pancreas|4Colon|5Lung|6Spleen|"
    "Task03_Liver|Task08_HepaticVessel|Task07_Pancreas|Task10_Colon|Task06_Lung|Task09_Spleen"
)
_PATTERNS = (
    rf"(?:{_DECATHLON})/imagesT[rs]/.+{_NIFTI}",
    rf"(?:{_KIDNEY})/(?:origin|data)/{_CASE}/.+{_NIFTI}",
    rf"(?:{_KIDNEY})/{_CASE}/.+{_NIFTI}",
    rf"0Liver/{_LITS}",
    rf"0Liver/.+/{_LITS}",
)


def _items(folder: Path) -> Iterator[SourceItem | Problem]:
    root = require_root(folder, _PATTERNS, _TITLE)
    files = [
        path
        for path in visible_files(root)
        if re.fullmatch(f"{_KIDNEY}|{_DECATHLON}", path.relative_to(root).parts[0])
    ]
    yield from unfinished(root, files)
    images = (item for path in files if (item := _item(root, path)))
    yield from each_once(images)
    present = {path.with_name(stem_of(path)) for path in files}
    for path in files:
        image = _image_of_label(path)
        if image is not None and image not in present:
            reason = f"has a label, {path}, but no image. Download the images of its part."
            yield Problem(path_below(root, image), reason)


def _item(root: Path, path: Path) -> SourceItem | None:
    """The image that a file is; `None` for a label or anything else."""
    lits, case = re.fullmatch(_LITS, path.name), re.fullmatch(_CASE, path.parent.name)
    name, patient = path_below(root, path.with_name(stem_of(path))), ""
    terms: License
    if lits:
        split, terms = "test" if lits[1] else "train", CC_BY_NC_ND_4
    elif case and re.fullmatch(_KITS, path.name):
        split, terms = "train" if int(case[1]) < _FIRST_TEST_CASE else "test", CC_BY_NC_SA_4
        patient = path.parent.name
    elif path.parent.name in _IMAGES and re.fullmatch(f".+{_NIFTI}", path.name):
        split, terms = _IMAGES[path.parent.name], CC_BY_SA_4
    else:
        return None
    return SourceItem(name, "3d", (path,), split, patient, license=terms)


def _image_of_label(path: Path) -> Path | None:
    """The image, without suffix, that a label belongs to; `None` if a file is no label."""
    name = stem_of(path)
    if path.parent.name in _LABELS and re.fullmatch(f".+{_NIFTI}", path.name):
        return path.parent.with_name(_LABELS[path.parent.name]) / name
    segmentation = re.fullmatch(_SEGMENTATION, path.name)
    if segmentation is None:
        return None
    if segmentation[1]:
        return path.with_name(f"volume{segmentation[1]}")
    return path.with_name("imaging")


MOTS = Layout(
    name="mots",
    title=_TITLE,
    homepage=_HOMEPAGE,
    license=License("other", "those of each part", _HOMEPAGE),
    citation=(
        "Zhang J, Xie Y, Xia Y, Shen C. DoDNet: learning to segment multi-organ and tumors from "
        "multiple partially labeled datasets. CVPR (2021). Bilic P, et al. The liver tumor "
        "segmentation benchmark (LiTS). Medical Image Analysis 84 (2023). Heller N, et al. The "
        "KiTS19 challenge data. arXiv:1904.00445 (2019). Antonelli M, et al. The Medical "
        "Segmentation Decathlon. Nature Communications 13, 4128 (2022)."
    ),
    dimensions=("3d",),
    recognise=functools.partial(has_root, patterns=_PATTERNS),
    items=_items,
)
"""Contrast-enhanced CTs of liver, kidney, hepatic vessels, pancreas, colon, lung and spleen."""
