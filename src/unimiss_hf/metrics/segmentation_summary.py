"""Scores of many segmentations as means, with what no mean may hide."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

SEGMENTATION_METRICS = ("dice", "surface_dice", "hausdorff95", "average_surface_distance")

CaseScores = Mapping[str, Mapping[str, float | None]]


def summarise_segmentation(cases: Mapping[str, CaseScores]) -> dict[str, Any]:
    """Take means over cases, then over classes.

    Args:
        cases: name of the case → class → scores, of `segmentation_scores`; the same classes and
            metrics in each.

    Returns:
        JSON-ready: "cases"; for each metric "mean", the mean over the classes of their means over
        the cases, "classes_counted", over how many classes it is, and "per_class" with "mean",
        "std" (of the population; 0 for one case), "cases", how many have a value, and "undefined",
        the names of those that have none. Then, class by class, "present", the number of cases with
        the class in the reference, "misses", of those without a predicted voxel of it,
        "false_positives", of cases with predicted voxels of a class that is not in the reference;
        and "never_present", the classes that are in no reference and no prediction, which no mean
        is over. A mean over nothing is `None`.

    Raises:
        ValueError: if there are no cases, or a case has other classes or metrics than the first.
    """
    if not cases:
        raise ValueError("There are no scores of cases to summarise.")
    first = next(iter(cases))
    wanted = _layout(cases[first])
    for case, scores in cases.items():
        if _layout(scores) != wanted:
            raise ValueError(
                f"{case} has scores of other classes or metrics than {first}: {_layout(scores)}; "
                f"wanted {wanted}."
            )
    names = list(cases[first])
    summary: dict[str, Any] = {"cases": len(cases)}
    for metric in SEGMENTATION_METRICS:
        if not all(metric in scores for scores in cases[first].values()):
            continue
        per_class = {name: _one_class(cases, name, metric) for name in names}
        means = [row["mean"] for row in per_class.values() if row["mean"] is not None]
        summary[metric] = {
            "mean": float(np.mean(means)) if means else None,
            "classes_counted": len(means),
            "per_class": per_class,
        }
    counted = {
        name: [
            (scores[name]["predicted_voxels"] > 0, scores[name]["reference_voxels"] > 0)
            for scores in cases.values()
        ]
        for name in names
    }
    summary["present"] = {n: sum(there for _, there in rows) for n, rows in counted.items()}
    summary["misses"] = {n: rows.count((False, True)) for n, rows in counted.items()}
    summary["false_positives"] = {n: rows.count((True, False)) for n, rows in counted.items()}
    summary["never_present"] = [n for n, rows in counted.items() if not any(map(any, rows))]
    return summary


def _layout(scores: CaseScores) -> dict[str, list[str]]:
    return {name: sorted(row) for name, row in scores.items()}


def _one_class(cases: Mapping[str, CaseScores], name: str, metric: str) -> dict[str, Any]:
    values = {case: scores[name][metric] for case, scores in cases.items()}
    known = [value for value in values.values() if value is not None]
    return {
        "mean": float(np.mean(known)) if known else None,
        "std": float(np.std(known)) if known else None,
        "cases": len(known),
        "undefined": [case for case, value in values.items() if value is None],
    }
