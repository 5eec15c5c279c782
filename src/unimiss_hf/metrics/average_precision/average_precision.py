"""Average precision, as a module of the evaluate library."""

from collections.abc import Sequence
from typing import Any

from unimiss_hf.metrics.classification_module import ClassificationModule


class AveragePrecision(ClassificationModule):
    """Average precision of each class and their mean.

    It is the sum over thresholds of the precision times the step in recall, without interpolation.
    """

    inputs = """
Returns:
    average_precision, classes_counted, undefined and per_class.
"""

    def _compute(
        self,
        predictions: Any,
        references: Any,
        class_names: Sequence[str] | None = None,
        case_names: Sequence[str] | None = None,
        undefined: str = "raise",
    ) -> dict[str, Any]:
        return self._judge(
            "average_precision",
            predictions,
            references,
            class_names,
            case_names,
            undefined=undefined,
        )
