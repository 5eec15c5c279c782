"""What the `evaluate` modules of segmentation share."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar

import blosc2
import evaluate
import numpy as np
from datasets import Features, Value

from .segmentation_scores import segmentation_scores
from .segmentation_summary import summarise_segmentation

_INPUTS = """
Args:
    predictions: for each case its label map ([depth,] height, width) of integers or, with
        multi_label, masks (classes, [depth,] height, width); shapes may differ between cases.
    references: likewise.
    class_names: in the order of the numbers, the background first, which masks do not have. If not
        given, "0", "1", ... up to the highest label or the number of masks.
    spacing: mm, in the order of the axes; one for all cases, or a list with one for each.
    case_names: what messages and the answer call the cases.
    multi_label: whether structures may overlap.
    ignore_index: label of a reference that is not judged, 255 if not given.
"""


# Abstract, for evaluate takes the first class of a file that is not: the metric's own.
class SegmentationModule(evaluate.Metric, abc.ABC):
    """A metric of `segmentation_scores` as an `evaluate` module.

    Each volume of a set has a shape of its own, and evaluate gives back nested lists, with a Python
    object for each voxel: many seconds and gigabytes for a CT. So a volume is kept as one binary
    value, compressed, and comes back as the array that it was, one case at a time.

    A subclass has a docstring that says what the metric is, and `_compute`, which calls `_judge`.
    """

    citation: ClassVar[str] = ""
    inputs: ClassVar[str] = ""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=type(self).__doc__ or "",
            citation=self.citation,
            inputs_description=_INPUTS + self.inputs,
            features=Features({"predictions": Value("binary"), "references": Value("binary")}),
        )

    def add_batch(self, *, predictions: Any = None, references: Any = None, **kwargs: Any) -> None:
        """Add the segmentations of several cases."""
        super().add_batch(
            predictions=_packed(predictions, "predictions"),
            references=_packed(references, "references"),
            **kwargs,
        )

    def add(self, *, prediction: Any = None, reference: Any = None, **kwargs: Any) -> None:
        """Add the segmentation of one case."""
        self.add_batch(
            predictions=None if prediction is None else [prediction],
            references=None if reference is None else [reference],
            **kwargs,
        )

    @abc.abstractmethod
    def _compute(self, predictions: Any, references: Any, **kwargs: Any) -> dict[str, Any]: ...

    def _judge(
        self,
        metric: str,
        predictions: Sequence[bytes],
        references: Sequence[bytes],
        class_names: Sequence[str] | None = None,
        spacing: Any = None,
        case_names: Sequence[str] | None = None,
        multi_label: bool = False,
        **settings: Any,
    ) -> dict[str, Any]:
        """The part of `summarise_segmentation` that is about one metric."""
        number = len(predictions)
        if case_names is None:
            case_names = [f"case {index}" for index in range(number)]
        names = list(case_names)
        if len(set(names)) != number or len(names) != number:
            raise ValueError(f"Wanted {number} case_names, all different; got {names}.")
        if spacing is None and metric != "dice":
            raise ValueError(f"{metric} is measured in mm. Give the spacing of the voxels.")
        if np.ndim(spacing) == 2 and len(spacing) != number:
            raise ValueError(f"There are {number} cases, but {len(spacing)} spacings.")
        if class_names is None:
            class_names = _numbered(
                [*predictions, *references], multi_label, settings.get("ignore_index", 255)
            )
        scores = {}
        for index, (name, *pair) in enumerate(zip(names, predictions, references, strict=True)):
            prediction, reference = map(blosc2.unpack_array2, pair)
            lengths = spacing[index] if np.ndim(spacing) == 2 else spacing
            scores[name] = segmentation_scores(
                prediction,
                reference,
                class_names,
                # Dice has no use for it.
                (1.0,) * (prediction.ndim - multi_label) if lengths is None else lengths,
                case=name,
                multi_label=multi_label,
                surfaces=() if metric == "dice" else (metric,),
                **settings,
            )
        summary = summarise_segmentation(scores)
        whole = ("cases", "present", "misses", "false_positives", "never_present")
        chosen = summary[metric]
        return {metric: chosen.pop("mean"), **chosen, **{key: summary[key] for key in whole}}


def _packed(segmentations: Any, name: str) -> list[bytes]:
    if segmentations is None:
        raise ValueError(f"There are no {name}. Give both predictions and references.")
    return [blosc2.pack_array2(_array(labels, name)) for labels in segmentations]


def _array(labels: Any, name: str) -> np.ndarray:
    # A tensor may lie on a GPU, from where numpy takes nothing.
    array = np.ascontiguousarray(labels.cpu() if hasattr(labels, "cpu") else labels)
    if array.dtype.kind not in "biu" or array.ndim < 2:
        raise ValueError(
            f"One of the {name} is {array.dtype} of shape {array.shape}; wanted a label map "
            "([depth,] height, width) of integers, or masks of one for each class."
        )
    return array


def _numbered(packed: Iterable[bytes], multi_label: bool, ignore_index: int | None) -> list[str]:
    """Names of classes that have none but their numbers."""
    counts = (
        len(array) if multi_label else _highest(array, ignore_index) + 1
        for array in _unpacked(packed)
    )
    return [str(number) for number in range(max(counts))]


def _unpacked(packed: Iterable[bytes]) -> Iterator[np.ndarray]:
    return map(blosc2.unpack_array2, packed)


def _highest(labels: np.ndarray, ignore_index: int | None) -> int:
    # Two classes there are in any case: the background and another.
    return int(max(labels.max(initial=1, where=labels != ignore_index), 1))
