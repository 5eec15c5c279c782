"""Images or volumes of one's own in folders of classes: `train/CLASS/...`, as ImageFolder has them.

`validation/CLASS/...` and `test/CLASS/...` are the other splits, if they are there. The classes are
the folders in `train`, in the order of their names.
"""

from __future__ import annotations

import re
from pathlib import Path

from ...input_checks_mit import did_you_mean, near_names
from ..image_files import group_images, images_in
from ..layouts.folder import dimension_of_files
from ..layouts.item import Problem
from ..layouts.licenses import unstated
from ..layouts.tree import find_root, path_below, require_root, subfolders
from .case import SPLITS, LabelledCase, LabelledData, LabelledLayout, Split
from .chestxr import CHESTXR
from .options import refuse_unknown

_TITLE = "folders of classes"
_HOMEPAGE = "https://huggingface.co/docs/datasets/image_dataset#imagefolder"
_IMAGE = r"(?i:.+\.(?:png|jpe?g|tiff?|bmp|nii|nii\.gz|dcm))"
_PATTERNS = (rf"train/[^.].*/{_IMAGE}",)
_OPTIONS = {
    "patient": "regular expression whose first group, in the path of an image below its class, is "
    "the patient; without it every image counts as a patient of its own"
}


def _recognise(folder: Path) -> bool:
    root = find_root(folder, _PATTERNS)
    return root is not None and len(_classes(root)) > 1 and not CHESTXR.recognise(folder)


def _read(folder: Path, *, patient: str | None = None, **others: object) -> LabelledData:
    refuse_unknown(others, _OPTIONS, _TITLE)
    pattern = _compiled(patient)
    root = require_root(folder, _PATTERNS, _TITLE)
    names = _classes(root)
    if len(names) < 2:
        raise ValueError(
            f"{root / 'train'} has the folders {', '.join(names)}; two classes are needed at least."
        )
    cases: list[LabelledCase] = []
    problems: list[Problem] = []
    for split in SPLITS:
        for place in subfolders(root / split) if (root / split).is_dir() else []:
            found, others_there = images_in(place)
            number = _number_of(place, names, root)
            cases += _cases(root, place, found, split, number, pattern)
            problems += [
                Problem(path_below(root, path), "is no image that is known; it is left out.", False)
                for path in others_there
            ]
    return LabelledData(tuple(names), tuple(cases), problems=tuple(problems))


def _classes(root: Path) -> list[str]:
    return [path.name for path in subfolders(root / "train")]


def _number_of(place: Path, names: list[str], root: Path) -> int:
    if place.name not in names:
        raise ValueError(
            f"{path_below(root, place)} is a folder of no class: train has {', '.join(names)}."
            f"{did_you_mean(near_names(place.name, names))}"
        )
    return names.index(place.name)


def _cases(
    root: Path,
    place: Path,
    paths: list[Path],
    split: Split,
    number: int,
    pattern: re.Pattern[str] | None,
) -> list[LabelledCase]:
    return [
        LabelledCase(
            name=path_below(root, image.path),
            dimension=dimension_of_files(image),
            files=image.files,
            split=split,
            patient=_patient_of(image.path.relative_to(place).as_posix(), pattern, root, place),
            target=number,
        )
        for image in group_images(paths)
    ]


def _patient_of(name: str, pattern: re.Pattern[str] | None, root: Path, place: Path) -> str:
    if pattern is None:
        return ""
    match = pattern.search(name)
    if match is None:
        raise ValueError(
            f"The option patient, {pattern.pattern!r}, matches nothing in {name}, in "
            f"{path_below(root, place)}. Give one that all names have."
        )
    return match[1]


def _compiled(patient: str | None) -> re.Pattern[str] | None:
    if patient is None:
        return None
    try:
        pattern = re.compile(patient)
    except re.error as error:
        raise ValueError(
            f"patient is {patient!r}, which is no regular expression: {error}."
        ) from error
    if pattern.groups != 1:
        raise ValueError(
            f"patient is {patient!r}, which has {pattern.groups} groups; wanted one, around what "
            "tells the patient, such as '^(\\d+)_'."
        )
    return pattern


CLASS_FOLDERS = LabelledLayout(
    name="class-folders",
    title=_TITLE,
    homepage=_HOMEPAGE,
    license=unstated(_HOMEPAGE),
    citation="No publication: a way in which one's own images are arranged.",
    task="classification",
    dimension="2d",
    recognise=_recognise,
    read=_read,
    options=_OPTIONS,
)
"""Any images or volumes, each in the folder of its class."""
