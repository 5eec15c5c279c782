"""What the `evaluate` modules of classification share."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any, ClassVar

import evaluate
from datasets import Features, Value
from datasets import Sequence as ListOf

from .classification_scores import classification_scores

_INPUTS = """
Args:
    predictions: for each case the probabilities of all classes.
    references: for each case the number of its class; where classes do not exclude each other, a 0
        or 1 for each class.
    class_names: in the order of the numbers; "0", "1", ... if not given.
    case_names: what messages call the cases.
    undefined: "raise" an error where a class lacks positive or negative cases, or "omit" it from
        the mean.
"""


# Abstract, so that evaluate, which takes the first class of a file, takes the metric's own.
class ClassificationModule(evaluate.Metric, abc.ABC):
    """A metric of `classification_scores` as an `evaluate` module.

    A subclass has a docstring that says what the metric is, and `_compute`, which calls `_judge`.
    """

    citation: ClassVar[str] = ""
    inputs: ClassVar[str] = ""

    def _info(self) -> evaluate.MetricInfo:
        # Numbers of classes are taken as floats, for whatever is none must not be rounded.
        targets = (Value("float64"), ListOf(Value("float64")))
        return evaluate.MetricInfo(
            description=type(self).__doc__ or "",
            citation=self.citation,
            inputs_description=_INPUTS + self.inputs,
            features=[
                Features({"predictions": ListOf(Value("float64")), "references": target})
                for target in targets
            ],
        )

    @abc.abstractmethod
    def _compute(self, predictions: Any, references: Any, **kwargs: Any) -> dict[str, Any]: ...

    def _judge(
        self,
        metric: str,
        predictions: Sequence[Sequence[float]],
        references: Sequence[Any],
        class_names: Sequence[str] | None = None,
        case_names: Sequence[str] | None = None,
        **settings: Any,
    ) -> dict[str, Any]:
        """The part of `classification_scores` that is about one metric."""
        widths = sorted({len(row) for row in predictions})
        if len(widths) > 1:
            raise ValueError(f"Wanted a score for each class of every case; got {widths} scores.")
        several = isinstance(references[0], list)
        return classification_scores(
            predictions,
            references,
            "multi_label_classification" if several else "single_label_classification",
            class_names or [str(number) for number in range(widths[0])],
            case_names,
            metrics=[metric],
            **settings,
        )
