"""Scores of a model on whole cases, each on its own grid: what is reported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from transformers import PreTrainedModel

from ..data.labelled.case import LabelledCase, LabelledData
from ..data.labelled.label_bits import unpack_masks
from ..image_processing_mit import MiTImageProcessor
from ..label_reading_mit import read_labels
from ..metrics.classification_scores import classification_scores
from ..metrics.segmentation_scores import segmentation_scores, summarise_segmentation
from ..plane_grids_mit import PlaneGrid
from ..volume_grids_mit import VolumeGrid
from .prediction import WindowSettings, classify, judge_in_shares, segment
from .prepared_cases import present_classes


@dataclass(frozen=True)
class ScoringSettings:
    """What is computed, and how; see `metrics`.

    Attributes:
        windows: how whole cases go through a segmenting network.
        surface_tolerance: of the surface Dice, mm.
        specificity: at which the sensitivity is told.
        bootstrap: resamples of the intervals.
        surfaces: whether to measure distances of surfaces, which takes most of the time.
    """

    windows: WindowSettings = field(default_factory=WindowSettings)
    surface_tolerance: float = 2.0
    specificity: float = 0.9
    bootstrap: int = 1000
    surfaces: bool = True


@dataclass(frozen=True)
class Scores:
    """What was found.

    Attributes:
        summary: JSON-ready: means over cases and classes, with what they leave out.
        rows: one for each case of a classification; for each case and class of a segmentation.
    """

    summary: dict[str, Any]
    rows: list[dict[str, Any]]


def score_cases(
    model: PreTrainedModel,
    processor: MiTImageProcessor,
    data: LabelledData,
    cases: Sequence[LabelledCase],
    is_segmentation: bool,
    settings: ScoringSettings,
    accelerator: Accelerator,
) -> Scores:
    """Score a model on cases; every process calls it, and they share the cases.

    Label maps are compared on the grid of the case's own file, distances are in mm by its spacing;
    where an input has no spacing, as a radiograph, they are in pixels.

    Args:
        model: Its training mode is as before at the end.
        processor: What the model's inputs are prepared with.
        data: Whose classes they are.
        cases: Labelled ones.
        is_segmentation: Whether they have label maps.
        settings: What is computed.
        accelerator: The processes.

    Raises:
        ValueError: If there are no cases; if one cannot be read or its labels do not fit, naming
            it; if a metric is undefined, naming the class.
    """
    if not cases:
        raise ValueError("There are no labelled cases to score.")
    judge = _segmentation if is_segmentation else _classification

    def named(case: LabelledCase) -> Any:
        try:
            return judge(model, processor, data, case, settings)
        except (ValueError, OSError) as error:
            raise ValueError(f"{case.name} cannot be scored: {error}") from error

    gathered = judge_in_shares(model, cases, named, accelerator)
    if is_segmentation:
        return _joined_segmentation(gathered, cases)
    return _joined_classification(np.stack(gathered), data, cases, settings)


# ------------------------------------------------------------------------------- classification


def _classification(
    model: PreTrainedModel,
    processor: MiTImageProcessor,
    data: LabelledData,
    case: LabelledCase,
    settings: ScoringSettings,
) -> np.ndarray:
    batch = processor(case.load_image(case), return_tensors="pt")
    return classify(model, batch["pixel_values"]).numpy()


def _joined_classification(
    scores: np.ndarray,
    data: LabelledData,
    cases: Sequence[LabelledCase],
    settings: ScoringSettings,
) -> Scores:
    targets = np.array([case.target for case in cases])
    summary = classification_scores(
        scores,
        targets,
        data.problem_type,
        data.class_names,
        [case.name for case in cases],
        specificity=settings.specificity,
        bootstrap=settings.bootstrap,
        undefined="omit" if data.problem_type == "regression" else "raise",
    )
    rows = []
    for case, row in zip(cases, scores.tolist(), strict=True):
        target = case.target if isinstance(case.target, int) else list(case.target)
        named = {f"score/{name}": s for name, s in zip(data.class_names, row, strict=True)}
        if isinstance(target, int):
            answer = {
                "target": data.class_names[target],
                "predicted": data.class_names[int(np.argmax(row))],
            }
        else:
            answer = {
                f"target/{n}": value for n, value in zip(data.class_names, target, strict=True)
            }
        rows.append({"case": case.name, "patient": case.patient, **answer, **named})
    return Scores(summary, rows)


# ------------------------------------------------------------------------------- segmentation


def _segmentation(
    model: PreTrainedModel,
    processor: MiTImageProcessor,
    data: LabelledData,
    case: LabelledCase,
    settings: ScoringSettings,
) -> dict[str, dict[str, float | None]]:
    found = segment_case(model, processor, data, case, settings.windows)
    return segmentation_scores(
        found.predicted,
        found.reference,
        data.class_names,
        found.spacing,
        case=case.name,
        multi_label=data.is_multi_label,
        tolerance_mm=settings.surface_tolerance,
        surfaces=settings.surfaces,
    )


@dataclass(frozen=True)
class SegmentedCase:
    """A case's prediction beside its reference, on the grid of its file, turned to RAS+.

    Attributes:
        predicted: `([depth,] height, width)` labels, or bool masks `(classes, ...)`.
        reference: likewise.
        spacing: mm, in the order of the axes; 1.0 for each where the input has none: pixels.
    """

    predicted: np.ndarray
    reference: np.ndarray
    spacing: tuple[float, ...]


def segment_case(
    model: PreTrainedModel,
    processor: MiTImageProcessor,
    data: LabelledData,
    case: LabelledCase,
    windows: WindowSettings,
) -> SegmentedCase:
    """Segment a case and read its reference.

    Raises:
        ValueError, OSError: If either cannot be read, or the reference has another grid or labels
            that are no classes.
    """
    batch = processor(case.load_image(case), return_tensors="pt")
    grid = batch.grids[0].grid
    labels = read_labels(case.load_labels(case), grid, case.name)
    present_classes(labels, data, case.name)
    predicted = segment(model, batch["pixel_values"], grid, windows)
    if data.is_multi_label:
        packed = torch.from_numpy(labels)[None]
        labels = unpack_masks(packed, len(data.class_names))[0].bool().numpy()
    pixels = (1.0,) * len(grid.native_shape)
    return SegmentedCase(predicted, labels, native_spacing(grid) or pixels)


def native_spacing(grid: VolumeGrid | PlaneGrid) -> tuple[float, ...] | None:
    """The spacing of an input's own grid, in mm, in the order of its axes; `None` if unknown."""
    stored = grid.file_grid
    if stored is None:
        return None
    native = VolumeGrid.native(stored.source_shape, stored.source_affine, stored.orientation)
    spacing = native.spacing
    if isinstance(grid, PlaneGrid):
        flat = native.native_shape.index(1)
        return tuple(length for axis, length in enumerate(spacing) if axis != flat)
    return spacing


def _joined_segmentation(
    gathered: list[dict[str, dict[str, float | None]]], cases: Sequence[LabelledCase]
) -> Scores:
    by_case = {case.name: row for case, row in zip(cases, gathered, strict=True)}
    rows = [
        {"case": case.name, "patient": case.patient, "class": name, **numbers}
        for case, row in zip(cases, gathered, strict=True)
        for name, numbers in row.items()
    ]
    return Scores(summarise_segmentation(by_case), rows)
