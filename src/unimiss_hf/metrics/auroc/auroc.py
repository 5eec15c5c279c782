"""AUROC with its bootstrap interval, as a module of the evaluate library."""

from collections.abc import Sequence
from typing import Any

from unimiss_hf.metrics.classification_module import ClassificationModule


class Auroc(ClassificationModule):
    """Area under the ROC curve of each class and their mean, with 95 % intervals.

    It is the share of pairs of a positive and a negative case that are in the right order, ties
    counted as half. The intervals are percentiles 2.5 and 97.5 of resamples of the cases.
    """

    citation = (
        "Hanley, McNeil. The meaning and use of the area under a receiver operating characteristic "
        "(ROC) curve. Radiology, 1982."
    )
    inputs = """    bootstrap: number of resamples of the intervals; 0 leaves them out.
    seed: of the resamples.

Returns:
    auroc, auroc_interval, bootstrap, classes_counted, undefined and per_class.
"""

    def _compute(
        self,
        predictions: Any,
        references: Any,
        class_names: Sequence[str] | None = None,
        case_names: Sequence[str] | None = None,
        bootstrap: int = 1000,
        seed: int = 0,
        undefined: str = "raise",
    ) -> dict[str, Any]:
        return self._judge(
            "auroc",
            predictions,
            references,
            class_names,
            case_names,
            bootstrap=bootstrap,
            seed=seed,
            undefined=undefined,
        )
