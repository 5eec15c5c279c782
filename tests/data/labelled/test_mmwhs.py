"""MM-WHS as it is unpacked, with the miswritten value of one MR."""

import pytest

from labelled_findings_segmentation import cases_of, reasons_of, require_in_place
from labelled_miniatures_segmentation import MMWHS_VALUES, SHAPE, classes, mmwhs, save_volume
from layout_miniatures import anatomy
from unimiss_hf.data.labelled.mmwhs import MMWHS, STRUCTURES


def test_values_of_the_files_become_numbers_of_classes(tmp_path):
    root = mmwhs(tmp_path)
    data = MMWHS.read(root)
    assert data.class_names == ("background", *STRUCTURES)
    assert tuple(STRUCTURES.values()) == MMWHS_VALUES
    assert data.problems == ()
    found = cases_of(MMWHS, root)
    assert {name: (case.split, case.is_labelled) for name, case in found.items()} == {
        "ct_test_2001": ("test", False),
        "ct_train_1001": ("train", True),
    }
    require_in_place(found["ct_train_1001"], anatomy(1, SHAPE), classes(7))


def test_the_miswritten_value_of_an_mr_is_the_left_atrium(tmp_path):
    found = cases_of(MMWHS, mmwhs(tmp_path), modality="mr")
    labels = classes(7)
    labels[2, 3, 4:6] = 1 + list(STRUCTURES).index("left atrium")
    assert found.keys() == {"mr_train_1001"}
    require_in_place(found["mr_train_1001"], anatomy(1, SHAPE), labels)


@pytest.mark.parametrize("value", [421, 1, -500, 999])
def test_another_label_value_is_refused_by_name(tmp_path, value):
    root = mmwhs(tmp_path)
    labels = classes(7).astype("int16") * 0
    labels[0, 0, 0] = value
    save_volume(root / "ct_train" / "ct_train_1001_label.nii.gz", labels)
    case = cases_of(MMWHS, root)["ct_train_1001"]
    with pytest.raises(ValueError, match=rf"ct_train_1001 .*label values {value} in 1 voxels"):
        case.load_labels(case)


@pytest.mark.parametrize("passed", ["", "MM-WHS 2017 Dataset", "MM-WHS 2017 Dataset/ct_train"])
def test_is_known_from_each_folder_around_it(tmp_path, passed):
    mmwhs(tmp_path)
    assert MMWHS.recognise(tmp_path / passed)
    assert "ct_train_1001" in cases_of(MMWHS, tmp_path / passed)


def test_what_is_missing_is_told(tmp_path):
    root = mmwhs(tmp_path)
    (root / "ct_train" / "ct_train_1001_label.nii.gz").unlink()
    (root / "mr_train" / "mr_train_1001_image.nii.gz").unlink()
    assert "no label" in reasons_of(MMWHS.read(root))["ct_train/ct_train_1001_image.nii.gz"]
    told = reasons_of(MMWHS.read(root, modality="mr"))
    assert "no image" in told["mr_train/mr_train_1001_label.nii.gz"]


def test_a_modality_that_is_not_there_is_an_error(tmp_path):
    root = mmwhs(tmp_path)
    with pytest.raises(ValueError, match=r"modality of MM-WHS is 'mri'.*Did you mean mr\?"):
        MMWHS.read(root, modality="mri")
    with pytest.raises(ValueError, match=r"no option 'modalty'.*Did you mean modality\?"):
        MMWHS.read(root, modalty="mr")
    with pytest.raises(ValueError, match="has no mr scans of MM-WHS"):
        MMWHS.read(root / "ct_train", modality="mr")
