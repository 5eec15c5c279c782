"""How near predicted values are to the true ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from .classification_cases import check_class_names, check_scores

_ERRORS = ("mean_absolute_error", "root_mean_squared_error")
_RELATIVE = ("r2", "pearson")


def regression_scores(
    scores: Any,
    targets: Any,
    value_names: Sequence[str],
    case_names: Sequence[str] | None = None,
    *,
    undefined: str = "raise",
) -> dict[str, Any]:
    """Judge predicted values, see `classification_scores`.

    Args:
        scores: `(cases, values)`.
        targets: `(cases, values)`; `(cases,)` where there is one value.
        value_names: one for each value.
        case_names: what messages call the cases.
        undefined: see `classification_scores`.

    Returns:
        Means over the values of "mean_absolute_error", "root_mean_squared_error", "r2" (the
        coefficient of determination) and "pearson" (the correlation), and "per_class" with them
        for each value.

    Raises:
        ValueError: naming the case or the value, see `classification_scores`.
    """
    names = check_class_names(value_names, 1)
    predicted, cases = check_scores(scores, names, case_names)
    given = np.asarray(targets, dtype=np.float64)
    if given.ndim == 1 and len(names) == 1:
        given = given[:, None]
    if given.shape != predicted.shape:
        raise ValueError(
            f"Wanted targets of the shape of the scores, {predicted.shape}; got "
            f"{np.shape(targets)}."
        )
    true, _ = check_scores(given, names, cases, "a finite value as a target")
    reasons = {}
    per_value = {}
    for name, values, wanted in zip(names, predicted.T, true.T, strict=True):
        per_value[name], reason = _one_value(values, wanted)
        if reason:
            reasons[name] = reason
    if reasons and undefined == "raise":
        lines = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        raise ValueError(f"{lines}. Pass undefined='omit' to leave these out of the means.")
    result: dict[str, Any] = {"cases": len(cases)}
    counted = {}
    for metric in (*_ERRORS, *_RELATIVE):
        known = [row[metric] for row in per_value.values() if row[metric] is not None]
        result[metric] = float(np.mean(known)) if known else None
        counted[metric] = len(known)
    return {**result, "classes_counted": counted, "undefined": reasons, "per_class": per_value}


def _one_value(values: np.ndarray, true: np.ndarray) -> tuple[dict[str, float | None], str]:
    scores: dict[str, float | None] = {
        "mean_absolute_error": float(mean_absolute_error(true, values)),
        "root_mean_squared_error": float(root_mean_squared_error(true, values)),
        "r2": None,
        "pearson": None,
    }
    if np.ptp(true) == 0:
        return scores, f"all {len(true)} targets are {true[0]:g}: r2 and pearson are undefined"
    scores["r2"] = float(r2_score(true, values))
    if np.ptp(values) == 0:
        return scores, f"all {len(true)} predictions are {values[0]:g}: pearson is undefined"
    scores["pearson"] = float(np.corrcoef(true, values)[0, 1])
    return scores, ""
