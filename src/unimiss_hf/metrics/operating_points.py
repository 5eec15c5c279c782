"""What a classifier finds at a threshold that keeps its false alarms within bounds."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import roc_curve

# Shares of cases are further apart than this, and rounding is less.
_ROUNDING = 1e-9


def sensitivity_at_specificity(
    scores: np.ndarray, positive: np.ndarray, specificity: float
) -> float:
    """Return the highest sensitivity of all thresholds whose specificity is not below the given.

    Nothing is interpolated between the thresholds that the cases have. The threshold is chosen on
    the cases that it is judged on, as is usual for this figure.

    Args:
        scores: `(cases,)`, finite.
        positive: `(cases,)`, bool, with positives and negatives.
        specificity: from 0 to 1.
    """
    false_alarms, found, _ = roc_curve(positive, scores, drop_intermediate=False)
    return float(found[1 - false_alarms >= specificity - _ROUNDING].max())
