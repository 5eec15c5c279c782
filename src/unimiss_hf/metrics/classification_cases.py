"""Scores of classes and their targets, checked case by case before anything is counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..classification_scores_mit import PROBLEM_TYPES
from ..input_checks_mit import did_you_mean, near_names

# Scores in bfloat16 do not add up to 1 exactly; logits do not come near it.
_SUM_TOLERANCE = 0.01


@dataclass(frozen=True)
class ClassificationCases:
    """Cases that are fit to be judged.

    Attributes:
        class_names: one for each column.
        scores: `(cases, classes)`, float64, probabilities.
        positive: `(cases, classes)`, bool; whether the case is of the class.
        single_label: whether a case is of one class only.
    """

    class_names: tuple[str, ...]
    scores: np.ndarray
    positive: np.ndarray
    single_label: bool

    @property
    def ranking(self) -> np.ndarray:
        """`(cases, classes)`: what the cases are ranked by.

        Of two classes that exclude each other, the first is ranked by the second's score reversed:
        rounding makes ties where a probability is near 1 that are none where it is near 0.
        """
        if self.single_label and len(self.class_names) == 2:
            return np.stack([-self.scores[:, 1], self.scores[:, 1]], axis=1)
        return self.scores

    def predicted(self, threshold: float) -> np.ndarray:
        """`(cases, classes)`, bool: the class of the highest score, or all from the threshold."""
        if not self.single_label:
            return self.scores >= threshold
        best = self.scores.argmax(axis=1)
        return best[:, None] == np.arange(len(self.class_names))


def check_problem_type(problem_type: str) -> None:
    """Raise a ValueError unless transformers knows the type."""
    if problem_type not in PROBLEM_TYPES:
        near = did_you_mean(near_names(str(problem_type), PROBLEM_TYPES, 0.6))
        wanted = ", ".join(PROBLEM_TYPES)
        raise ValueError(f"problem_type must be one of {wanted}; got {problem_type!r}.{near}")


def check_class_names(class_names: Sequence[str], least: int) -> tuple[str, ...]:
    """Return the names, or raise a ValueError if they are too few or not unique."""
    if isinstance(class_names, str) or not all(isinstance(name, str) for name in class_names):
        raise ValueError(f"class_names must be a list of names; got {class_names!r}.")
    names = tuple(class_names)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"Names of classes are unique; these are not: {', '.join(twice)}.")
    if len(names) < least:
        raise ValueError(f"Wanted {least} classes or more; class_names are {list(names)}.")
    return names


def check_scores(
    scores: Any,
    class_names: Sequence[str],
    case_names: Sequence[str] | None,
    wanted: str = "a finite score",
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return `(cases, classes)` of finite float64, and the cases' names.

    Raises:
        ValueError: if the shape does not fit the names, or a score is not finite.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != len(class_names) or not len(values):
        raise ValueError(
            f"Wanted scores (cases, {len(class_names)}), a column for each of the classes; got "
            f"shape {values.shape}."
        )
    if case_names is None:
        case_names = [f"case {index}" for index in range(len(values))]
    cases = tuple(case_names)
    if len(cases) != len(values):
        raise ValueError(f"There are scores of {len(values)} cases, but {len(cases)} case_names.")
    _refuse(~np.isfinite(values), values, wanted, cases, class_names)
    return values, cases


def check_cases(
    scores: Any,
    targets: Any,
    problem_type: str,
    class_names: Sequence[str],
    case_names: Sequence[str] | None = None,
) -> ClassificationCases:
    """Check scores and targets of a classification, see `classification_scores`.

    Raises:
        ValueError: naming the case, if a score is no probability, the scores of exclusive classes
            do not add up to 1, or a target is none of the classes; or if shapes do not fit.
    """
    single = problem_type == "single_label_classification"
    names = check_class_names(class_names, 2 if single else 1)
    values, cases = check_scores(scores, names, case_names)
    _refuse((values < 0) | (values > 1), values, "a probability from 0 to 1", cases, names)
    given = np.asarray(targets)
    wanted = (len(cases),) if single else values.shape
    if given.shape != wanted or given.dtype.kind not in "biuf":
        raise ValueError(
            f"Wanted targets of shape {wanted} for scores of shape {values.shape} and "
            f"{problem_type}; got shape {given.shape}, {given.dtype}."
        )
    if not single:
        _refuse((given != 0) & (given != 1), given, "0 or 1 as a target", cases, names)
        return ClassificationCases(names, values, given == 1, single)
    sums = values.sum(axis=1)
    for case in np.flatnonzero(np.abs(sums - 1) > _SUM_TOLERANCE):
        raise ValueError(
            f"{cases[case]}: its scores add up to {sums[case]:.4g}; wanted probabilities of "
            "classes that exclude each other, such as a softmax, which add up to 1."
        )
    positive = given[:, None] == np.arange(len(names))
    for case in np.flatnonzero(~positive.any(axis=1)):
        raise ValueError(
            f"{cases[case]}: its target {given[case]} is none of the {len(names)} classes, 0 to "
            f"{len(names) - 1}."
        )
    return ClassificationCases(names, values, positive, single)


def _refuse(
    wrong: np.ndarray,
    values: np.ndarray,
    wanted: str,
    cases: Sequence[str],
    class_names: Sequence[str],
) -> None:
    for case, column in np.argwhere(wrong):
        raise ValueError(
            f"{cases[case]}, class {class_names[column]}: wanted {wanted}; got "
            f"{values[case, column]}."
        )
