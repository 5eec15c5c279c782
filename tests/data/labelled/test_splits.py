"""Which cases train, validate and test: by patient, from a seed."""

import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from unimiss_hf.data.labelled.case import LabelledCase, LabelledData
from unimiss_hf.data.labelled.splits import patient_of, split_cases

NAMES = ("normal", "pneumonia", "covid")


def case(name, target=0, patient="", split=None):
    return LabelledCase(name, "2d", (Path(f"{name}.png"),), split, patient, target)


def data_of(cases, problem_type="single_label_classification", names=NAMES):
    return LabelledData(names, tuple(cases), problem_type)


def many(patients=30, images=2):
    """Three classes, of 15, 9 and 6 patients in 30, each with two images."""
    target = [0, 0, 0, 0, 0, 1, 1, 1, 2, 2]
    return data_of(
        case(f"{patient:02d}-{image}", target[patient % 10], f"P{patient:02d}")
        for image in range(images)
        for patient in range(patients)
    )


def patients(cases):
    return {patient_of(case) for case in cases}


def names(cases):
    return [case.name for case in cases]


def parts(split):
    return split.train, split.validation, split.test


def require_whole(split, data):
    """Every case is in one part, every patient too."""
    assert sorted(name for part in parts(split) for name in names(part)) == sorted(
        case.name for case in data.cases
    )
    found = [patient for part in parts(split) for patient in patients(part)]
    assert len(found) == len(set(found))


@pytest.mark.parametrize("seed", range(5))
def test_no_patient_is_in_two_parts(seed):
    data = many()
    split = split_cases(data, seed=seed)
    require_whole(split, data)
    # 20 % of 15, 9 and 6 patients: 3 + 2 + 1; then of the 12, 7 and 5 left: 2 + 1 + 1
    assert [len(patients(part)) for part in parts(split)] == [20, 4, 6]


def test_classes_are_drawn_alike():
    split = split_cases(many(100), validation_fraction=0.25, test_fraction=0.2)
    for part, wanted in zip(parts(split), [(30, 18, 12), (10, 6, 4), (10, 6, 4)], strict=True):
        found = {patient_of(case): case.target for case in part}.values()
        assert tuple(list(found).count(target) for target in range(3)) == wanted


def test_the_same_in_any_order_and_another_with_another_seed():
    data = many()
    split = split_cases(data, seed=3)
    reversed_data = replace(data, cases=data.cases[::-1])
    again = split_cases(reversed_data, seed=3)
    assert [sorted(names(part)) for part in parts(again)] == [
        sorted(names(part)) for part in parts(split)
    ]
    assert split == split_cases(data, seed=3)
    assert patients(split_cases(data, seed=4).test) != patients(split.test)


def test_a_case_without_a_patient_is_one_of_its_own():
    data = data_of(case(f"scan-{number}", number % 3) for number in range(30))
    split = split_cases(data)
    require_whole(split, data)
    assert patient_of(data.cases[4]) == "scan-4"


def official(*splits):
    return data_of(
        case(f"{number}", number % 3, f"P{number}", split) for number, split in enumerate(splits)
    )


def test_official_parts_stay():
    data = official(*["train"] * 9, *["validation"] * 3, *["test"] * 3)
    for seed in range(3):
        split = split_cases(data, validation_fraction=0.5, test_fraction=0.5, seed=seed)
        assert split.validation == data.cases[9:12] and split.test == data.cases[12:]
        assert split.train == data.cases[:9]


def test_what_the_official_split_lacks_comes_from_its_training_part():
    data = official(*["train"] * 12, *["test"] * 3)
    split = split_cases(data, validation_fraction=0.25)
    assert split.test == data.cases[12:]
    assert len(split.validation) == 3
    assert patients(split.validation) < patients(data.cases[:12])
    data = official(*["train"] * 12, *["validation"] * 3)
    split = split_cases(data, test_fraction=0.25)
    assert split.validation == data.cases[12:]
    assert len(split.test) == 3
    assert patients(split.test) < patients(data.cases[:12])


def test_a_test_split_without_labels_is_counted_and_another_drawn():
    hidden = [case(f"t{number}", None, split="test") for number in range(4)]
    data = official(*["train"] * 15)
    split = split_cases(replace(data, cases=(*data.cases, *hidden)))
    assert split.unlabelled == 4
    assert len(split.test) == 3 and not patients(split.test) & {case.name for case in hidden}


def test_a_patient_in_two_official_parts_is_refused():
    data = data_of(
        [
            case("a1", patient="Ann", split="train"),
            case("a2", patient="Ann", split="test"),
            case("b1", 1, patient="Bob", split="validation"),
            case("b2", 1, patient="Bob", split="train"),
            case("c", 2, split="train"),
        ]
    )
    told = (
        r"Patient Ann is in several splits: a2 in test, a1 in train, and so are 1 more patients\. "
        r"Scores would be of what was trained on\. Mend the split"
    )
    with pytest.raises(ValueError, match=told):
        split_cases(data)


