"""Tasks of the Decathlon as they are unpacked, with one channel and with several."""

import json

import pytest

from labelled_findings_segmentation import cases_of, prepared, reasons_of, require_in_place
from labelled_miniatures_segmentation import SHAPE, classes, decathlon, save_volume, touch
from layout_miniatures import anatomy
from unimiss_hf.data.labelled.msd import MSD

CHANNELS = ("FLAIR", "T1w", "t1gd", "T2w")


def change(root, **entries):
    """Change entries of a `dataset.json`; `None` takes one out."""
    path = root / "dataset.json"
    content = json.loads(path.read_text()) | entries
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def test_a_task_is_what_its_json_says(tmp_path):
    root = decathlon(tmp_path)
    data = MSD.read(root)
    assert data.class_names == ("background", "spleen", "cyst")
    assert data.problems == ()
    found = cases_of(MSD, root)
    assert {name: (case.split, case.is_labelled) for name, case in found.items()} == {
        "imagesTr/spleen_10": ("train", True),
        "imagesTr/spleen_12": ("train", True),
        "imagesTs/spleen_1": ("test", False),
    }
    for number in (10, 12):
        require_in_place(found[f"imagesTr/spleen_{number}"], anatomy(number, SHAPE), classes(2))


@pytest.mark.parametrize("channel", ["t1gd", "T1GD", 2, "2"])
def test_the_channel_that_is_asked_for(tmp_path, channel):
    found = cases_of(MSD, decathlon(tmp_path, CHANNELS), channel=channel)
    require_in_place(found["imagesTr/spleen_10"], anatomy(10, SHAPE) + 10000, classes(2))


def test_a_channel_must_be_asked_for_where_there_are_several(tmp_path):
    root = decathlon(tmp_path, CHANNELS)
    with pytest.raises(ValueError, match=r"Spleen has 4 channels.*0 \(FLAIR\), .*, 3 \(T2w\)"):
        MSD.read(root)
    with pytest.raises(ValueError, match=r"channel of Spleen is 'T1wc'.*Did you mean T1w"):
        MSD.read(root, channel="T1wc")
    with pytest.raises(ValueError, match=r"channel of Spleen is 4; there are 0 \(FLAIR\)"):
        MSD.read(root, channel=4)


def test_an_image_of_other_channels_is_refused_by_name(tmp_path):
    root = decathlon(tmp_path, CHANNELS)
    save_volume(root / "imagesTr" / "spleen_10.nii.gz", anatomy(1, SHAPE))
    case = cases_of(MSD, root, channel="T2w")["imagesTr/spleen_10"]
    with pytest.raises(ValueError, match=r"spleen_10 .*shape \(7, 6, 5\); wanted \(x, y, z, 4\)"):
        case.load_image(case)


def test_another_label_value_is_refused_by_name(tmp_path):
    root = decathlon(tmp_path)
    save_volume(root / "labelsTr" / "spleen_10.nii.gz", classes(3))
    with pytest.raises(ValueError, match=r"imagesTr/spleen_10 .* values 3 in 1 voxels.*0, 1, 2"):
        prepared(cases_of(MSD, root)["imagesTr/spleen_10"])


def test_what_is_missing_unlisted_or_unfinished_is_told(tmp_path):
    root = decathlon(tmp_path)
    (root / "labelsTr" / "spleen_10.nii.gz").unlink()
    (root / "imagesTs" / "spleen_1.nii.gz").unlink()
    save_volume(root / "imagesTr" / "spleen_99.nii.gz", anatomy(1))
    touch(root / "imagesTr" / "spleen_98.nii.gz.part")
    data = MSD.read(root)
    assert [case.name for case in data.cases] == ["imagesTr/spleen_12"]
    reasons = reasons_of(data)
    assert "listed in dataset.json, but not there" in reasons.pop("labelsTr/spleen_10.nii.gz")
    assert "listed in dataset.json, but not there" in reasons.pop("imagesTs/spleen_1.nii.gz")
    assert "not listed in dataset.json" in reasons.pop("imagesTr/spleen_99.nii.gz")
    assert "unfinished" in reasons.pop("imagesTr/spleen_98.nii.gz.part")
    assert not reasons


def test_files_that_were_unpacked_once_more_are_taken(tmp_path):
    root = decathlon(tmp_path)
    for folder in ("imagesTr", "labelsTr"):
        (root / folder / "spleen_10.nii.gz").unlink()
    save_volume(root / "imagesTr" / "spleen_10.nii", anatomy(10, SHAPE))
    save_volume(root / "labelsTr" / "spleen_10.nii", classes(2))
    found = cases_of(MSD, root)
    require_in_place(found["imagesTr/spleen_10"], anatomy(10, SHAPE), classes(2))
    assert MSD.read(root).problems == ()


def test_test_images_may_be_listed_as_those_to_train_with(tmp_path):
    root = decathlon(tmp_path)
    change(root, test=[{"image": "./imagesTs/spleen_1.nii.gz"}])
    assert cases_of(MSD, root)["imagesTs/spleen_1"].split == "test"


@pytest.mark.parametrize("key", ["modality", "labels", "training"])
def test_a_json_that_lacks_a_key_is_refused(tmp_path, key):
    root = decathlon(tmp_path)
    change(root, **{key: None})
    with pytest.raises(ValueError, match=rf"dataset.json has no {key}; it has name"):
        MSD.read(root)
    assert not MSD.recognise(root)


def test_other_jsons_are_refused(tmp_path):
    root = decathlon(tmp_path)
    change(root, labels={"background": 0, "spleen": 1})
    with pytest.raises(ValueError, match="layout nnunet"):
        MSD.read(root)
    change(root, labels={"1": "spleen"})
    with pytest.raises(ValueError, match="without 0, the background"):
        MSD.read(root)
    (root / "dataset.json").write_text("{")
    with pytest.raises(ValueError, match=r"dataset.json is no JSON"):
        MSD.read(root)
    (root / "dataset.json").write_text("[]")
    with pytest.raises(ValueError, match=r"has no modality, labels, training; it has list"):
        MSD.read(root)
    (root / "dataset.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"There is no .*dataset.json"):
        MSD.read(root)


def test_is_known_with_the_folder_around_it(tmp_path):
    decathlon(tmp_path)
    assert MSD.recognise(tmp_path)
    assert not MSD.recognise(tmp_path / "Task09_Spleen" / "imagesTr")
    with pytest.raises(ValueError, match=r"no option 'chanel'.*Did you mean channel\?"):
        MSD.read(tmp_path, chanel="CT")
