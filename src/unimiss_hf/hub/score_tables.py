"""The numbers of a `results.json`: which they are, and as tables of a card."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .card_rendering import table_cell

# A summary's name → the metric's identifier on the Hub, and its name in a card.
_SEGMENTATION = {
    "dice": ("dice", "Dice"),
    "surface_dice": ("surface_dice", "surface Dice"),
    "hausdorff95": ("hausdorff95", "Hausdorff distance, 95th percentile"),
    "average_surface_distance": ("average_surface_distance", "average surface distance"),
}
_CLASSIFICATION = {
    "auroc": ("roc_auc", "AUROC"),
    "average_precision": ("average_precision", "average precision"),
    "accuracy": ("accuracy", "accuracy"),
    "exact_match": ("exact_match", "all classes of a case right"),
    "f1": ("f1", "F1"),
}
_REGRESSION = {
    "mean_absolute_error": ("mae", "mean absolute error"),
    "root_mean_squared_error": ("rmse", "root mean squared error"),
    "r2": ("r_squared", "R²"),
    "pearson": ("pearsonr", "Pearson correlation"),
}
_OF_FOLDS = {
    "mean Dice": "dice",
    **{name: metric for name, (metric, _) in (_CLASSIFICATION | _REGRESSION).items()},
}
_FOLD_CLASS = "Dice of "


@dataclass(frozen=True)
class Score:
    """A number of a results.json.

    Attributes:
        metric: its identifier on the Hub, as far as the Hub has one.
        name: what a card calls it.
        value: the number; `None` where it is undefined.
    """

    metric: str
    name: str
    value: float | None


def scores_of(results: Mapping[str, Any]) -> list[Score]:
    """List the numbers of a results.json: means first, then those of the classes.

    Raises:
        ValueError: If it is none, or a number in it is not finite.
    """
    summary = results.get("scores") if isinstance(results, Mapping) else None
    if not isinstance(summary, Mapping):
        raise ValueError(
            f"These are no results: wanted a mapping with 'scores', got {_told(results)}. Give the "
            "results.json that fine-tuning or examples/evaluate.py wrote."
        )
    try:
        if "folds" in results:
            scores = _over_folds(results)
        elif "dice" in summary:
            scores = _of_segmentation(summary)
        elif "mean_absolute_error" in summary:
            scores = _of_values(summary, _REGRESSION)
        elif "accuracy" in summary or "auroc" in summary:
            scores = _of_classification(summary)
        else:
            raise KeyError("dice, accuracy, auroc or mean_absolute_error")
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"The scores have another shape than those of a results.json ({error!r} in "
            f"{_told(summary)}). Give the file that this version's fine-tuning or "
            "examples/evaluate.py wrote."
        ) from error
    for score in scores:
        is_number = isinstance(score.value, int | float) and not isinstance(score.value, bool)
        if score.value is not None and not (is_number and math.isfinite(score.value)):
            raise ValueError(f"{score.name} is {score.value!r}; wanted a finite number or null.")
    return scores


def _told(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"the fields {', '.join(map(str, list(value)[:8])) or '(none)'}"
    return type(value).__name__


def _over_folds(results: Mapping[str, Any]) -> list[Score]:
    of_what = f"mean of {results['folds']} folds"
    return [
        Score(_fold_metric(name), f"{name}, {of_what}", row["mean"])
        for name, row in results["scores"].items()
    ]


def _fold_metric(name: str) -> str:
    return "dice" if name.startswith(_FOLD_CLASS) else _OF_FOLDS[name]


def _of_segmentation(summary: Mapping[str, Any]) -> list[Score]:
    means = [
        Score(metric, f"mean {name}", summary[key]["mean"])
        for key, (metric, name) in _SEGMENTATION.items()
        if key in summary
    ]
    per_class = summary["dice"]["per_class"].items()
    return [*means, *(Score("dice", f"Dice of {name}", row["mean"]) for name, row in per_class)]


def _of_values(summary: Mapping[str, Any], metrics: Mapping[str, tuple[str, str]]) -> list[Score]:
    return [
        Score(metric, name, summary[key])
        for key, (metric, name) in metrics.items()
        if key in summary
    ]


def _of_classification(summary: Mapping[str, Any]) -> list[Score]:
    scores = _of_values(summary, _CLASSIFICATION)
    point = summary.get("sensitivity_at_specificity")
    if point is not None:
        name = f"sensitivity at a specificity of {point['specificity']:g}"
        scores.append(Score("recall", name, point["sensitivity"]))
    return scores


# ------------------------------------------------------------------------------------ tables


def table_of(results: Mapping[str, Any], scores: Sequence[Score], title: str) -> list[str]:
    """Lay a results.json out as paragraphs and tables in Markdown.

    Args:
        results: The whole of it.
        scores: What [`scores_of`] found in it.
        title: Of the data set.
    """
    summary = results["scores"]
    if "folds" in results:
        told = f"Cross-validated in {results['folds']} folds; data: {title}."
        return [told, _fold_table(summary)]
    parts = [f"{_count(summary['cases'], 'case')}; data: {title}."]
    is_segmentation = "dice" in summary
    means = [score for score in scores if not score.name.startswith("Dice of ")]
    known = [(score.name, _number(score.value)) for score in means if score.value is not None]
    known += [("interval of the AUROC, 95%", _interval(summary))] if _interval(summary) else []
    parts.append(_table(("mean over classes" if is_segmentation else "score", "value"), known))
    parts.append(_segmentation_classes(summary) if is_segmentation else _classes(summary))
    parts += _told_of_segmentation(results) if is_segmentation else []
    absent = [score.name for score in scores if score.value is None]
    if absent:
        parts.append(f"Undefined on these cases, and in no mean: {', '.join(absent)}.")
    return [part for part in parts if part]


def _fold_table(summary: Mapping[str, Any]) -> str:
    rows = [
        (name, _number(row["mean"]), _number(row["std"]), str(len(row["folds"])))
        for name, row in summary.items()
    ]
    return _table(("score", "mean", "standard deviation", "folds"), rows)


def _segmentation_classes(summary: Mapping[str, Any]) -> str:
    columns = [key for key in _SEGMENTATION if key in summary]
    titles = [_SEGMENTATION[key][1] for key in columns]
    rows = [
        (
            name,
            *(_number(summary[key]["per_class"][name]["mean"]) for key in columns),
            str(row["cases"]),
        )
        for name, row in summary["dice"]["per_class"].items()
    ]
    return _table(("class", *titles, "cases with a Dice"), rows)


def _told_of_segmentation(results: Mapping[str, Any]) -> list[str]:
    summary = results["scores"]
    if "hausdorff95" not in summary:
        return []
    tolerance = (results.get("settings") or {}).get("surface_tolerance")
    told = "Scores are of whole cases, each on its own grid. Distances are in mm"
    if results.get("dimension") != "3d":
        told += ", or in pixels where an image says no size of them"
    within = "" if tolerance is None else f" The surface Dice tolerates {tolerance:g} of it."
    told = [f"{told}.{within}"]
    missed = {name: count for name, count in summary.get("misses", {}).items() if count}
    if missed:
        cases = ", ".join(f"{name} in {_count(count, 'case')}" for name, count in missed.items())
        told.append(f"Not found at all though it is there: {cases}.")
    return told


def _classes(summary: Mapping[str, Any]) -> str:
    per_class = summary.get("per_class") or {}
    metrics = _REGRESSION if "mean_absolute_error" in summary else _CLASSIFICATION
    columns = [key for key in metrics if any(key in row for row in per_class.values())]
    has_positives = any("positives" in row for row in per_class.values())
    titles = [metrics[key][1] for key in columns] + (["positive cases"] if has_positives else [])
    rows = [
        (
            name,
            *(_number(row.get(key)) for key in columns),
            *([str(row["positives"])] if has_positives else []),
        )
        for name, row in per_class.items()
    ]
    return _table(("value" if metrics is _REGRESSION else "class", *titles), rows) if rows else ""


def _interval(summary: Mapping[str, Any]) -> str:
    interval = summary.get("auroc_interval")
    return "" if not interval else f"{interval[0]:.4f} to {interval[1]:.4f}"


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(table_cell(text) for text in line)} |" for line in lines)
