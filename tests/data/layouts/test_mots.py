"""MOTS: images of seven data sets, never their labels, each under its own terms."""

import numpy as np
import pytest

from layout_findings import items, problems
from layout_miniatures import anatomy, mots, save, touch

NAME = "mots"


def test_parts_splits_and_terms(tmp_path):
    found = items(NAME, mots(tmp_path))
    images = [
        ("0Liver", "liver_0"),
        ("2HepaticVessel", "hepaticvessel_001"),
        ("3Pancreas", "pancreas_001"),
        ("4Colon", "colon_001"),
        ("5Lung", "lung_001"),
        ("6Spleen", "spleen_2"),
    ]
    wanted = {f"{part}/imagesTr/{name}": "train" for part, name in images}
    wanted |= {f"{part}/imagesTs/{name}9": "test" for part, name in images}
    wanted |= {"1Kidney/origin/case_00000/imaging": "train"}
    wanted |= {"1Kidney/origin/case_00210/imaging": "test"}
    assert {name: item.split for name, item in found.items()} == wanted
    for name, item in found.items():
        kidney = name.startswith("1Kidney")
        assert item.license.identifier == ("cc-by-nc-sa-4.0" if kidney else "cc-by-sa-4.0")
        assert item.patient == (name.split("/")[2] if kidney else "")
    for seed, (part, name) in enumerate(images):
        volume = found[f"{part}/imagesTr/{name}"].read()
        np.testing.assert_array_equal(volume.voxels, anatomy(seed))


def test_kidneys_are_stored_with_slices_first(tmp_path):
    volume = items(NAME, mots(tmp_path))["1Kidney/origin/case_00210/imaging"].read()
    assert volume.grid.source_shape == (4, 5, 6)
    np.testing.assert_allclose(volume.grid.source_affine[0, :3], [0, 0, -0.7])
    np.testing.assert_array_equal(volume.voxels, anatomy(230))
    assert volume.spacing == pytest.approx((2.5, 0.8, 0.7))


def test_names_of_the_original_downloads(tmp_path):
    for name in ("Training Batch 1/volume-0.nii", "Training Batch 1/segmentation-0.nii"):
        save(tmp_path / "0Liver" / name, 1)
    save(tmp_path / "0Liver" / "test-volume-7.nii", 2)
    save(tmp_path / "0Liver" / "imagesTr" / "volume-28.nii", 3)
    save(tmp_path / "Task06_Lung" / "imagesTr" / "lung_001.nii.gz", 4)
    save(tmp_path / "Task06_Lung" / "labelsTr" / "lung_001.nii.gz", 5)
    save(tmp_path / "Task01_BrainTumour" / "imagesTr" / "BRATS_001.nii.gz", 6)
    save(tmp_path / "kits19" / "data" / "case_00001" / "imaging.nii.gz", 7)
    found = items(NAME, tmp_path)
    assert {name: (item.split, item.license.identifier) for name, item in found.items()} == {
        "0Liver/Training Batch 1/volume-0": ("train", "cc-by-nc-nd-4.0"),
        "0Liver/imagesTr/volume-28": ("train", "cc-by-nc-nd-4.0"),
        "0Liver/test-volume-7": ("test", "cc-by-nc-nd-4.0"),
        "Task06_Lung/imagesTr/lung_001": ("train", "cc-by-sa-4.0"),
        "kits19/data/case_00001/imaging": ("train", "cc-by-nc-sa-4.0"),
    }
    assert problems(NAME, tmp_path) == {}


def test_labels_without_their_images_and_what_is_unfinished_are_told(tmp_path):
    root = mots(tmp_path)
    (root / "1Kidney" / "origin" / "case_00000" / "imaging.nii.gz").unlink()
    (root / "5Lung" / "imagesTr" / "lung_001.nii.gz").unlink()
    save(root / "0Liver" / "segmentation-3.nii", 1)
    touch(root / "6Spleen" / "imagesTr" / "spleen_3.nii.gz.part")
    told = problems(NAME, root)
    assert told.keys() == {
        "0Liver/volume-3",
        "1Kidney/origin/case_00000/imaging",
        "5Lung/imagesTr/lung_001",
        "6Spleen/imagesTr/spleen_3.nii.gz.part",
    }
    assert all(problem.is_missing for problem in told.values())
    assert "segmentation.nii.gz" in told["1Kidney/origin/case_00000/imaging"].reason
