"""TotalSegmentator's data as they are unpacked: a mask for each structure, a table of splits."""

import warnings

import numpy as np
import pytest

from labelled_findings_segmentation import cases_of, prepared, reasons_of, require_in_place
from labelled_miniatures_segmentation import SHAPE, classes, save_volume, totalsegmentator
from layout_miniatures import anatomy
from unimiss_hf.data.labelled.totalsegmentator import TOTALSEGMENTATOR
from unimiss_hf.data.labelled.totalsegmentator_classes import ALL_1, ALL_2, GROUPS_1, GROUPS_2

ORGANS = ("spleen", "kidney_right", "liver")


def test_masks_become_one_map_in_the_order_of_the_classes(tmp_path):
    root = totalsegmentator(tmp_path, ORGANS)
    data = TOTALSEGMENTATOR.read(root, classes=list(ORGANS))
    assert data.class_names == ("background", *ORGANS)
    assert data.problems == ()
    found = cases_of(TOTALSEGMENTATOR, root, classes=list(ORGANS))
    assert {name: case.split for name, case in found.items()} == {
        "s0000": "train",
        "s0001": "validation",
        "s0002": "test",
    }
    for name, case in found.items():
        require_in_place(case, anatomy(int(name[1:]), SHAPE), classes(3))


def test_classes_have_the_order_in_which_they_are_asked_for(tmp_path):
    root = totalsegmentator(tmp_path, ORGANS)
    found = cases_of(TOTALSEGMENTATOR, root, classes=["liver", "spleen"])
    labels = np.array([0, 2, 0, 1], np.uint8)[classes(3)]
    require_in_place(found["s0001"], anatomy(1, SHAPE), labels)
    found = cases_of(TOTALSEGMENTATOR, root, classes="liver")
    labels = np.array([0, 0, 0, 1], np.uint8)[classes(3)]
    require_in_place(found["s0001"], anatomy(1, SHAPE), labels)


def test_the_later_class_has_voxels_that_several_claim_and_they_are_counted(tmp_path):
    root = totalsegmentator(tmp_path, ORGANS, overlap=True)
    case = cases_of(TOTALSEGMENTATOR, root, classes=list(ORGANS))["s0000"]
    labels = classes(3)
    labels[2, 3, 4] = 3
    # The second of the three masks claims it from the first, the third from the second.
    with pytest.warns(UserWarning, match="s0000: structures overlap in 2 voxels"):
        _, found = prepared(case, spacing=None)
    np.testing.assert_array_equal(found, labels)


