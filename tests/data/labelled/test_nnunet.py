"""Data in nnU-Net's raw format: volumes and pictures, channels, regions, what is ignored, folds."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from labelled_findings_segmentation import cases_of, prepared, reasons_of, require_in_place
from labelled_miniatures_segmentation import (
    SHAPE,
    classes,
    decathlon,
    nnunet,
    nnunet_pictures,
    save_volume,
    touch,
    write_json,
)
from layout_miniatures import anatomy
from unimiss_hf.data.labelled.label_bits import unpack_masks
from unimiss_hf.data.labelled.msd import MSD
from unimiss_hf.data.labelled.nnunet import NNUNET

REGIONS = {"background": 0, "organ": [1, 2, 3], "tumour": [2, 3], "core": 3}


def require_all_in_place(found, labels, offset=0):
    for name, case in found.items():
        require_in_place(case, anatomy(ord(name[-1]), SHAPE) + offset, labels)


def test_a_folder_is_what_its_json_says(tmp_path):
    root = nnunet(tmp_path)
    data = NNUNET.read(root)
    assert data.class_names == ("background", "liver", "tumour")
    assert data.problem_type == "single_label_classification"
    assert data.problems == ()
    found = cases_of(NNUNET, root)
    assert {name: (case.split, case.dimension) for name, case in found.items()} == {
        "imagesTr/case_a": ("train", "3d"),
        "imagesTr/case_b": ("train", "3d"),
        "imagesTs/case_c": ("test", "3d"),
    }
    require_all_in_place(found, classes(2))


def test_test_labels_are_optional(tmp_path):
    root = nnunet(tmp_path)
    (root / "labelsTs" / "case_c.nii.gz").unlink()
    assert NNUNET.read(root).problems == ()
    assert not cases_of(NNUNET, root)["imagesTs/case_c"].is_labelled


@pytest.mark.parametrize("channel", ["T2", "t2", 1, "1"])
def test_the_channel_that_is_asked_for(tmp_path, channel):
    found = cases_of(NNUNET, nnunet(tmp_path, channels=("T1", "T2")), channel=channel)
    require_all_in_place(found, classes(2), offset=5000)


def test_a_channel_must_be_asked_for_where_there_are_several(tmp_path):
    root = nnunet(tmp_path, channels=("T1", "T2"))
    with pytest.raises(ValueError, match=r"Dataset001_Organs has 2 channels.*0 \(T1\), 1 \(T2\)"):
        NNUNET.read(root)
    with pytest.raises(ValueError, match=r"is 'T1w'; there are 0 \(T1\).*Did you mean T1\?"):
        NNUNET.read(root, channel="T1w")
    (root / "imagesTr" / "case_b_0001.nii.gz").unlink()
    reasons = reasons_of(NNUNET.read(root, channel="T2"))
    assert "no channel 0001, but 0000" in reasons["imagesTr/case_b"]


def test_regions_may_overlap(tmp_path):
    root = nnunet(tmp_path, labels=REGIONS, values=3)
    data = NNUNET.read(root)
    assert data.class_names == ("organ", "tumour", "core")
    assert data.problem_type == "multi_label_classification"
    found = cases_of(NNUNET, root)
    bits = np.array([0, 0b001, 0b011, 0b111])[classes(3)]
    require_all_in_place(found, bits)
    _, packed = prepared(found["imagesTr/case_a"], spacing=None)
    masks = unpack_masks(torch.from_numpy(packed)[None], 3)[0].numpy()
    np.testing.assert_array_equal(masks[1], classes(3) >= 2)


def test_what_is_ignored_becomes_255(tmp_path):
    labels = {"background": 0, "liver": 1, "ignore": 2}
    root = nnunet(tmp_path, labels=labels)
    assert NNUNET.read(root).class_names == ("background", "liver")
    require_all_in_place(cases_of(NNUNET, root), np.array([0, 1, 255])[classes(2)])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"liver": 1, "tumour": 2}, 'wanted "background": 0'),
        ({"background": 1, "liver": 0}, 'wanted "background": 0'),
        ({"background": 0, "liver": 1, "tumour": 3}, r"label values 0, 1, 3; .* without a gap"),
        ({"background": 0, "a": 1, "b": 1}, "a value of its own for each name"),
        ({"background": 0, "ignore": 1, "liver": 2}, r"ignores \[1\]; .* highest label value, 2"),
        (REGIONS | {"ignore": 4}, "regions and an ignored value"),
        ({"0": "background", "1": "liver"}, "layout msd"),
        ({"background": 0, "liver": []}, "wanted a value for each name"),
        ({"background": 0, "liver": 1.5}, "wanted a value for each name"),
        (["background", "liver"], "wanted a value for each name"),
    ],
)
def test_labels_that_nnunet_refuses_are_refused(tmp_path, labels, message):
    root = nnunet(tmp_path, labels=labels)
    with pytest.raises(ValueError, match=message):
        NNUNET.read(root)


def test_more_regions_than_bits_are_refused(tmp_path):
    regions = {f"region {number}": [number, number + 1] for number in range(1, 65)}
    root = nnunet(tmp_path, labels={"background": 0, **regions})
    with pytest.raises(ValueError, match="has 64 regions; at most 63"):
        NNUNET.read(root)


def test_a_label_value_without_a_name_is_refused_by_case(tmp_path):
    root = nnunet(tmp_path, values=3)
    case = cases_of(NNUNET, root)["imagesTr/case_b"]
    with pytest.raises(ValueError, match=r"imagesTr/case_b \(.*label values 3 in 1 voxels"):
        case.load_labels(case)


def test_what_is_missing_or_unfinished_is_told(tmp_path):
    root = nnunet(tmp_path)
    (root / "labelsTr" / "case_a.nii.gz").unlink()
    (root / "imagesTr" / "case_b_0000.nii.gz").unlink()
    save_volume(root / "imagesTr" / "case_d_0000.nii.gz", anatomy(1))
    touch(root / "imagesTr" / "case_e_0000.nii.gz.part")
    reasons = reasons_of(NNUNET.read(root))
    assert "no label" in reasons.pop("imagesTr/case_a_0000.nii.gz")
    assert "no image" in reasons.pop("labelsTr/case_b.nii.gz")
    assert "no label" in reasons.pop("imagesTr/case_d_0000.nii.gz")
    assert "unfinished" in reasons.pop("imagesTr/case_e_0000.nii.gz.part")
    assert "numTraining 2; 0 such cases" in reasons.pop("dataset.json")
    assert not reasons


@pytest.mark.parametrize("key", ["channel_names", "labels", "numTraining", "file_ending"])
def test_a_json_that_lacks_a_key_is_refused(tmp_path, key):
    root = nnunet(tmp_path)
    content = json.loads((root / "dataset.json").read_text())
    del content[key]
    write_json(root / "dataset.json", content)
    with pytest.raises(ValueError, match=rf"dataset.json has no {key}; it has .*layout msd"):
        NNUNET.read(root)


@pytest.mark.parametrize(
    ("entries", "found"),
    [
        ({"file_ending": ".nrrd"}, r"file_ending '\.nrrd'"),
        (
            {"file_ending": ".tif", "overwrite_image_reader_writer": "Tiff3DIO"},
            r"volumes in \.tif files",
        ),
    ],
)
def test_formats_that_are_not_read_are_refused(tmp_path, entries, found):
    root = nnunet(tmp_path, **entries)
    with pytest.raises(ValueError, match=rf"has {found}; read are NIfTI .*Convert them to NIfTI"):
        NNUNET.read(root)


class TestPictures:
    @pytest.mark.parametrize("colours", [False, True])
    def test_are_two_dimensional(self, tmp_path, colours):
        root = nnunet_pictures(tmp_path, colours)
        data = NNUNET.read(root)
        assert data.problems == ()
        assert data.class_names == ("background", "lung")
        for case in cases_of(NNUNET, root).values():
            assert case.dimension == "2d"
            pixels, labels = prepared(case, image_size=None)
            assert pixels.shape == (9, 11)
            np.testing.assert_array_equal(labels, classes(1, (9, 11)))

    def test_have_labels_of_one_value_a_pixel(self, tmp_path):
        root = nnunet_pictures(tmp_path)
        path = root / "labelsTr" / "a.png"
        Image.open(path).convert("RGB").save(path)
        with pytest.raises(ValueError, match=r"imagesTr/a .* has 3 colour channels"):
            prepared(cases_of(NNUNET, root)["imagesTr/a"])

    def test_and_labels_of_another_size_are_refused_by_name(self, tmp_path):
        root = nnunet_pictures(tmp_path)
        Image.fromarray(classes(1, (9, 10))).save(root / "labelsTr" / "a.png")
        with pytest.raises(ValueError, match=r"shape \(9, 10\) for .*a_0000.png of shape \(9, 11"):
            prepared(cases_of(NNUNET, root)["imagesTr/a"])

    def test_may_lie_in_nifti_files_of_one_slice(self, tmp_path):
        root = nnunet(tmp_path)
        for path in [*root.glob("images*/c*"), *root.glob("labels*/c*")]:
            save_volume(path, classes(2, (1, 8, 9)), "LPS")
        for case in cases_of(NNUNET, root).values():
            assert case.dimension == "2d"
            settings = {"image_size": None, "grey_window": (1, 2)}
            pixels, labels = prepared(case, **settings)
            assert pixels.shape == labels.shape == (8, 9)
            np.testing.assert_array_equal(labels, pixels * 2)


class TestFolds:
    FOLDS = ({"train": ["case_a"], "val": ["case_b"]}, {"train": ["case_b"], "val": ["case_a"]})

    def splits(self, root, **options):
        return {
            name.rpartition("/")[2]: case.split
            for name, case in cases_of(NNUNET, root, **options).items()
        }

    def test_say_what_validates(self, tmp_path):
        root = nnunet(tmp_path)
        write_json(root / "splits_final.json", self.FOLDS)
        first = {"case_a": "train", "case_b": "validation", "case_c": "test"}
        assert self.splits(root) == first
        second = {"case_a": "validation", "case_b": "train", "case_c": "test"}
        assert self.splits(root, fold=1) == self.splits(root, fold="1") == second
        none = {"case_a": "train", "case_b": "train", "case_c": "test"}
        assert self.splits(root, fold="none") == none
        assert NNUNET.read(root).problems == ()

    def test_and_the_folder_must_hold_the_same_cases(self, tmp_path):
        root = nnunet(tmp_path)
        write_json(root / "splits_final.json", [{"train": ["case_a"], "val": ["case_z"]}])
        data = NNUNET.read(root)
        assert [case.name for case in data.cases] == ["imagesTr/case_a", "imagesTs/case_c"]
        reasons = reasons_of(data)
        assert "is not in fold 0 of" in reasons["imagesTr/case_b"]
        assert "listed in fold 0 of" in reasons["case_z"]

    @pytest.mark.parametrize(
        ("content", "fold", "message"),
        [
            (FOLDS, 2, "has 2 folds, from 0"),
            (FOLDS, "first", "fold is 'first'; wanted its number from 0, or none"),
            (FOLDS, -1, "fold is -1; wanted its number"),
            (None, 1, "there is no .*splits_final.json"),
            ({"train": []}, 0, "is no list of"),
            ([{"train": []}], 0, "is no list of"),
        ],
    )
    def test_that_there_are_not_are_refused(self, tmp_path, content, fold, message):
        root = nnunet(tmp_path)
        if content is not None:
            write_json(root / "splits_final.json", content)
        with pytest.raises(ValueError, match=message):
            NNUNET.read(root, fold=fold)


def test_is_known_with_the_folder_around_it(tmp_path):
    nnunet(tmp_path)
    assert NNUNET.recognise(tmp_path)
    assert not NNUNET.recognise(tmp_path / "Dataset001_Organs" / "imagesTr")
    with pytest.raises(ValueError, match=r"no option 'folds'.*Did you mean fold\?"):
        NNUNET.read(tmp_path, folds=1)


def test_neither_decathlon_nor_nnunet_takes_the_other(tmp_path):
    ours, theirs = nnunet(tmp_path / "nnunet"), decathlon(tmp_path / "msd")
    assert [layout.recognise(ours) for layout in (NNUNET, MSD)] == [True, False]
    assert [layout.recognise(theirs) for layout in (NNUNET, MSD)] == [False, True]
