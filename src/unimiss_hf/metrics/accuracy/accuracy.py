"""Accuracy, as a module of the evaluate library."""

from collections.abc import Sequence
from typing import Any

from unimiss_hf.metrics.classification_module import ClassificationModule


class Accuracy(ClassificationModule):
    """Share of cases whose class has the highest probability.

    Where classes do not exclude each other, it is the mean over classes of the share of cases that
    are right, beside exact_match, the share of cases that are right in every class.
    """

    inputs = """    threshold: probability from which a class counts as predicted, where classes do
        not exclude each other.

Returns:
    accuracy, and exact_match where classes do not exclude each other.
"""

    def _compute(
        self,
        predictions: Any,
        references: Any,
        class_names: Sequence[str] | None = None,
        case_names: Sequence[str] | None = None,
        threshold: float = 0.5,
    ) -> dict[str, Any]:
        return self._judge(
            "accuracy", predictions, references, class_names, case_names, threshold=threshold
        )
