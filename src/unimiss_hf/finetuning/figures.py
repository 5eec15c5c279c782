"""Figures of scores: segmented cases beside their references, curves of a classifier."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from sklearn.metrics import auc, confusion_matrix, roc_curve

from ..data.labelled.case import LabelledCase
from ..drawing import new_figure, save_figure
from ..hounsfield_mit import apply_window
from ..image_reading_mit import load_radiograph, load_volume
from .evaluation import Evaluation
from .scoring import segment_case

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Distinct hues that stay apart for most colour-blind eyes (Okabe and Ito, 2008), then repeated.
_COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")
_CASES_SHOWN = 3
_WIDTH = 9.5  # inches
_MOST_CURVES = 20


def draw_scores(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Draw what a task's scores look like.

    Of a segmentation: the worst, the median and the best case. Of a classification: ROC curves,
    and the confusion matrix where classes exclude each other. Of a regression: predicted values
    over true ones.

    Args:
        evaluation: The scores, with the model and the cases.
        folder: Where pictures go.

    Returns:
        The files written.

    Raises:
        ImportError: If matplotlib is missing.
    """
    if evaluation.task.is_segmentation:
        return [_draw_case(evaluation, case, folder) for case in _chosen(evaluation)]
    if evaluation.task.data.problem_type == "regression":
        return [_draw_regression(evaluation, folder / "values.png")]
    drawn = [_draw_roc(evaluation, folder / "roc.png")]
    if not evaluation.task.is_multi_label:
        drawn.append(_draw_confusion(evaluation, folder / "confusion.png"))
    return drawn


# ------------------------------------------------------------------------------- segmentation


def _chosen(evaluation: Evaluation) -> list[LabelledCase]:
    """The worst, the median and the best case by their mean Dice."""
    dice: dict[str, list[float]] = {}
    for row in evaluation.scores.rows:
        if row["dice"] is not None:
            dice.setdefault(row["case"], []).append(row["dice"])
    ranked = sorted(dice, key=lambda name: (np.mean(dice[name]), name))
    places = np.linspace(0, len(ranked) - 1, min(_CASES_SHOWN, len(ranked))).round().astype(int)
    by_name = {case.name: case for case in evaluation.cases}
    return [by_name[ranked[place]] for place in places]


def _draw_case(evaluation: Evaluation, case: LabelledCase, folder: Path) -> Path:
    found = segment_case(
        evaluation.model, evaluation.processor, evaluation.task.data, case, evaluation.windows
    )
    names = evaluation.task.data.class_names
    overlap = evaluation.task.is_multi_label
    first = 0 if overlap else 1
    masks = [
        [labels[number] if overlap else labels == number for number in range(first, len(names))]
        for labels in (found.reference, found.predicted)
    ]
    image = _grey_levels(evaluation, case)
    planes = _planes(image.ndim, masks[0])
    heights = [_height(image.shape, found.spacing, axis) for axis, _ in planes]
    figure = new_figure(_WIDTH, _WIDTH / 3 * sum(heights) + 0.4 * len(planes) + 0.8)
    axes = figure.subplots(len(planes), 3, squeeze=False, height_ratios=heights)
    for row, (axis, index) in zip(axes, planes, strict=True):
        grey = _plane(image, axis, index)
        aspect = _aspect(found.spacing, axis)
        for column, (title, layers) in enumerate(
            (("image", []), ("reference", masks[0]), ("predicted", masks[1]))
        ):
            row[column].imshow(grey, cmap="gray", vmin=0, vmax=1, aspect=aspect)
            for number, mask in enumerate(layers):
                _overlay(row[column], _plane(mask, axis, index), number, aspect)
            row[column].set_title(title if axis is None else f"{title}, {_AXES[axis]} {index}")
            row[column].set_axis_off()
    _legend(figure, names[first:])
    figure.suptitle(case.name)
    return save_figure(figure, folder / f"{_file_name(case.name)}.png")


_AXES = ("depth", "height", "width")


def _planes(axes: int, masks: list[np.ndarray]) -> list[tuple[int | None, int]]:
    """The planes that are shown: of a volume, two that cut through as much as they can."""
    if axes == 2:
        return [(None, 0)]
    inside = np.any(masks, axis=0)
    if not inside.any():
        inside = np.ones_like(inside)
    chosen = []
    for axis in (0, 1):
        others = tuple(other for other in range(3) if other != axis)
        chosen.append((axis, int(inside.sum(axis=others).argmax())))
    return chosen


def _plane(voxels: np.ndarray, axis: int | None, index: int) -> np.ndarray:
    """A plane as it is looked at: the patient's right at the picture's left, the head up."""
    if axis is None:
        return voxels
    # RAS+: depth to superior, height to anterior, width to the patient's left end first
    return np.take(voxels, index, axis=axis)[::-1, ::-1]