def test_masks_that_do_not_overlap_are_joined_without_a_word(tmp_path):
    case = cases_of(TOTALSEGMENTATOR, totalsegmentator(tmp_path, ORGANS), classes=ORGANS)["s0000"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        case.load_labels(case)


@pytest.mark.parametrize(("everything", "groups"), [(ALL_1, GROUPS_1), (ALL_2, GROUPS_2)])
def test_groups_are_the_whole(everything, groups):
    assert sorted(name for group in groups.values() for name in group) == sorted(everything)
    assert list(groups) == ["organs", "vertebrae", "cardiac", "muscles", "ribs"]


def test_numbers_of_classes_are_those_of_totalsegmentator():
    assert (len(ALL_1), len(ALL_2)) == (104, 117)
    ones = {1: "spleen", 7: "aorta", 18: "vertebrae_L5", 41: "vertebrae_C1", 44: "heart_myocardium"}
    ones |= {58: "rib_left_1", 81: "rib_right_12", 92: "sacrum", 93: "face", 104: "urinary_bladder"}
    twos = {2: "kidney_right", 7: "pancreas", 22: "prostate", 24: "kidney_cyst_right"}
    twos |= {25: "sacrum", 51: "heart", 61: "atrial_appendage_left", 79: "spinal_cord"}
    twos |= {91: "skull", 103: "rib_left_12", 116: "sternum", 117: "costal_cartilages"}
    assert {number: ALL_1[number - 1] for number in ones} == ones
    assert {number: ALL_2[number - 1] for number in twos} == twos


def test_the_version_is_told_by_what_is_drawn(tmp_path):
    first = totalsegmentator(tmp_path / "1", ("spleen", "face", "pulmonary_artery"))
    second = totalsegmentator(tmp_path / "2", ("spleen", "skull"))
    assert TOTALSEGMENTATOR.read(first).class_names == ("background", *ALL_1)
    assert TOTALSEGMENTATOR.read(second).class_names == ("background", *ALL_2)
    muscles = TOTALSEGMENTATOR.read(first, classes="muscles").class_names
    assert muscles == ("background", *GROUPS_1["muscles"])
    with pytest.raises(ValueError, match=r"'skull', which is no structure of version 1"):
        TOTALSEGMENTATOR.read(first, classes=["skull"])
    with pytest.raises(ValueError, match=r"'face', which is no structure of version 2"):
        TOTALSEGMENTATOR.read(second, classes=["face"])


def test_misspelt_classes_are_refused(tmp_path):
    root = totalsegmentator(tmp_path, ORGANS)
    with pytest.raises(ValueError, match=r"'kidney_rigth'.*Did you mean kidney_right"):
        TOTALSEGMENTATOR.read(root, classes=["kidney_rigth"])
    with pytest.raises(ValueError, match=r"'organ', .*Did you mean organs"):
        TOTALSEGMENTATOR.read(root, classes="organ")
    with pytest.raises(ValueError, match="wanted each structure once"):
        TOTALSEGMENTATOR.read(root, classes=["liver", "liver"])
    with pytest.raises(ValueError, match="wanted each structure once"):
        TOTALSEGMENTATOR.read(root, classes=[])
    with pytest.raises(ValueError, match=r"no option 'class'.*Did you mean classes\?"):
        TOTALSEGMENTATOR.read(root, **{"class": "all"})


def test_what_is_missing_is_told(tmp_path):
    root = totalsegmentator(tmp_path, ORGANS)
    (root / "s0000" / "segmentations" / "liver.nii.gz").unlink()
    (root / "s0001" / "ct.nii.gz").unlink()
    table = root / "meta.csv"
    table.write_text(table.read_text().replace("s0002", "s0003"))
    data = TOTALSEGMENTATOR.read(root, classes=list(ORGANS))
    assert [(case.name, case.split) for case in data.cases] == [("s0002", None)]
    reasons = reasons_of(data)
    assert "no mask of liver" in reasons.pop("s0000")
    assert "no ct.nii.gz" in reasons.pop("s0001")
    assert "split is not known" in reasons.pop("s0002")
    assert "listed in" in reasons.pop("s0003")
    assert not reasons


def test_without_its_table_no_split_is_known(tmp_path):
    root = totalsegmentator(tmp_path, ORGANS)
    (root / "meta.csv").unlink()
    data = TOTALSEGMENTATOR.read(root, classes=list(ORGANS))
    assert {case.split for case in data.cases} == {None}
    assert "no split is known" in reasons_of(data)["meta.csv"]


def test_a_table_with_another_split_is_refused(tmp_path):
    root = totalsegmentator(tmp_path, ORGANS)
    table = root / "meta.csv"
    table.write_text(table.read_text().replace(";val", ";validate"))
    with pytest.raises(ValueError, match=r"split 'validate' for s0001; wanted one of train, val"):
        TOTALSEGMENTATOR.read(root)


def test_masks_that_are_none_or_lie_elsewhere_are_refused_by_name(tmp_path):
    root = totalsegmentator(tmp_path, ORGANS)
    case = cases_of(TOTALSEGMENTATOR, root, classes=list(ORGANS))["s0002"]
    mask = root / "s0002" / "segmentations" / "liver.nii.gz"
    save_volume(mask, classes(3))
    with pytest.raises(
        ValueError, match=r"s0002 \(.*liver.nii.gz\) has the label values 2, 3 in 2"
    ):
        case.load_labels(case)
    for shifted in ({"codes": "RAS"}, {"spacing": (0.7, 0.8, 2.6)}):
        save_volume(mask, classes(1), **shifted)
        with pytest.raises(ValueError, match=r"s0002: .*liver.nii.gz has another grid than .*spl"):
            case.load_labels(case)


def test_is_known_with_the_folder_around_it(tmp_path):
    root = totalsegmentator(tmp_path, ORGANS)
    assert TOTALSEGMENTATOR.recognise(root)
    assert TOTALSEGMENTATOR.recognise(tmp_path)
    assert not TOTALSEGMENTATOR.recognise(root / "s0000")
