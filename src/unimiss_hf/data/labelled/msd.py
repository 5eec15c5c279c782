"""The Medical Segmentation Decathlon: any of its ten tasks, as it is unpacked.

`Task09_Spleen/dataset.json` names classes and channels, and lists `imagesTr`, `labelsTr` and
`imagesTs`, the images whose labels are not given away.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import nibabel

from ...nifti_reading_mit import open_nibabel
from ..layouts.item import Problem
from ..layouts.licenses import CC_BY_SA_4
from ..layouts.tree import find_root, path_below, require_root, stem_of, unfinished
from ..sources import visible_files
from .case import LabelledCase, LabelledData, LabelledLayout
from .decathlon_json import FILE, choose_channel, is_described, read_description
from .image_and_label import sorted_out
from .label_values import label_image
from .options import refuse_unknown

_TITLE = "Medical Segmentation Decathlon"
_NIFTI = r"\.nii(?:\.gz)?"
_PATTERNS = (rf"imagesTr/.+{_NIFTI}", rf"imagesTs/.+{_NIFTI}")
_KEYS = ("modality", "labels", "training")
_OPTIONS = {"channel": "which channel of images that have several, by its name or number"}


def _recognise(folder: Path) -> bool:
    root = find_root(folder, _PATTERNS)
    return root is not None and is_described(root, _KEYS)


def _read(folder: Path, *, channel: str | int | None = None, **others: object) -> LabelledData:
    refuse_unknown(others, _OPTIONS, _TITLE)
    root = require_root(folder, _PATTERNS, _TITLE)
    description = read_description(root, _KEYS, "a task of the Decathlon")
    values = _values(description["labels"], root)
    title = description.get("name") or root.resolve().name
    wanted = choose_channel(channel, description["modality"], title)
    details = {
        "channel": list(description["modality"]).index(wanted),
        "channels": len(description["modality"]),
        "numbers": {value: number for number, value in enumerate(values)},
    }
    cases, problems = sorted_out(_contents(root, description, details))
    return LabelledData(tuple(values.values()), cases, problems=problems)


def _values(labels: Mapping[str, str], root: Path) -> dict[int, str]:
    """The classes' names by their label values, in order."""
    try:
        names = {int(value): name for value, name in labels.items()}
    except (ValueError, AttributeError) as error:
        raise ValueError(
            f'{root / FILE} has labels {labels!r}; wanted names by label values, {{"0": '
            f'"background", "1": ...}}. Where names come first, it is of nnU-Net: layout nnunet.'
        ) from error
    if 0 not in names:
        raise ValueError(f"{root / FILE} has labels {labels!r}, without 0, the background.")
    return {value: names[value] for value in sorted(names)} | {0: "background"}


def _contents(
    root: Path, description: Mapping[str, Any], details: Mapping[str, Any]
) -> Iterator[LabelledCase | Problem]:
    yield from unfinished(root, visible_files(root))
    listed = set()
    for entry in description["training"]:
        image, label = (_present(root / entry[kind]) for kind in ("image", "label"))
        listed.add(image)
        gone = [path for path in (image, label) if not path.is_file()]
        yield from (_missing(root, path) for path in gone)
        if not gone:
            yield _case(root, image, label, details)
    for entry in description.get("test", ()):
        # Some tasks list their test images as those to train with are.
        image = _present(root / (entry["image"] if isinstance(entry, dict) else entry))
        listed.add(image)
        yield _case(root, image, None, details) if image.is_file() else _missing(root, image)
    for image in sorted({*_images(root, "imagesTr"), *_images(root, "imagesTs")} - listed):
        yield Problem(path_below(root, image), f"is not listed in {FILE}, and is passed over.")


def _present(path: Path) -> Path:
    """A file as it is listed, or as it lies there where it was unpacked once more."""
    unpacked = path.with_suffix("")
    return unpacked if not path.is_file() and unpacked.is_file() else path


def _images(root: Path, folder: str) -> list[Path]:
    found = visible_files(root / folder)
    return [path for path in found if path.name.endswith((".nii", ".nii.gz"))]


def _missing(root: Path, path: Path) -> Problem:
    reason = f"is listed in {FILE}, but not there. Download it again."
    return Problem(path_below(root, path), reason)


def _case(root: Path, image: Path, label: Path | None, details: Mapping[str, Any]) -> LabelledCase:
    return LabelledCase(
        name=path_below(root, image.with_name(stem_of(image))),
        dimension="3d",
        files=(image,),
        split="test" if label is None else "train",
        patient=stem_of(image),
        label_files=() if label is None else (label,),
        load_image=_image,
        load_labels=_labels,
        details=details,
    )


def _image(case: LabelledCase) -> Any:
    """The file itself, or the wanted channel of it."""
    if case.details["channels"] == 1:
        return case.files[0]
    return channel_of(case.files[0], case.details["channel"], case.details["channels"], case.name)


def channel_of(path: Path, channel: int, channels: int, case: str) -> nibabel.Nifti1Image:
    """One channel of a file that has them along its fourth axis.

    Raises:
        OSError: if the file is missing, truncated or no volume.
        ValueError: if it has another number of channels; the message names the case.
    """
    image = open_nibabel(path)
    if image.ndim != 4 or image.shape[3] != channels:
        raise ValueError(
            f"{case} ({path}) has shape {image.shape}; wanted (x, y, z, {channels}), as {FILE} "
            f"names {channels} channels."
        )
    one = image.slicer[..., channel]
    one.file_map["image"].filename = str(path)
    return one


def _labels(case: LabelledCase) -> Any:
    return label_image(case, case.details["numbers"])


MSD = LabelledLayout(
    name="msd",
    title=_TITLE,
    homepage="http://medicaldecathlon.com/",
    license=CC_BY_SA_4,
    citation=(
        "Antonelli M, Reinke A, Bakas S, et al. The Medical Segmentation Decathlon. Nature "
        "Communications 13, 4128 (2022). Simpson AL, Antonelli M, Bakas S, et al. A large "
        "annotated medical image dataset for the development and evaluation of segmentation "
        "algorithms. arXiv:1902.09063 (2019)."
    ),
    task="segmentation",
    dimension="3d",
    recognise=_recognise,
    read=_read,
    options=_OPTIONS,
)
"""Ten tasks, of CT and MR: organs, vessels, tumours."""
