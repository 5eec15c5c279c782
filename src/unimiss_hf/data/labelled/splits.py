"""Which cases train, validate and test: by patient, from a seed, and the same in every process."""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .case import SPLITS, LabelledCase, LabelledData


@dataclass(frozen=True)
class CaseSplit:
    """The cases of one run; no patient is in two parts.

    Attributes:
        train: what is trained on.
        validation: what chooses the best checkpoint, and nothing else.
        test: what is scored at the end.
        unlabelled: how many cases were left out because their labels are not given away.
    """

    train: tuple[LabelledCase, ...]
    validation: tuple[LabelledCase, ...]
    test: tuple[LabelledCase, ...]
    unlabelled: int = 0


def split_cases(
    data: LabelledData,
    *,
    validation_fraction: float = 0.2,
    test_fraction: float = 0.2,
    label_fraction: float = 1.0,
    folds: int | None = None,
    fold: int = 0,
    seed: int = 0,
) -> CaseSplit:
    """Split a data set's labelled cases.

    The official split counts where there is one. What it lacks is chosen among the training
    patients: first the test part, then validation. Patients are drawn by a hash of the seed and
    their name; those of a classification are drawn from each class alike. Smaller label fractions
    are parts of larger ones, and validation and test stay the same for all of them.

    With `folds`, all labelled patients but the official test split are dealt into so many parts,
    one of which tests; validation is chosen among the others. No patient tests twice.

    Args:
        data: The data set's cases.
        validation_fraction: Share of the training patients that validate, if no split says so.
        test_fraction: Share of all patients that test, if no split says so.
        label_fraction: Share of the training patients that are kept.
        folds: Number of parts of a cross-validation.
        fold: Which of them tests, from 0.
        seed: Of the choices.

    Raises:
        ValueError: If a patient is in two official splits, if a part would be empty, if there are
            fewer patients than folds, or if a class has no training case.
    """
    _require_no_leak(data.cases)
    labelled = [case for case in data.cases if case.is_labelled]
    if not labelled:
        raise ValueError(
            f"None of the {len(data.cases)} cases has a label; nothing can be trained."
        )
    parts: dict[str, list[LabelledCase]] = {name: [] for name in SPLITS}
    for case in labelled:
        parts[case.split or "train"].append(case)
    if folds is not None:
        parts = _fold(parts, folds, fold, seed)
    elif not parts["test"]:
        parts["train"], parts["test"] = _draw(parts["train"], test_fraction, "test", seed)
    if not parts["validation"]:
        parts["train"], parts["validation"] = _draw(
            parts["train"], validation_fraction, "validation", seed
        )
    if label_fraction < 1:
        _, parts["train"] = _draw(parts["train"], label_fraction, "labels", seed)
    _require_parts(parts, data)
    return CaseSplit(
        tuple(parts["train"]),
        tuple(parts["validation"]),
        tuple(parts["test"]),
        len(data.cases) - len(labelled),
    )


def patient_of(case: LabelledCase) -> str:
    """The patient of a case; a case that names none is a patient of its own."""
    return case.patient or case.name


def _require_no_leak(cases: Iterable[LabelledCase]) -> None:
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for case in cases:
        if case.split is not None:
            found[patient_of(case)].setdefault(case.split, case.name)
    leaks = {patient: splits for patient, splits in found.items() if len(splits) > 1}
    if leaks:
        patient, splits = min(leaks.items())
        listed = ", ".join(f"{name} in {split}" for split, name in sorted(splits.items()))
        more = f", and so are {len(leaks) - 1} more patients" if len(leaks) > 1 else ""
        raise ValueError(
            f"Patient {patient} is in several splits: {listed}{more}. Scores would be of what was "
            "trained on. Mend the split, so that each patient is in one."
        )


def _draw(
    cases: Sequence[LabelledCase], fraction: float, purpose: str, seed: int
) -> tuple[list[LabelledCase], list[LabelledCase]]:
    """Split into what stays and what is drawn; one patient of each class at least is drawn."""
    drawn: set[str] = set()
    for patients in _strata(cases).values():
        count = min(len(patients), max(1, math.floor(fraction * len(patients) + 0.5)))
        drawn.update(_shuffled(patients, purpose, seed)[:count])
    return (
        [case for case in cases if patient_of(case) not in drawn],
        [case for case in cases if patient_of(case) in drawn],
    )


def _fold(
    parts: dict[str, list[LabelledCase]], folds: int, fold: int, seed: int
) -> dict[str, list[LabelledCase]]:
    cases = [*parts["train"], *parts["validation"]]
    patients = {patient_of(case) for case in cases}
    if len(patients) < folds:
        raise ValueError(
            f"There are {folds} folds, but only {len(patients)} labelled patients outside the "
            "official test split. Give fewer folds."
        )
    dealt: dict[str, int] = {}
    for stratum in _strata(cases).values():
        for patient in _shuffled(stratum, "folds", seed):
            dealt[patient] = len(dealt) % folds
    return {
        "train": [case for case in cases if dealt[patient_of(case)] != fold],
        "validation": [],
        "test": [case for case in cases if dealt[patient_of(case)] == fold],
    }


def _strata(cases: Iterable[LabelledCase]) -> dict[int, list[str]]:
    """Patients by their most frequent class; of other tasks than one class a case, all as one."""
    targets: dict[str, Counter] = defaultdict(Counter)
    for case in cases:
        targets[patient_of(case)][case.target if isinstance(case.target, int) else -1] += 1
    strata: dict[int, list[str]] = defaultdict(list)
    for patient, counts in targets.items():
        strata[min(counts, key=lambda target: (-counts[target], target))].append(patient)
    return dict(sorted(strata.items()))


def _shuffled(patients: Iterable[str], purpose: str, seed: int) -> list[str]:
    def key(patient: str) -> bytes:
        return hashlib.sha256(f"{seed}/{purpose}/{patient}".encode()).digest()

    return sorted(patients, key=key)


def _require_parts(parts: dict[str, list[LabelledCase]], data: LabelledData) -> None:
    empty = [name for name in SPLITS if not parts[name]]
    if empty:
        counts = {name: len(cases) for name, cases in parts.items()}
        raise ValueError(
            f"No labelled case is left for {' and '.join(empty)}: {counts}. More labelled cases, "
            "or other fractions or folds, are needed."
        )
    targets = [case.target for case in parts["train"]]
    if all(isinstance(target, int) for target in targets):
        missing = sorted(set(range(len(data.class_names))) - set(targets))
    elif data.is_multi_label and targets[0] is not None:
        sums = [sum(column) for column in zip(*targets, strict=True)]
        missing = [number for number, count in enumerate(sums) if count == 0]
    else:
        return
    if missing:
        names = ", ".join(data.class_names[number] for number in missing)
        raise ValueError(
            f"No training case is of {names}, among {len(targets)}. A class that is never seen "
            "cannot be learnt: use more labels, or another split_seed."
        )
