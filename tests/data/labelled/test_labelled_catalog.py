"""Which labelled data set a folder is, told by its names alone."""

import shutil

import pytest

import finetuning_miniatures
import labelled_miniatures_classification as classification
import labelled_miniatures_segmentation as segmentation
from layout_miniatures import chestxray14
from unimiss_hf.data.labelled.catalog import LABELLED_LAYOUTS, find_labelled_layout
from unimiss_hf.data.labelled.totalsegmentator_classes import ALL_2

MINIATURES = {
    "btcv": segmentation.btcv,
    "ricord": classification.ricord,
    "chaos": segmentation.chaos,
    "chestxr": classification.chestxr,
    "jsrt": classification.jsrt,
    "chestxray14": chestxray14,
    "mmwhs": segmentation.mmwhs,
    "msd": segmentation.decathlon,
    "nlst": classification.nlst,
    "totalsegmentator": lambda folder: segmentation.totalsegmentator(folder, ALL_2[:3]),
    "nnunet": segmentation.nnunet,
    "class-folders": classification.class_folders,
    "sample-shadows": finetuning_miniatures.organ_shadows,
}


def test_every_layout_has_a_miniature():
    assert MINIATURES.keys() == LABELLED_LAYOUTS.keys()


@pytest.mark.parametrize("name", MINIATURES)
@pytest.mark.filterwarnings("ignore:.*has modality MR")
def test_a_folder_is_one_data_set_and_no_other(tmp_path, name):
    root = MINIATURES[name](tmp_path)
    for folder in (root, tmp_path):
        found = [key for key, layout in LABELLED_LAYOUTS.items() if layout.recognise(folder)]
        assert found == [name]
        assert find_labelled_layout(folder) is find_labelled_layout(str(folder), name)


@pytest.mark.parametrize("name", LABELLED_LAYOUTS)
def test_what_a_layout_says_of_itself(name):
    layout = LABELLED_LAYOUTS[name]
    assert layout.name == name and layout.title and layout.citation
    assert layout.homepage.startswith(("http://", "https://"))


def test_a_folder_that_looks_like_two(tmp_path):
    root = segmentation.nnunet(tmp_path)
    shutil.copytree(classification.chestxr(tmp_path / "elsewhere"), root, dirs_exist_ok=True)
    told = r"looks like several data sets: chestxr, nnunet\. Say which it is with --layout"
    with pytest.raises(ValueError, match=told):
        find_labelled_layout(root)
    assert find_labelled_layout(root, "nnunet").name == "nnunet"


def test_a_misspelt_layout(tmp_path):
    with pytest.raises(ValueError, match=r"There is no layout 'nnUnet'; there are btcv, .*nnunet"):
        find_labelled_layout(tmp_path, "nnUnet")
    with pytest.raises(ValueError, match=r"Did you mean '?chestxr'?"):
        find_labelled_layout(tmp_path, "chestxrr")


def test_a_misspelt_folder(tmp_path):
    (tmp_path / "Dataset007_Organs").mkdir()
    with pytest.raises(FileNotFoundError, match=r"There is no folder .*Did you mean .*_Organs"):
        find_labelled_layout(tmp_path / "Dataset007_Organ")


def test_a_file_instead_of_a_folder(tmp_path):
    path = tmp_path / "data.zip"
    path.touch()
    with pytest.raises(NotADirectoryError, match=r"data\.zip is a file; wanted the folder"):
        find_labelled_layout(path)


def test_a_folder_that_is_none(tmp_path):
    told = r"is none of the data sets that are known: .*arrange your own: dataset.json"
    with pytest.raises(ValueError, match=told):
        find_labelled_layout(tmp_path)


def test_a_folder_that_is_another(tmp_path):
    classification.chestxr(tmp_path)
    with pytest.raises(ValueError, match=r"does not look like JSRT.*those of the download \(https"):
        find_labelled_layout(tmp_path, "jsrt")
