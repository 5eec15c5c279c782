"""Any data set that was converted to nnU-Net v2's raw format, `Dataset001_Name`.

`imagesTr/CASE_0000.nii.gz` is the first channel of a case, `labelsTr/CASE.nii.gz` its labels;
`imagesTs` and `labelsTs`, if they are there, are its test split. `dataset.json` names channels and
classes. `splits_final.json`, which nnU-Net keeps in its preprocessed folder, says which cases
validate, if a copy of it lies beside.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...input_checks_mit import decoding
from ...nifti_reading_mit import is_volume_file, nibabel_dimension
from ..image_columns import FILE_SUFFIXES
from ..layouts.item import Problem
from ..layouts.licenses import unstated
from ..layouts.tree import find_root, path_below, require_root, unfinished
from ..reading import Dimension
from ..sources import visible_files
from .case import LabelledCase, LabelledData, LabelledLayout, Split, label_file
from .decathlon_json import FILE, choose_channel, is_described, read_description
from .image_and_label import join_labels, sorted_out
from .label_values import label_voxels, on_grid
from .nnunet_labels import LabelScheme, label_scheme
from .nnunet_splits import SPLITS_FILE, Fold, read_fold
from .options import refuse_unknown

_TITLE = "nnU-Net's raw format"
_HOMEPAGE = "https://github.com/MIC-DKFZ/nnUNet/blob/master/documentation/dataset_format.md"
_PATTERNS = (r"imagesTr/.+_\d{4}\..+",)
_KEYS = ("channel_names", "labels", "numTraining", "file_ending")
_SPLITS: tuple[tuple[str, Split], ...] = (("Tr", "train"), ("Ts", "test"))
_OPTIONS = {
    "channel": "which channel of cases that have several, by its name or number",
    "fold": f"which fold of {SPLITS_FILE} says what validates, from 0 (default); or none",
}

# The images of a split: case, then channel as four digits.
_Images = dict[str, dict[str, Path]]


def _recognise(folder: Path) -> bool:
    root = find_root(folder, _PATTERNS)
    return root is not None and is_described(root, ("channel_names", "labels", "file_ending"))


def _read(
    folder: Path,
    *,
    channel: str | int | None = None,
    fold: str | int = 0,
    **others: object,
) -> LabelledData:
    refuse_unknown(others, _OPTIONS, _TITLE)
    root = require_root(folder, _PATTERNS, _TITLE)
    hint = " nnU-Net v1 and the Decathlon have other keys: layout msd."
    description = read_description(root, _KEYS, _TITLE, hint)
    scheme = label_scheme(description["labels"], str(root / FILE))
    cases, problems = sorted_out(
        _contents(root, description, scheme, channel, read_fold(root, fold))
    )
    count, wanted = sum(case.split != "test" for case in cases), description["numTraining"]
    if count != wanted:
        reason = f"says numTraining {wanted}; {count} such cases are there with their labels."
        problems = (*problems, Problem(FILE, reason, is_missing=count < wanted))
    return LabelledData(
        scheme.class_names,
        cases,
        "multi_label_classification" if scheme.regions else "single_label_classification",
        problems,
    )


def _contents(
    root: Path,
    description: Mapping[str, Any],
    scheme: LabelScheme,
    channel: str | int | None,
    fold: Fold | None,
) -> Iterator[LabelledCase | Problem]:
    ending = _ending(description, root)
    files = visible_files(root)
    yield from unfinished(root, files)
    images = {end: _images(root / f"images{end}", files, ending) for end, _ in _SPLITS}
    wanted = _channel(channel, description["channel_names"], images["Tr"], ending, root)
    dimension = _dimension(images["Tr"], ending)
    for end, split in _SPLITS:
        for case, channels in images[end].items():
            if wanted not in channels:
                reason = f"has no channel {wanted}, but {', '.join(channels)}. Add it."
                yield Problem(f"images{end}/{case}", reason)
        chosen = {
            case: channels[wanted] for case, channels in images[end].items() if wanted in channels
        }
        labels = _labels_of(root / f"labels{end}", files, ending)
        case_of = functools.partial(
            _case, root=root, split=split, dimension=dimension, scheme=scheme
        )
        joined = join_labels(chosen, labels, root, case_of, lambda _, split=split: split == "test")
        yield from joined if fold is None or split == "test" else fold.assign(joined)


def _ending(description: Mapping[str, Any], root: Path) -> str:
    ending = str(description["file_ending"])
    is_stack = description.get("overwrite_image_reader_writer") == "Tiff3DIO"
    if is_stack or not (is_volume_file(f"_{ending}") or ending.lower() in FILE_SUFFIXES["2d"]):
        kind = f"volumes in {ending} files" if is_stack else f"file_ending {ending!r}"
        raise ValueError(
            f"{root / FILE} has {kind}; read are NIfTI volumes (.nii.gz, .nii) and pictures "
            f"({', '.join(FILE_SUFFIXES['2d'])}). Convert them to NIfTI, with SimpleITK say."
        )
    return ending


def _images(folder: Path, files: Sequence[Path], ending: str) -> _Images:
    found: _Images = {}
    for path in files:
        match = re.fullmatch(rf"(.+)_(\d{{4}}){re.escape(ending)}", path.name)
        if match and path.parent == folder:
            found.setdefault(match[1], {})[match[2]] = path
    return found


def _labels_of(folder: Path, files: Sequence[Path], ending: str) -> dict[str, Path]:
    return {
        path.name[: -len(ending)]: path
        for path in files
        if path.parent == folder and path.name.endswith(ending)
    }


def _channel(
    channel: str | int | None,
    names: Mapping[str, str],
    images: _Images,
    ending: str,
    root: Path,
) -> str:
    """The four digits of the wanted channel."""
    present = {number for channels in images.values() for number in channels}
    # Colours are three channels in one file, which is read as their luminance.
    is_colour = len(names) == 3 and present == {"0000"} and not is_volume_file(f"_{ending}")
    if is_colour and channel is None:
        return "0000"
    return f"{int(choose_channel(channel, names, root.resolve().name)):04d}"


def _dimension(images: _Images, ending: str) -> Dimension:
    """By the folder's first image: all of nnU-Net's are of one dimension."""
    if not is_volume_file(f"_{ending}"):
        return "2d"
    first = next((path for channels in images.values() for path in channels.values()), None)
    try:
        return "2d" if first is not None and nibabel_dimension(first) == 2 else "3d"
    except (OSError, ValueError):
        # Reading it will tell what is wrong.
        return "3d"


def _case(
    key: str,
    image: Path,
    label: Path | None,
    *,
    root: Path,
    split: Split,
    dimension: Dimension,
    scheme: LabelScheme,
) -> LabelledCase:
    return LabelledCase(
        name=path_below(root, image.with_name(key)),
        dimension=dimension,
        files=(image,),
        split=split,
        patient=key,
        label_files=() if label is None else (label,),
        load_labels=_labels,
        details={"scheme": scheme},
    )


def _labels(case: LabelledCase) -> Any:
    """A volume's labels on its own grid; an array for a picture."""
    path, scheme = label_file(case), case.details["scheme"]
    name = f"{case.name} ({path})"
    if is_volume_file(path):
        values, image = label_voxels(path)
        return on_grid(scheme.apply(values, name), image.affine, path)
    with decoding(str(path), "a picture of labels"), Image.open(path) as picture:
        pixels = np.asarray(picture)
    if pixels.ndim != 2:
        raise ValueError(
            f"{name} has {pixels.shape[-1]} colour channels; a label map has one value a pixel."
        )
    return scheme.apply(pixels, name)


NNUNET = LabelledLayout(
    name="nnunet",
    title=_TITLE,
    homepage=_HOMEPAGE,
    license=unstated(_HOMEPAGE),
    citation=(
        "Isensee F, Jaeger PF, Kohl SAA, Petersen J, Maier-Hein KH. nnU-Net: a self-configuring "
        "method for deep learning-based biomedical image segmentation. Nature Methods 18, 203-211 "
        "(2021). Cite the data set's own publication, too."
    ),
    task="segmentation",
    dimension="3d",
    recognise=_recognise,
    read=_read,
    options=_OPTIONS,
)
"""Volumes or pictures, of whatever was converted."""
