"""Frozen features of a labelled data set's images, and its targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm
from transformers import AutoImageProcessor

from ..data.labelled.case import LabelledCase, LabelledData
from ..data.labelled.catalog import find_labelled_layout
from ..data.labelled.splits import split_cases
from ..image_processing_mit import MiTImageProcessor
from ..modeling_mit import MiTModel
from ..saved_models import locate
from ..sliding_windows_mit import extract_features


@dataclass(frozen=True)
class ProbeCases:
    """The cases of a probe.

    Attributes:
        title: of the data set.
        dimension: "2d" or "3d".
        class_names: in the order of the classes' numbers.
        train: to learn from.
        test: that are scored.
        notes: what must be known of them.
    """

    title: str
    dimension: str
    class_names: tuple[str, ...]
    train: tuple[LabelledCase, ...]
    test: tuple[LabelledCase, ...]
    notes: tuple[str, ...]


def find_cases(
    folder: str,
    layout_name: str | None = None,
    options: dict[str, Any] | None = None,
    max_cases: int | None = None,
    seed: int = 0,
) -> ProbeCases:
    """List the cases of a data set for classification, split as fine-tuning splits them.

    Validation cases are learnt from, too: a probe chooses nothing by them.

    Args:
        folder: The data set's folder.
        layout_name: Which data set it is; found by its names if not given.
        options: Of the data set's reader.
        max_cases: Cases of each part at most.
        seed: Of the choice of those, and of parts that no official split names.

    Raises:
        OSError: If there is no such folder, or a file of it is missing.
        ValueError: If it is no data set that is known, or not for classification.
    """
    layout = find_labelled_layout(folder, layout_name)
    if layout.task != "classification":
        raise ValueError(
            f"{layout.title} is a data set for {layout.task}; a probe needs a class for each image."
        )
    data: LabelledData = layout.read(folder, **(options or {}))
    if data.problem_type == "regression":
        raise ValueError(f"{layout.title} gives numbers to predict; a probe needs classes.")
    split = split_cases(data, seed=seed)
    notes = [f"Passed over: {one.name} {one.reason}" for one in data.problems if one.is_missing]
    parts = {"learn from": (*split.train, *split.validation), "test": split.test}
    random = np.random.default_rng(seed)
    for name, cases in parts.items():
        if max_cases is not None and len(cases) > max_cases:
            chosen = sorted(random.choice(len(cases), max_cases, replace=False))
            parts[name] = tuple(cases[number] for number in chosen)
            notes.append(f"Of {len(cases)} cases to {name}, {max_cases} were drawn.")
    return ProbeCases(
        layout.title,
        layout.dimension,
        data.class_names,
        parts["learn from"],
        parts["test"],
        tuple(notes),
    )


def load_processor(model: str) -> MiTImageProcessor:
    """Load the image processor of a model.

    Raises:
        OSError: If the model comes without one.
        ValueError: If it is of another kind.
    """
    processor = AutoImageProcessor.from_pretrained(locate(model))
    if not isinstance(processor, MiTImageProcessor):
        raise ValueError(
            f"{model} comes with a {type(processor).__name__}; wanted a MiTImageProcessor."
        )
    return processor


def targets_of(cases: Sequence[LabelledCase]) -> np.ndarray:
    """The class's number of each case, `(cases,)`, or 0 and 1 for each, `(cases, classes)`."""
    return np.array([case.target for case in cases]).astype(np.int64)


def features_of(
    cases: Sequence[LabelledCase],
    encoders: Sequence[MiTModel],
    processor: MiTImageProcessor,
    batch_size: int = 16,
) -> list[np.ndarray]:
    """Read each image once and extract its features with several encoders.

    What is larger than an encoder's native size goes through it in windows, whose class tokens are
    averaged; see `extract_features`.

    Args:
        cases: Of a data set for classification.
        encoders: In evaluation mode.
        processor: Prepares the images.
        batch_size: Windows that go through a network at once.

    Returns:
        `(cases, channels)`, float32, of each encoder.

    Raises:
        ValueError: If an image cannot be read; its case is named.
    """
    rows: list[list[np.ndarray]] = [[] for _ in encoders]
    for case in tqdm(cases, desc="Reading images", unit="image", disable=None):
        try:
            # A list in a list: the slices of one volume.
            prepared = processor([case.load_image(case)], return_tensors="pt")["pixel_values"]
        except (OSError, ValueError, TypeError) as error:
            raise ValueError(f"{case.name} cannot be read: {error}") from error
        for encoder, found in zip(encoders, rows, strict=True):
            features = extract_features(encoder, prepared, batch_size=batch_size)
            found.append(features.pooled[0].numpy())
    return [np.stack(found) for found in rows]
