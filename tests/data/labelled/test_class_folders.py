"""One's own images in folders of classes."""

import pickle
import shutil

import nibabel
import numpy as np
import pytest

from dicom_files import write_radiograph
from labelled_miniatures_classification import class_folders
from unimiss_hf import MiTImageProcessor
from unimiss_hf.data.labelled.class_folders import CLASS_FOLDERS
from unimiss_hf.data.labelled.splits import split_cases
from unimiss_hf.finetuning import FinetuningSettings
from unimiss_hf.training.recipes import read_recipe


def test_classes_are_the_folders_of_train(tmp_path):
    data = CLASS_FOLDERS.read(class_folders(tmp_path))
    assert data.class_names == ("fracture", "normal")
    assert {case.name: (case.split, case.target) for case in data.cases} == {
        f"{split}/{name}/{patient}_{name}.png": (split, number)
        for split, patients in (("train", "12"), ("validation", "3"), ("test", "4"))
        for number, name in enumerate(("fracture", "normal"))
        for patient in patients
    }
    assert {case.patient for case in data.cases} == {""}
    assert data.problems == ()


def test_processor_takes_every_case(tmp_path):
    processor = MiTImageProcessor(image_size={"height": 32, "width": 32})
    for case in CLASS_FOLDERS.read(class_folders(tmp_path)).cases:
        case = pickle.loads(pickle.dumps(case))
        assert case.dimension == "2d"
        assert processor(case.load_image(case), return_tensors="pt")["pixel_values"].ndim == 4


def test_volumes_are_cases_too(tmp_path):
    for name in ("benign", "malignant"):
        (tmp_path / "train" / name).mkdir(parents=True)
        image = nibabel.Nifti1Image(np.zeros((8, 8, 4), np.int16), np.eye(4))
        nibabel.save(image, tmp_path / "train" / name / "a.nii.gz")
    assert CLASS_FOLDERS.recognise(tmp_path)
    assert [case.dimension for case in CLASS_FOLDERS.read(tmp_path).cases] == ["3d", "3d"]


def test_a_patient_in_two_splits_is_found_by_the_file_names(tmp_path):
    root = class_folders(tmp_path)
    data = CLASS_FOLDERS.read(root, patient=r"^(\d)_")
    assert {case.patient for case in data.cases} == {"1", "2", "3", "4"}
    shutil.copy(root / "train/normal/1_normal.png", root / "test/normal/1_again.png")
    with pytest.raises(ValueError, match="Patient 1 is in several splits"):
        split_cases(CLASS_FOLDERS.read(root, patient=r"^(\d)_"))


def test_other_files_are_told(tmp_path):
    root = class_folders(tmp_path)
    (root / "train" / "normal" / "notes.txt").write_text("x")
    (problem,) = CLASS_FOLDERS.read(root).problems
    assert problem.name == "train/normal/notes.txt" and not problem.is_missing


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"patients": "x"}, r"has no option 'patients'; it has patient\. Did you mean patient\?"),
        ({"patient": "("}, r"patient is '\(', which is no regular expression"),
        ({"patient": r"\d"}, r"has 0 groups; wanted one"),
        ({"patient": r"(x\d)"}, r"matches nothing in 1_fracture\.png, in train/fracture"),
    ],
)
def test_options_that_cannot_be_had(tmp_path, options, named):
    with pytest.raises(ValueError, match=named):
        CLASS_FOLDERS.read(class_folders(tmp_path), **options)


def test_a_class_that_train_lacks(tmp_path):
    root = class_folders(tmp_path)
    (root / "test" / "normal").rename(root / "test" / "norml")
    with pytest.raises(ValueError, match=r"test/norml is a folder of no class.*mean normal\?"):
        CLASS_FOLDERS.read(root)


def test_one_class_is_not_enough(tmp_path):
    root = class_folders(tmp_path)
    shutil.rmtree(root / "train" / "fracture")
    assert not CLASS_FOLDERS.recognise(root)
    with pytest.raises(ValueError, match="two classes are needed at least"):
        CLASS_FOLDERS.read(root)


def test_radiographs_in_dicom_are_images(tmp_path):
    for number, name in enumerate(("fracture", "normal")):
        (tmp_path / "train" / name).mkdir(parents=True)
        pixels = np.full((40, 40), 100 + number, dtype=np.uint16)
        write_radiograph(tmp_path / "train" / name / f"{number}.dcm", pixels)
    assert [case.dimension for case in CLASS_FOLDERS.read(tmp_path).cases] == ["2d", "2d"]


def test_its_recipe_is_valid():
    settings = read_recipe("recipes/finetune_class_folders.yaml", FinetuningSettings)
    assert FinetuningSettings(**settings).layout == CLASS_FOLDERS.name