def test_a_leak_by_a_case_without_label_is_refused():
    cases = [
        case("a", 0, "Ann", "train"),
        case("b", None, "Ann", "test"),
        *many().cases,
    ]
    with pytest.raises(ValueError, match="Patient Ann is in several splits: b in test, a in train"):
        split_cases(data_of(cases))


def test_smaller_fractions_of_labels_are_parts_of_larger_ones():
    data = many(100)
    found = {f: split_cases(data, label_fraction=f) for f in (0.01, 0.1, 0.2, 0.4, 0.8, 1.0)}
    whole = found[1.0]
    kept = [patients(split.train) for split in found.values()]
    for smaller, larger in itertools.pairwise(kept):
        assert smaller < larger
    for split in found.values():
        assert (split.validation, split.test) == (whole.validation, whole.test)
    # of 32, 19 and 13 training patients
    assert len(kept[2]) == 6 + 4 + 3
    assert len(kept[0]) == 3, "one of each class at least"
    for fraction, split in found.items():
        # all images of a patient, or none
        assert len(split.train) == 2 * len(patients(split.train)), fraction


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_every_patient_tests_in_one_fold(folds):
    data = many()
    runs = [split_cases(data, folds=folds, fold=fold) for fold in range(folds)]
    for split in runs:
        require_whole(split, data)
    tests = [patients(split.test) for split in runs]
    assert set().union(*tests) == patients(data.cases)
    assert sum(map(len, tests)) == 30
    assert max(map(len, tests)) - min(map(len, tests)) <= 1
    for split in runs:
        counts = [
            len({patient_of(c) for c in split.test if c.target == target}) for target in range(3)
        ]
        for count, total in zip(counts, (15, 9, 6), strict=True):
            assert abs(count - total / folds) < 1, "each class is dealt evenly"


def test_folds_leave_the_official_test_split_out():
    data = official(*["train"] * 12, *["validation"] * 6, *["test"] * 3)
    tests = [patients(split_cases(data, folds=3, fold=fold).test) for fold in range(3)]
    assert set().union(*tests) == patients(data.cases[:18])


def test_fractions_of_labels_within_a_fold_do_not_move_what_is_judged():
    data = many()
    whole, part = (split_cases(data, folds=5, fold=2, label_fraction=f) for f in (1.0, 0.4))
    assert (part.validation, part.test) == (whole.validation, whole.test)
    assert patients(part.train) < patients(whole.train)


def test_more_folds_than_patients():
    with pytest.raises(ValueError, match=r"5 folds, but only 3 labelled patients .*fewer folds"):
        split_cases(many(3, images=4), folds=5)


def test_too_few_patients_for_all_parts():
    told = r"No labelled case is left for train: \{'train': 0, .*More labelled cases"
    with pytest.raises(ValueError, match=told):
        split_cases(data_of([case("a"), case("b")], names=("normal", "covid")))
    with pytest.raises(ValueError, match="No labelled case is left for train and validation"):
        split_cases(data_of([case("a")]))


def test_no_case_has_a_label():
    with pytest.raises(ValueError, match="None of the 2 cases has a label"):
        split_cases(data_of([case("a", None), case("b", None)]))


def test_a_class_without_a_training_case():
    # The one patient with covid tests: a class that is not tested would be missing in the scores.
    cases = [case(f"{number}", 0) for number in range(20)] + [case("rare", 2)]
    told = r"No training case is of pneumonia, covid, among 14\. .*another split_seed"
    with pytest.raises(ValueError, match=told):
        split_cases(data_of(cases), validation_fraction=0.01, test_fraction=0.25)


def test_a_finding_without_a_training_case():
    cases = [case(f"{number}", (float(number % 2), 0.0, 1.0)) for number in range(10)]
    with pytest.raises(ValueError, match="No training case is of pneumonia, among"):
        split_cases(data_of(cases, "multi_label_classification"))


def test_values_need_no_classes():
    data = data_of((case(f"{n}", (float(n),)) for n in range(10)), "regression", ("age",))
    split = split_cases(data)
    require_whole(split, data)
    assert [len(part) for part in parts(split)] == [6, 2, 2]


def test_cases_with_label_maps_are_drawn_by_patient():
    data = data_of(
        replace(case(f"{n}", None, f"P{n // 2}"), label_files=(Path("mask.png"),))
        for n in range(20)
    )
    split = split_cases(data)
    require_whole(split, data)
    assert [len(patients(part)) for part in parts(split)] == [6, 2, 2]
