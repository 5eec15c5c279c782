"""ChestXR: folders of splits and classes."""

import pickle
import shutil

import pytest

from labelled_miniatures_classification import chestxr
from layout_miniatures import touch
from unimiss_hf import MiTImageProcessor
from unimiss_hf.data.labelled.chestxr import CHESTXR


def test_cases_of_each_split_and_class(tmp_path):
    data = CHESTXR.read(chestxr(tmp_path))
    assert data.class_names == ("normal", "pneumonia", "covid")
    assert data.problem_type == "single_label_classification"
    assert {case.name: (case.split, case.target) for case in data.cases} == {
        "train/covid/cov_1110.jpg": ("train", 2),
        "train/normal/normal-0000.jpg": ("train", 0),
        "train/pneumonia/pneumonia0000.jpg": ("train", 1),
        "validation/covid/cov_0.png": ("validation", 2),
        "validation/normal/norml_763.png": ("validation", 0),
        "validation/pneumonia/pneu_0.png": ("validation", 1),
        "test/0001.png": ("test", None),
        "test/0002.png": ("test", None),
    }
    assert data.problems == ()
    assert [case.is_labelled for case in data.cases].count(False) == 2


def test_processor_takes_every_case(tmp_path):
    processor = MiTImageProcessor(image_size={"height": 32, "width": 32})
    for case in CHESTXR.read(chestxr(tmp_path)).cases:
        case = pickle.loads(pickle.dumps(case))
        pixels = processor(case.load_image(case), return_tensors="pt")["pixel_values"]
        assert pixels.shape == (1, 1, 32, 32)


def test_recognised_with_and_without_a_wrapping_folder(tmp_path):
    root = chestxr(tmp_path)
    assert CHESTXR.recognise(root)
    assert CHESTXR.recognise(tmp_path)
    assert not CHESTXR.recognise(root / "train")
    assert len(CHESTXR.read(tmp_path).cases) == 8
    with pytest.raises(ValueError, match=r"train does not look like ChestXR"):
        CHESTXR.read(root / "train")


def test_test_images_in_folders_of_classes_have_labels(tmp_path):
    root = chestxr(tmp_path)
    (root / "test" / "Covid").mkdir()
    shutil.move(root / "test" / "0001.png", root / "test" / "Covid")
    targets = {case.name: case.target for case in CHESTXR.read(root).cases}
    assert targets["test/Covid/0001.png"] == 2
    assert targets["test/0002.png"] is None


def test_odd_files_are_told(tmp_path):
    root = chestxr(tmp_path)
    shutil.copy(root / "test" / "0001.png", root / "train" / "0001.png")
    shutil.copy(root / "test" / "0001.png", root / "0001.png")
    (root / "train" / "covid" / "more").mkdir()
    shutil.copy(root / "test" / "0001.png", root / "train" / "covid" / "more")
    (root / "validation" / "pneumonia" / "pneu_0.png").unlink()
    touch(root / "train" / "normal" / "normal-0001.jpg.part")
    told = {problem.name: problem for problem in CHESTXR.read(root).problems}
    assert told.keys() == {
        "train/0001.png",
        "0001.png",
        "train/covid/more/0001.png",
        "validation/pneumonia",
        "train/normal/normal-0001.jpg.part",
    }
    assert all(problem.is_missing for problem in told.values())
    assert "no label" in told["train/0001.png"].reason
    assert "train, validation, test" in told["0001.png"].reason


def test_folder_of_no_class(tmp_path):
    root = chestxr(tmp_path)
    (root / "train" / "normal").rename(root / "train" / "norml")
    with pytest.raises(ValueError, match=r"train/norml, which is no class.*Did you mean normal\?"):
        CHESTXR.read(root)


def test_image_of_two_classes(tmp_path):
    root = chestxr(tmp_path)
    shutil.copy(root / "train" / "covid" / "cov_1110.jpg", root / "train" / "normal")
    with pytest.raises(ValueError, match=r"cov_1110\.jpg has two labels: it is train/covid/"):
        CHESTXR.read(root)


def test_validation_as_the_test_split(tmp_path):
    cases = CHESTXR.read(chestxr(tmp_path), test_split="validation").cases
    assert {case.name.partition("/")[0]: case.split for case in cases} == {
        "train": "train",
        "validation": "test",
    }
    assert len(cases) == 6


def test_wrong_options(tmp_path):
    root = chestxr(tmp_path)
    with pytest.raises(ValueError, match=r"has no option 'test_splt'.*Did you mean test_split\?"):
        CHESTXR.read(root, test_splt="test")
    with pytest.raises(ValueError, match=r"test_split of ChestXR is 'train'; wanted one of test"):
        CHESTXR.read(root, test_split="train")
