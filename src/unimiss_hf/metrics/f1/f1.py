"""F1, as a module of the evaluate library."""

from collections.abc import Sequence
from typing import Any

from unimiss_hf.metrics.classification_module import ClassificationModule


class F1(ClassificationModule):
    """F1, the harmonic mean of precision and recall, of each class and their mean.

    The class with the highest probability counts as predicted; where classes do not exclude each
    other, all whose probability reaches the threshold.
    """

    inputs = """    threshold: probability from which a class counts as predicted, where classes do
        not exclude each other.

Returns:
    f1, classes_counted, undefined and per_class.
"""

    def _compute(
        self,
        predictions: Any,
        references: Any,
        class_names: Sequence[str] | None = None,
        case_names: Sequence[str] | None = None,
        threshold: float = 0.5,
        undefined: str = "raise",
    ) -> dict[str, Any]:
        return self._judge(
            "f1",
            predictions,
            references,
            class_names,
            case_names,
            threshold=threshold,
            undefined=undefined,
        )
