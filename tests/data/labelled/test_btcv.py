"""BTCV as it is unpacked, in the splits of publications."""

import numpy as np
import pytest

from labelled_findings_segmentation import cases_of, prepared, reasons_of, require_in_place
from labelled_miniatures_segmentation import (
    SHAPE,
    btcv,
    btcv_averaged,
    classes,
    save_volume,
    touch,
)
from layout_miniatures import anatomy
from unimiss_hf.data.labelled.btcv import BTCV, ORGANS


def test_thirteen_organs_lie_where_they_are_drawn(tmp_path):
    data = BTCV.read(btcv(tmp_path))
    assert data.class_names == ("background", *ORGANS)
    assert len(ORGANS) == 13
    assert data.problem_type == "single_label_classification"
    assert data.problems == ()
    for name, case in cases_of(BTCV, tmp_path).items():
        assert (case.dimension, case.patient) == ("3d", name)
        if case.is_labelled:
            require_in_place(case, anatomy(int(name[3:]), SHAPE), classes(13))


@pytest.mark.parametrize(
    ("options", "splits"),
    [
        ({}, {"img0001": "train", "img0005": "train", "img0032": "test"}),
        ({"split": "cotr"}, {"img0001": "train", "img0005": "train", "img0032": "test"}),
        ({"split": "transunet"}, {"img0001": "test", "img0005": "train", "img0032": "test"}),
        ({"split": "none"}, {"img0001": None, "img0005": None, "img0032": None}),
    ],
)
def test_splits_of_publications(tmp_path, options, splits):
    found = cases_of(BTCV, btcv(tmp_path), **options)
    assert {name: case.split for name, case in found.items()} == splits | {"img0061": "test"}
    assert [name for name, case in found.items() if not case.is_labelled] == ["img0061"]


@pytest.mark.parametrize("passed", ["", "Abdomen", "Abdomen/RawData", "Abdomen/RawData/Training"])
def test_is_known_from_each_folder_around_it(tmp_path, passed):
    btcv(tmp_path)
    assert BTCV.recognise(tmp_path / passed)
    found = cases_of(BTCV, tmp_path / passed)
    assert {"img0001", "img0005", "img0032"} <= found.keys()


def test_averaged_scans_belong_to_no_split(tmp_path):
    root = btcv_averaged(tmp_path)
    assert BTCV.recognise(root)
    found = cases_of(BTCV, root)
    assert {name: case.split for name, case in found.items()} == {
        "DET0000101_avg": None,
        "DET0006101_avg": "test",
    }
    require_in_place(found["DET0000101_avg"], anatomy(1, SHAPE), classes(13))
    reasons = reasons_of(BTCV.read(root))
    assert "belong to no published split" in reasons["DET..._avg"]


def test_what_is_missing_there_twice_or_unfinished_is_told(tmp_path):
    root = btcv(tmp_path)
    training = root / "RawData" / "Training"
    (training / "label" / "label0001.nii.gz").unlink()
    (training / "img" / "img0005.nii.gz").unlink()
    save_volume(root / "copy" / "img0032.nii.gz", anatomy(1))
    touch(root / "RawData.zip.part")
    data = BTCV.read(root)
    reasons = reasons_of(data)
    assert "no label" in reasons.pop("RawData/Training/img/img0001.nii.gz")
    assert "no image" in reasons.pop("RawData/Training/label/label0005.nii.gz")
    assert "is there twice" in reasons.pop("copy/img0032.nii.gz")
    assert "unfinished" in reasons.pop("RawData.zip.part")
    assert not reasons
    assert [case.name for case in data.cases] == ["img0032", "img0061"]
    assert "RawData" in str(data.cases[0].files[0])


def test_another_label_value_is_refused_by_name(tmp_path):
    root = btcv(tmp_path)
    labels = classes(13)
    labels[1, 2, 3:5] = 14
    save_volume(root / "RawData/Training/label/label0001.nii.gz", labels)
    case = cases_of(BTCV, root)["img0001"]
    with pytest.raises(ValueError, match=r"img0001 \(.*label0001.*label values 14 in 2 voxels"):
        case.load_labels(case)


def test_labels_on_another_grid_are_refused_by_name(tmp_path):
    root = btcv(tmp_path)
    label = root / "RawData/Training/label/label0001.nii.gz"
    for labels, spacing in ((classes(13)[1:], (0.7, 0.8, 2.5)), (classes(13), (0.7, 0.8, 3.0))):
        save_volume(label, labels, spacing=spacing)
        with pytest.raises(ValueError, match=r"label0001.*img0001"):
            prepared(cases_of(BTCV, root)["img0001"])


def test_labels_that_are_stored_as_floats_are_taken(tmp_path):
    root = btcv(tmp_path)
    label = root / "RawData/Training/label/label0001.nii.gz"
    save_volume(label, classes(13).astype(np.float64))
    require_in_place(cases_of(BTCV, root)["img0001"], anatomy(1, SHAPE), classes(13))
    save_volume(label, classes(13) + np.float32(0.5))
    with pytest.raises(ValueError, match=r"img0001.* no integers: 0.5, 1.5.* and 9 more in 210"):
        prepared(cases_of(BTCV, root)["img0001"])


def test_options_that_there_are_not_are_refused(tmp_path):
    root = btcv(tmp_path)
    with pytest.raises(ValueError, match=r"no option 'splt'; it has split. Did you mean split\?"):
        BTCV.read(root, splt="cotr")
    with pytest.raises(ValueError, match=r"split of BTCV is 'trans-unet'.*mean transunet\?"):
        BTCV.read(root, split="trans-unet")
    with pytest.raises(ValueError, match="does not look like BTCV"):
        BTCV.read(tmp_path / "Abdomen" / "RawData" / "Training" / "label")
