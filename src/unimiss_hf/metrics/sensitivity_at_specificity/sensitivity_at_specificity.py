"""Sensitivity at a specificity, as a module of the evaluate library."""

from collections.abc import Sequence
from typing import Any

from unimiss_hf.metrics.classification_module import ClassificationModule


class SensitivityAtSpecificity(ClassificationModule):
    """Highest sensitivity at a threshold with at least a given specificity, of each class.

    Nothing is interpolated between the thresholds that the cases have.
    """

    inputs = """    specificity: the least that counts, 0 to 1.

Returns:
    sensitivity_at_specificity with specificity and the mean sensitivity, classes_counted, undefined
    and per_class.
"""

    def _compute(
        self,
        predictions: Any,
        references: Any,
        class_names: Sequence[str] | None = None,
        case_names: Sequence[str] | None = None,
        specificity: float = 0.9,
        undefined: str = "raise",
    ) -> dict[str, Any]:
        return self._judge(
            "sensitivity_at_specificity",
            predictions,
            references,
            class_names,
            case_names,
            specificity=specificity,
            undefined=undefined,
        )
