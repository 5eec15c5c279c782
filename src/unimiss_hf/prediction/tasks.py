"""What is predicted of prepared inputs, and the row that tells of it."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..classification_scores_mit import ranked_labels
from ..data.input_preparation import PreparedInput
from ..label_restoring_mit import InputGrid
from ..whole_prediction_mit import predict_labels, predict_probabilities
from .network import Network
from .outputs import file_names, stem_of, write_labels, write_probabilities
from .settings import PredictionSettings


def table_columns(network: Network) -> list[str]:
    """The columns of the table of predictions.

    Classification: `name`, `files` (none), `label`, and each class's probability (a regression's
    value). Segmentation: `name`, `files`, and of each class its voxels (or pixels) on the
    input's own grid and their volume in ml.
    """
    classes = _column_names(network)
    if network.task == "classification":
        return ["name", "files", "label", *classes]
    return ["name", "files", *(f"{name} {what}" for name in classes for what in ("voxels", "ml"))]


@torch.no_grad()
def classify(inputs: Sequence[PreparedInput], network: Network) -> list[dict[str, Any]]:
    """Classify inputs of one shape.

    Returns:
        A row for each. Its label is the class with the highest probability; of a multi-label model
        those above 0.5, with semicolons between them; of a regression there is none.

    Raises:
        ValueError: If a score is not a finite number.
    """
    pixel_values = torch.cat([item.pixel_values for item in inputs])
    logits = network.model(pixel_values.to(network.model.device), return_dict=True).logits
    logits = logits.float().cpu()
    if not logits.isfinite().all():
        raise ValueError("its scores are not finite numbers")
    problem_type = network.model.config.problem_type
    rows = []
    for item, ranked in zip(inputs, ranked_labels(logits, None, problem_type, None), strict=True):
        scores = {int(entry["label"]): entry["score"] for entry in ranked}
        best = [int(ranked[0]["label"])]
        if problem_type == "regression" or (problem_type is None and len(scores) == 1):
            best = []
        elif network.is_multi_label:
            best = [number for number, score in sorted(scores.items()) if score > 0.5]
        values = [f"{scores[number]:.6g}" for number in range(len(scores))]
        rows.append(
            {
                "name": item.name,
                "files": "",
                "label": ";".join(network.class_names[number] for number in best),
                **dict(zip(_column_names(network), values, strict=True)),
            }
        )
    return rows


def segment(
    item: PreparedInput, network: Network, settings: PredictionSettings, output: Path
) -> dict[str, Any]:
    """Segment one input and write its files.

    Returns:
        Its row.

    Raises:
        ValueError: If a setting does not go with the input, or its result would be absurdly large.
        OSError: If a file cannot be written.
    """
    stem = output / stem_of(item.place)
    options: dict[str, Any] = {
        "overlap": settings.overlap,
        "batch_size": settings.batch_size,
        "mirror": settings.mirror,
    }
    written = []
    if settings.probabilities:
        values = predict_probabilities(network.model, item.pixel_values, item.grid.grid, **options)
        kept = stem.with_name(f"{stem.name}.probabilities")
        written.append(write_probabilities(values, item.grid, network.class_names, kept))
        labels = values > 0.5 if network.is_multi_label else _highest(values)
        del values
    else:
        labels = predict_labels(network.model, item.pixel_values, item.grid.grid, **options)
    if network.is_multi_label:
        counts = [int(np.count_nonzero(mask)) for mask in labels]
        for name, mask in zip(file_names(network.class_names), labels, strict=True):
            placed = item.grid.place(mask)
            written.append(write_labels(placed, stem.with_name(f"{stem.name}.{name}")))
    else:
        counts = np.bincount(labels.reshape(-1), minlength=len(network.class_names)).tolist()
        written.append(write_labels(item.grid.place(labels), stem))
    volume = _voxel_volume(item.grid, settings.source_spacing)
    row = {
        "name": item.name,
        "files": ";".join(path.relative_to(output).as_posix() for path in written),
    }
    for name, count in zip(_column_names(network), counts, strict=True):
        row[f"{name} voxels"] = count
        row[f"{name} ml"] = "" if volume is None else f"{count * volume:.6g}"
    return row


def _highest(values: np.ndarray) -> np.ndarray:
    """The class with the highest probability, slice by slice, in a small type."""
    kind = np.uint8 if len(values) <= 256 else np.int16 if len(values) <= 2**15 else np.int32
    labels = np.empty(values.shape[1:], dtype=kind)
    for index in range(len(labels)):
        labels[index] = values[:, index].argmax(0)
    return labels


def _column_names(network: Network) -> list[str]:
    """The classes' names, with their numbers where those of others or other columns are equal."""
    counts = Counter([*network.class_names, "name", "files", "label"])
    return [
        f"{name} ({number})" if counts[name] > 1 else name
        for number, name in enumerate(network.class_names)
    ]


def _voxel_volume(grid: InputGrid, source_spacing: Sequence[float] | None) -> float | None:
    """Volume in ml of one of the input's own voxels, if it is known."""
    if len(grid.grid.native_shape) != 3:
        return None
    if source_spacing is not None:
        return float(np.prod(source_spacing)) / 1000
    affine = grid.grid.source_affine
    return None if affine is None else float(abs(np.linalg.det(affine[:3, :3]))) / 1000
