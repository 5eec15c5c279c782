"""CHAOS as it is unpacked: DICOM slices and label pictures, whose orders are a known trap."""

import numpy as np
import pytest
from PIL import Image

from labelled_findings_segmentation import cases_of, prepared, reasons_of, require_in_place
from labelled_miniatures_segmentation import (
    CHAOS_TRAIN,
    SHAPE,
    chaos,
    classes,
    save_pictures,
    touch,
)
from layout_miniatures import anatomy
from unimiss_hf.data.labelled.chaos import CHAOS

CT_GROUND = f"{CHAOS_TRAIN}/CT/1/Ground"
MR = ("background", "liver", "right kidney", "left kidney", "spleen")
# DICOM files of MR are read with a warning that their values are no HU.
pytestmark = pytest.mark.filterwarnings("ignore:.*has modality MR")


@pytest.mark.parametrize(
    ("modality", "name", "seed", "organs"),
    [
        ("ct", "CT/1/ct", 1, 1),
        ("t1_in", "MR/1/t1_in", 4, 4),
        ("t1_out", "MR/1/t1_out", 5, 4),
        ("t2", "MR/1/t2", 6, 4),
    ],
)
def test_label_pictures_lie_on_their_slices(tmp_path, modality, name, seed, organs):
    root = chaos(tmp_path)
    data = CHAOS.read(root, modality=modality)
    assert data.class_names == MR[: organs + 1]
    assert data.problems == ()
    case = cases_of(CHAOS, root, modality=modality)[name]
    assert (case.split, case.patient) == ("train", name.rpartition("/")[0])
    require_in_place(case, anatomy(seed, SHAPE), classes(organs))


def test_ct_is_the_default_and_test_sets_have_no_labels(tmp_path):
    found = cases_of(CHAOS, chaos(tmp_path))
    assert {name: (case.split, case.is_labelled) for name, case in found.items()} == {
        "CT/1/ct": ("train", True),
        "CT/3/ct": ("test", False),
    }
    found = cases_of(CHAOS, tmp_path, modality="t2")
    assert {name: case.split for name, case in found.items()} == {
        "MR/1/t2": "train",
        "MR/4/t2": "test",
    }


@pytest.mark.parametrize("passed", ["", "CHAOS", f"CHAOS/{CHAOS_TRAIN}"])
def test_is_known_from_each_folder_around_it(tmp_path, passed):
    chaos(tmp_path)
    assert CHAOS.recognise(tmp_path / passed)
    assert cases_of(CHAOS, tmp_path / passed)["CT/1/ct"].split == "train"


def test_grey_levels_have_the_tolerance_of_the_challenge(tmp_path):
    root = chaos(tmp_path)
    ground = root / CHAOS_TRAIN / "MR/1/T2SPIR/Ground"
    for path in ground.glob("IMG*.png"):
        pixels = np.asarray(Image.open(path)).copy()
        pixels[pixels == 126] = 134
        pixels[pixels == 63] = 56
        Image.fromarray(pixels).save(path)
    found = cases_of(CHAOS, root, modality="t2")["MR/1/t2"]
    require_in_place(found, anatomy(6, SHAPE), classes(4))


def test_pictures_of_black_and_white_are_taken(tmp_path):
    root = chaos(tmp_path)
    for path in (root / CT_GROUND).glob("liver*.png"):
        Image.open(path).convert("1").save(path)
    require_in_place(cases_of(CHAOS, root)["CT/1/ct"], anatomy(1, SHAPE), classes(1))


@pytest.mark.parametrize("modality", ["ct", "t2"])
def test_another_grey_level_is_refused_by_name(tmp_path, modality):
    root = chaos(tmp_path)
    folder = root / CHAOS_TRAIN / ("CT/1" if modality == "ct" else "MR/1/T2SPIR") / "Ground"
    planes = np.full((1, *SHAPE[1:]), 100, np.uint8)
    save_pictures(folder, planes, [min(folder.glob("[!.]*.png")).stem])
    (case,) = (c for c in cases_of(CHAOS, root, modality=modality).values() if c.is_labelled)
    with pytest.raises(ValueError, match=rf"{case.name} \(.*label values 100 in 42 voxels"):
        case.load_labels(case)


def test_missing_pictures_are_an_error_that_names_the_case(tmp_path):
    root = chaos(tmp_path)
    (root / CT_GROUND / "liver_GT_002.png").unlink()
    with pytest.raises(ValueError, match="CT/1/ct has 5 slices and 4 label pictures"):
        prepared(cases_of(CHAOS, root)["CT/1/ct"])


def test_pictures_of_another_size_are_an_error_that_names_the_case(tmp_path):
    root = chaos(tmp_path)
    planes = np.zeros((1, 3, 3), np.uint8)
    save_pictures(root / CT_GROUND, planes, ["liver_GT_002"])
    with pytest.raises(ValueError, match=r"CT/1/ct has label pictures of differing size, \[\(3, 3"):
        prepared(cases_of(CHAOS, root)["CT/1/ct"])
    save_pictures(
        root / CT_GROUND, np.repeat(planes, 5, 0), [f"liver_GT_{i:03d}" for i in range(5)]
    )
    with pytest.raises(
        ValueError, match=r"CT/1/Ground has shape \(3, 3, 5\) and .*CT/1/DICOM_anon"
    ):
        prepared(cases_of(CHAOS, root)["CT/1/ct"])


def test_no_guess_is_made_where_neither_names_nor_order_tell(tmp_path):
    root = chaos(tmp_path)
    slices = root / CHAOS_TRAIN / "CT/1/DICOM_anon"
    first, second, other = (slices / f"i{index:04d},0000b.dcm" for index in (0, 3, 9))
    first.rename(other)
    second.rename(first)
    other.rename(second)
    with pytest.raises(ValueError, match=r"CT/1/ct .*which belong together is not known"):
        prepared(cases_of(CHAOS, root)["CT/1/ct"])


def test_what_is_missing_or_unfinished_is_told(tmp_path):
    root = chaos(tmp_path)
    for path in (root / CT_GROUND).iterdir():
        path.unlink()
    touch(root / "CHAOS_Test_Sets.zip.part")
    data = CHAOS.read(root)
    assert [case.name for case in data.cases] == ["CT/3/ct"]
    reasons = reasons_of(data)
    assert "has slices, but no labels in Ground" in reasons.pop(f"{CHAOS_TRAIN}/CT/1")
    assert "unfinished" in reasons.pop("CHAOS_Test_Sets.zip.part")
    assert not reasons
    for path in (root / CHAOS_TRAIN / "MR/1/T1DUAL/DICOM_anon/InPhase").iterdir():
        path.unlink()
    told = reasons_of(CHAOS.read(root, modality="t1_in"))
    assert "has labels, but no slices in T1DUAL" in told[f"{CHAOS_TRAIN}/MR/1"]


def test_a_modality_that_is_not_there_is_an_error(tmp_path):
    root = chaos(tmp_path)
    with pytest.raises(ValueError, match=r"modality of CHAOS is 't1-in'.*Did you mean t1_in"):
        CHAOS.read(root, modality="t1-in")
    with pytest.raises(ValueError, match=r"no option 'modalty'.*Did you mean modality\?"):
        CHAOS.read(root, modalty="ct")
    with pytest.raises(ValueError, match="has no t1_in series of CHAOS"):
        CHAOS.read(root / "Test_Sets", modality="t1_in")
