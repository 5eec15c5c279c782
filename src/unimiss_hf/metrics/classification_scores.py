"""How well images are classified: AUROC with its interval, average precision, accuracy and more."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from ..input_checks_mit import did_you_mean, near_names
from .bootstrap import MOST_DRAWS, resample_auroc
from .classification_cases import ClassificationCases, check_cases, check_problem_type
from .operating_points import sensitivity_at_specificity
from .regression_scores import regression_scores

CLASSIFICATION_METRICS = (
    "auroc",
    "average_precision",
    "accuracy",
    "f1",
    "sensitivity_at_specificity",
)
# What a class must have for a metric to be defined.
_NEEDS_NEGATIVES = ("auroc", "sensitivity_at_specificity")
_PER_CLASS = ("auroc", "average_precision", "f1", "sensitivity_at_specificity")


def classification_scores(
    scores: Any,
    targets: Any,
    problem_type: str,
    class_names: Sequence[str],
    case_names: Sequence[str] | None = None,
    *,
    specificity: float = 0.9,
    threshold: float = 0.5,
    bootstrap: int = 1000,
    seed: int = 0,
    undefined: str = "raise",
    metrics: Collection[str] = CLASSIFICATION_METRICS,
) -> dict[str, Any]:
    """Judge the scores of a classifier, each class against all others.

    Definitions:
        * AUROC: the share of pairs of a positive and a negative case that are in the right order,
          ties counted as half (Hanley and McNeil, Radiology 1982). Of two classes that exclude each
          other, both have the AUROC of the second, and so has the macro mean.
        * its interval: percentiles 2.5 and 97.5 of resamples of the cases, see
          `bootstrap.resample_auroc`. A draw that lacks a positive or a negative case of a class is
          drawn again. Cases count as independent, also if several are of one patient.
        * average precision: the sum over thresholds of precision times the step in recall, without
          interpolation.
        * F1 and accuracy: of the class with the highest score (the first of equals) where classes
          exclude each other; of all classes whose score reaches `threshold` where they do not.
        * sensitivity at a specificity: see `operating_points.sensitivity_at_specificity`.
        * "macro" is the mean over the classes, each counted alike.

    Args:
        scores: `(cases, classes)`: probabilities of "single_label_classification" (rows add up to
            1) and "multi_label_classification"; values of "regression".
        targets: `(cases,)` numbers of classes; `(cases, classes)` of 0 and 1 for multi-label;
            `(cases, values)` for regression.
        problem_type: as transformers names it.
        class_names: one for each column of the scores.
        case_names: what messages call the cases.
        specificity: at which the sensitivity is told, 0 to 1.
        threshold: of the scores of multi-label classification, above 0, at most 1.
        bootstrap: resamples of the AUROC's interval; 0 leaves the interval out.
        seed: of the resamples.
        undefined: a class without positive cases has none of the metrics but accuracy, one without
            negative cases neither AUROC nor sensitivity. "raise" raises an error. "omit" gives
            `None` for them, names them in "undefined", and takes the means over the other classes,
            whose numbers are in "classes_counted".
        metrics: those to compute, of `CLASSIFICATION_METRICS`.

    Returns:
        JSON-ready: "cases"; the macro means "auroc", "average_precision" and "f1";
        "auroc_interval" `[low, high]` of the macro AUROC; "bootstrap" with the numbers of
        "resamples" that the intervals are of and of draws that were "redrawn"; "accuracy", the
        share of cases that are right (multi-label: the mean over classes, beside "exact_match", the
        share of cases that are right in every class); "sensitivity_at_specificity" with
        "specificity" and the macro "sensitivity"; "classes_counted", over how many classes each
        mean is; "undefined", class → what it lacks; and "per_class", which has the same for each
        class beside its numbers of "positives" and "negatives". For a regression, see
        `regression_scores`.

    Raises:
        ValueError: naming the case, if a score is not finite or no probability, the scores of
            exclusive classes do not add up to 1, or a target is none of the classes; naming the
            class, if a metric is undefined; or if shapes or settings do not fit.
    """
    check_problem_type(problem_type)
    _check_settings(specificity, threshold, bootstrap, undefined, metrics)
    if problem_type == "regression":
        return regression_scores(scores, targets, class_names, case_names, undefined=undefined)
    cases = check_cases(scores, targets, problem_type, class_names, case_names)
    predicted = cases.predicted(threshold)
    score_of: dict[str, Callable[[int], float]] = {
        "auroc": lambda c: roc_auc_score(cases.positive[:, c], cases.ranking[:, c]),
        "average_precision": lambda c: average_precision_score(
            cases.positive[:, c], cases.ranking[:, c]
        ),
        "f1": lambda c: f1_score(cases.positive[:, c], predicted[:, c]),
        "sensitivity_at_specificity": lambda c: sensitivity_at_specificity(
            cases.ranking[:, c], cases.positive[:, c], specificity
        ),
    }
    wanted = [metric for metric in _PER_CLASS if metric in metrics]
    lacks = _undefined(cases, wanted, undefined)
    per_class = _numbers_of_cases(cases)
    result: dict[str, Any] = {"cases": len(cases.scores)}
    counted: dict[str, int] = {}
    for metric in wanted:
        values = []
        for column, name in enumerate(cases.class_names):
            defined = metric not in lacks.get(name, {}).get("metrics", ())
            value = float(score_of[metric](column)) if defined else None
            per_class[name][metric] = value
            values += [value] if defined else []
        counted[metric] = len(values)
        result[metric] = float(np.mean(values)) if values else None
        if metric == "auroc":
            result |= _intervals(cases, bootstrap, seed, per_class)
    if "sensitivity_at_specificity" in wanted:
        sensitivity = result["sensitivity_at_specificity"]
        result["sensitivity_at_specificity"] = {
            "specificity": float(specificity),
            "sensitivity": sensitivity,
        }
    if "accuracy" in metrics:
        result |= _accuracy(cases, predicted)
    return {**result, "classes_counted": counted, "undefined": lacks, "per_class": per_class}


def _check_settings(
    specificity: float, threshold: float, bootstrap: int, undefined: str, metrics: Collection[str]
) -> None:
    if not 0 <= specificity <= 1:
        raise ValueError(f"specificity must be from 0 to 1; got {specificity!r}.")
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must be above 0 and at most 1; got {threshold!r}.")
    if not isinstance(bootstrap, int) or bootstrap < 0:
        raise ValueError(f"bootstrap must be a number of resamples or 0; got {bootstrap!r}.")
    if undefined not in ("raise", "omit"):
        raise ValueError(f"undefined must be 'raise' or 'omit'; got {undefined!r}.")
    for metric in metrics:
        if metric not in CLASSIFICATION_METRICS:
            near = did_you_mean(near_names(metric, CLASSIFICATION_METRICS, 0.6))
            wanted = ", ".join(CLASSIFICATION_METRICS)
            raise ValueError(f"There is no metric {metric!r} of classes; there are {wanted}.{near}")


def _numbers_of_cases(cases: ClassificationCases) -> dict[str, dict[str, Any]]:
    positives = cases.positive.sum(axis=0).tolist()
    total = len(cases.positive)
    return {
        name: {"positives": number, "negatives": total - number}
        for name, number in zip(cases.class_names, positives, strict=True)
    }


def _undefined(
    cases: ClassificationCases, metrics: Sequence[str], undefined: str
) -> dict[str, dict[str, Any]]:
    """Which metrics the classes lack, and why; raises if they may lack none."""
    lacks: dict[str, dict[str, Any]] = {}
    total = len(cases.positive)
    for name, positives in zip(cases.class_names, cases.positive.sum(axis=0), strict=True):
        if positives == 0:
            missing, reason = list(metrics), f"none of the {total} cases is positive"
        elif positives == total:
            missing = [metric for metric in metrics if metric in _NEEDS_NEGATIVES]
            reason = f"all of the {total} cases are positive"
        else:
            continue
        if missing:
            lacks[name] = {"reason": reason, "metrics": missing}
    if lacks and undefined == "raise":
        lines = "; ".join(
            f"class {name}: {lack['reason']}, so that {', '.join(lack['metrics'])} is undefined"
            for name, lack in lacks.items()
        )
        raise ValueError(
            f"{lines}. Give cases of both kinds, or pass undefined='omit' to leave such classes "
            "out of the means."
        )
    return lacks


def _intervals(
    cases: ClassificationCases, bootstrap: int, seed: int, per_class: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """The macro's interval and what it is of; those of the classes are added to `per_class`."""
    for row in per_class.values():
        row["auroc_interval"] = None
    nothing = {"auroc_interval": None, "bootstrap": {"resamples": 0, "redrawn": 0}}
    defined = [c for c, row in enumerate(per_class.values()) if row["auroc"] is not None]
    if not bootstrap or not defined:
        return nothing
    drawn = resample_auroc(cases.ranking[:, defined], cases.positive[:, defined], bootstrap, seed)
    numbers = {"resamples": len(drawn.values), "redrawn": drawn.redrawn}
    if len(drawn.values) < bootstrap:
        reason = (
            f"only {len(drawn.values)} of {MOST_DRAWS * bootstrap} draws had positive and negative "
            f"cases of all {len(defined)} classes; wanted {bootstrap} for an interval"
        )
        return nothing | {"bootstrap": {**numbers, "reason": reason}}
    for column, interval in zip(defined, drawn.intervals(), strict=True):
        per_class[cases.class_names[column]]["auroc_interval"] = interval
    return {"auroc_interval": drawn.macro_interval(), "bootstrap": numbers}


def _accuracy(cases: ClassificationCases, predicted: np.ndarray) -> dict[str, float]:
    right = predicted == cases.positive
    exact = float(right.all(axis=1).mean())
    if cases.single_label:
        return {"accuracy": exact}
    return {"accuracy": float(right.mean()), "exact_match": exact}
