"""ChestX-ray14: patients by its table, splits by its lists."""

import numpy as np
import pytest
from PIL import Image

from layout_findings import items, problems
from layout_miniatures import CHESTXRAY_COLUMNS, chestxray14, touch, write_table
from unimiss_hf.data.layouts.catalog import LAYOUTS
from unimiss_hf.data.layouts.item import Problem

NAME = "chestxray14"
GREY = np.arange(30, dtype=np.float32).reshape(1, 5, 6) * 8 / 255


def test_images_patients_and_splits(tmp_path):
    found = items(NAME, chestxray14(tmp_path))
    assert {name: (item.patient, item.split) for name, item in found.items()} == {
        "00000001_000": ("00000001", "train"),
        "00000001_001": ("00000001", "train"),
        "00001336_000": ("00001336", "test"),
    }
    # The second is stored in colours, with transparency, as some images are there.
    for name in ("00000001_000", "00000001_001"):
        np.testing.assert_allclose(found[name].read().pixels, GREY, atol=1e-6)


@pytest.mark.parametrize("place", ["images", "images_001"])
def test_one_folder_and_the_table_of_2020(tmp_path, place):
    root = chestxray14(tmp_path)
    made = list(root.rglob("[0-9]*.png"))
    (root / "unpacked").mkdir()
    for path in made:
        path.rename(root / "unpacked" / path.name)
    for name in ("images_001", "images_002"):
        touch(root / name / "images" / ".DS_Store")
        (root / name).rename(root / f"empty_{name}")
    (root / "unpacked").rename(root / place)
    (root / "Data_Entry_2017.csv").rename(root / "Data_Entry_2017_v2020.csv")
    assert len(items(NAME, root)) == 3
    assert problems(NAME, root) == {}


def test_table_and_lists_tell_what_is_missing(tmp_path):
    root = chestxray14(tmp_path)
    images = root / "images_002" / "images"
    (images / "00001336_000.png").unlink()
    Image.new("L", (6, 5)).save(images / "00009999_000.png")
    touch(root / "images_003.tar.gz.part")
    told = [one for one in LAYOUTS[NAME].items(root) if isinstance(one, Problem)]
    assert sorted((problem.name, problem.is_missing) for problem in told) == [
        ("00001336_000", True),
        ("00009999_000", False),
        ("images_003.tar.gz.part", True),
    ]
    reasons = {problem.name: problem.reason for problem in told}
    assert "Data_Entry_2017.csv" in reasons["00001336_000"]
    assert "test_list.txt" in reasons["00001336_000"]
    assert "Data_Entry_2017.csv" in reasons["00009999_000"]
    item = items(NAME, root)["00009999_000"]
    assert (item.patient, item.split) == ("00009999", "train")


def test_image_that_one_list_alone_lacks(tmp_path):
    root = chestxray14(tmp_path)
    (root / "train_val_list.txt").write_text("00000001_000.png\n00000007_000.png\n")
    told = problems(NAME, root)
    assert told.keys() == {"00000001_001", "00000007_000"}
    assert not told["00000001_001"].is_missing
    assert "taken as train" in told["00000001_001"].reason
    assert told["00000007_000"].is_missing
    assert items(NAME, root)["00000001_001"].split == "train"


def test_without_table_and_lists(tmp_path):
    root = chestxray14(tmp_path)
    for name in ("Data_Entry_2017.csv", "train_val_list.txt"):
        (root / name).unlink()
    told = problems(NAME, root)
    assert told.keys() == {
        "Data_Entry_2017_v2020.csv or Data_Entry_2017.csv",
        "train_val_list.txt",
    }
    assert not any(problem.is_missing for problem in told.values())
    found = items(NAME, root)
    assert {name: item.patient for name, item in found.items()} == {
        "00000001_000": "00000001",
        "00000001_001": "00000001",
        "00001336_000": "00001336",
    }
    assert found["00001336_000"].split == "test"


def test_odd_table_is_named(tmp_path):
    root = chestxray14(tmp_path)
    write_table(root / "Data_Entry_2017.csv", CHESTXRAY_COLUMNS.replace("Patient ID", "ID"), [])
    with pytest.raises(ValueError, match=r"Data_Entry_2017\.csv has no column Patient ID"):
        items(NAME, root)
