"""What a labelled data set's folder holds: cases that nothing has read yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..layouts.item import License, Problem
from ..reading import Dimension

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

ProblemType = Literal["single_label_classification", "multi_label_classification", "regression"]
Task = Literal["classification", "segmentation"]


def image_files(case: LabelledCase) -> Any:
    """The case's file, or its DICOM slices as a list, as `MiTImageProcessor` takes them."""
    return case.files[0] if len(case.files) == 1 else list(case.files)


def label_file(case: LabelledCase) -> Any:
    """The case's one label file, as `MiTImageProcessor` takes it in `segmentation_maps`.

    Raises:
        ValueError: if the case has none, or several, which need a function of their own.
    """
    if len(case.label_files) != 1:
        raise ValueError(f"{case.name} has {len(case.label_files)} label files; wanted one.")
    return case.label_files[0]


@dataclass(frozen=True)
class LabelledCase:
    """One image or volume with its labels, which nothing has read yet. It can be pickled.

    Attributes:
        name: unique in the data set, and the same wherever the data set lies.
        dimension: "2d" or "3d".
        files: all files that the image is read from.
        split: the official split that it belongs to; `None` where there is none.
        patient: whose image it is, as the data set writes it; "" if it does not say, and then the
            case counts as a patient of its own.
        target: of classification: the class's number (one class a case), a tuple of 0 and 1 (or
            of values, for a regression), one for each class; `None` for segmentation, and where a
            test case's label is not given away.
        label_files: of segmentation: all files that the label map is read from; none where a test
            case's are not given away.
        load_image: gives what `MiTImageProcessor` takes as one input: a path, a list of DICOM
            slices, a nibabel image, an array. A function of a module, so that it can be pickled.
        load_labels: gives what `MiTImageProcessor` takes as its `segmentation_maps`, on the grid
            of the image, with the classes' numbers as of [`LabelledData.class_names`]; 255 is
            ignored. Where structures overlap (multi-label), an int64 map of bits, see
            `label_bits.pack_masks`.
        details: anything the functions need beside the files, such as a channel.
    """

    name: str
    dimension: Dimension
    files: tuple[Path, ...]
    split: Split | None = None
    patient: str = ""
    target: int | tuple[float, ...] | None = None
    label_files: tuple[Path, ...] = ()
    load_image: Callable[[LabelledCase], Any] = image_files
    load_labels: Callable[[LabelledCase], Any] = label_file
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_labelled(self) -> bool:
        """Whether its label is there."""
        return self.target is not None or bool(self.label_files)


@dataclass(frozen=True)
class LabelledData:
    """All cases of a data set's folder.

    Attributes:
        class_names: in the order of the classes' numbers; for segmentation with one class a voxel,
            the first is "background".
        cases: in an order that is always the same.
        problems: what is missing or odd in the folder; it stops nothing, and is told.
        problem_type: as transformers names it. For segmentation, "multi_label_classification" says
            that structures may overlap.
    """

    class_names: tuple[str, ...]
    cases: tuple[LabelledCase, ...]
    problem_type: ProblemType = "single_label_classification"
    problems: tuple[Problem, ...] = ()

    @property
    def is_multi_label(self) -> bool:
        """Whether several classes may be true of a case, or of a voxel."""
        return self.problem_type == "multi_label_classification"


@dataclass(frozen=True)
class LabelledLayout:
    """A labelled data set with folders and names of its own.

    Attributes:
        name: what a recipe calls it: lower case, without blanks.
        title: what people call it.
        homepage: where it is downloaded.
        license: its terms.
        citation: the publication that its makers ask to be cited.
        task: "classification" or "segmentation".
        dimension: "2d" or "3d".
        recognise: tells whether a folder is this data set, with or without the folder that a
            download wraps it in; looks at a few names only.
        read: lists the cases of such a folder; takes the options as keywords. It opens no image
            beyond its header. It raises a ValueError or OSError if the folder as a whole cannot be
            understood, or an option cannot be had.
        options: the options of `read`, by name: what each is for, in a line for the user.
    """

    name: str
    title: str
    homepage: str
    license: License
    citation: str
    task: Task
    dimension: Dimension
    recognise: Callable[[Path], bool]
    read: Callable[..., LabelledData]
    options: Mapping[str, str] = field(default_factory=dict)
