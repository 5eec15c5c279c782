"""What a case says of itself."""

import pickle
from pathlib import Path

import pytest

from unimiss_hf.data.labelled.case import LabelledCase

SLICES = (Path("a.dcm"), Path("b.dcm"))


def test_one_file_is_a_path_and_slices_are_a_list():
    one = LabelledCase("one", "3d", (Path("ct.nii.gz"),))
    several = LabelledCase("several", "3d", SLICES)
    assert one.load_image(one) == Path("ct.nii.gz")
    assert several.load_image(several) == list(SLICES)


def test_the_one_label_file():
    case = LabelledCase("one", "3d", (Path("ct.nii.gz"),), label_files=(Path("organs.nii.gz"),))
    assert case.load_labels(case) == Path("organs.nii.gz")
    assert case.is_labelled


@pytest.mark.parametrize("files", [(), SLICES])
def test_none_or_several_label_files_need_a_function_of_their_own(files):
    case = LabelledCase("scan 3", "3d", SLICES, label_files=files)
    with pytest.raises(ValueError, match=f"scan 3 has {len(files)} label files; wanted one"):
        case.load_labels(case)


def test_class_0_is_a_label_and_none_is_not():
    assert LabelledCase("a", "2d", (Path("a.png"),), target=0).is_labelled
    assert not LabelledCase("a", "2d", (Path("a.png"),)).is_labelled


def test_cases_go_through_other_processes():
    case = LabelledCase("a", "2d", (Path("a.png"),), target=(0.0, 1.0), details={"channel": 1})
    assert pickle.loads(pickle.dumps(case)) == case