def _aspect(spacing: tuple[float, ...], axis: int | None) -> float:
    if axis is None:
        return spacing[0] / spacing[1]
    rows, columns = (length for other, length in enumerate(spacing) if other != axis)
    return rows / columns


def _height(size: tuple[int, ...], spacing: tuple[float, ...], axis: int | None) -> float:
    """The height of a plane in units of its width; a thin slab's is not made too thin to see."""
    rows, columns = (
        length * step
        for other, (length, step) in enumerate(zip(size, spacing, strict=True))
        if other != axis
    )
    return max(0.15, rows / columns)


def _grey_levels(evaluation: Evaluation, case: LabelledCase) -> np.ndarray:
    """The case's image on its own grid, as [0, 1]."""
    source = case.load_image(case)
    if evaluation.task.num_axes == 2:
        pixels = load_radiograph(source, evaluation.processor.grey_window).pixels[0]
        low, high = float(pixels.min()), float(pixels.max())
        return (pixels - low) / max(high - low, 1e-6)
    voxels = load_volume(source, None).voxels
    window = evaluation.processor.window
    if window == "percentiles":
        return apply_window(voxels, window, "unit")
    return apply_window(voxels, "soft tissue", "unit")


def _overlay(axes: Axes, mask: np.ndarray, number: int, aspect: float) -> None:
    colour = tuple(int(_hue(number)[i : i + 2], 16) / 255 for i in (1, 3, 5))
    layer = np.zeros((*mask.shape, 4))
    layer[..., :3] = colour
    layer[..., 3] = 0.45 * mask
    axes.imshow(layer, aspect=aspect, interpolation="nearest")


def _hue(number: int) -> str:
    return _COLOURS[number % len(_COLOURS)]


def _legend(figure: Figure, names: tuple[str, ...]) -> None:
    from matplotlib.patches import Patch

    shown = names[:_MOST_CURVES]
    patches = [Patch(color=_hue(number), label=name) for number, name in enumerate(shown)]
    figure.legend(handles=patches, loc="outside lower center", ncols=min(5, len(shown)))


def _file_name(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)


# ------------------------------------------------------------------------------- classification


def _table(evaluation: Evaluation) -> tuple[np.ndarray, np.ndarray]:
    """Scores and targets, `(cases, classes)` each."""
    names = evaluation.task.data.class_names
    rows = evaluation.scores.rows
    scores = np.array([[row[f"score/{name}"] for name in names] for row in rows])
    if "target" in rows[0]:
        targets = np.array([[row["target"] == name for name in names] for row in rows])
    else:
        targets = np.array([[row[f"target/{name}"] for name in names] for row in rows])
    return scores, targets


def _draw_roc(evaluation: Evaluation, path: Path) -> Path:
    scores, targets = _table(evaluation)
    names = list(evaluation.task.data.class_names)
    columns = [1] if len(names) == 2 and not evaluation.task.is_multi_label else range(len(names))
    figure = new_figure(5.5, 5.0)
    axes = figure.subplots()
    for column in list(columns)[:_MOST_CURVES]:
        false, true, _ = roc_curve(targets[:, column].astype(int), scores[:, column])
        axes.plot(false, true, label=f"{names[column]} ({auc(false, true):.3f})")
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", linewidth=1)
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", title="ROC (area)", aspect="equal")
    axes.legend(loc="lower right", fontsize="small")
    return save_figure(figure, path)


def _draw_confusion(evaluation: Evaluation, path: Path) -> Path:
    scores, targets = _table(evaluation)
    names = list(evaluation.task.data.class_names)
    counts = confusion_matrix(targets.argmax(1), scores.argmax(1), labels=range(len(names)))
    size = 2.5 + 0.6 * len(names)
    figure = new_figure(size, size)
    axes = figure.subplots()
    axes.imshow(counts, cmap="Blues")
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if count > counts.max() / 2 else "black"
        axes.text(column, row, str(count), ha="center", va="center", color=colour)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="predicted", ylabel="true", title="cases")
    return save_figure(figure, path)


def _draw_regression(evaluation: Evaluation, path: Path) -> Path:
    scores, targets = _table(evaluation)
    names = evaluation.task.data.class_names
    figure = new_figure(4.5 * len(names), 4.5)
    for column, axes in enumerate(figure.subplots(1, len(names), squeeze=False)[0]):
        axes.scatter(targets[:, column], scores[:, column], s=12)
        ends = [targets[:, column].min(), targets[:, column].max()]
        axes.plot(ends, ends, color="grey", linestyle=":", linewidth=1)
        axes.set(xlabel="true", ylabel="predicted", title=names[column])
    return save_figure(figure, path)
