"""The lung nodule competition of Tianchi, as its parts are unpacked."""

import shutil

import numpy as np
import pytest

from layout_findings import items, problems
from layout_miniatures import anatomy, tianchi, touch

NAME = "tianchi"


def test_scans_and_splits(tmp_path):
    root = tianchi(tmp_path)
    found = items(NAME, root)
    splits = {"LKDS-00001": "train", "LKDS-00602": "validation", "LKDS-00803": "test"}
    assert {name: item.split for name, item in found.items()} == splits
    for seed, name in enumerate(splits):
        item = found[name]
        assert item.patient == name
        assert [path.suffix for path in item.files] == [".mhd", ".raw"]
        volume = item.read()
        np.testing.assert_array_equal(volume.voxels, anatomy(seed))
        assert volume.spacing == pytest.approx((2.5, 0.8, 0.7))


@pytest.mark.parametrize("place", ["", "train", "train/train_subset00"])
def test_other_places_of_the_files(tmp_path, place):
    made = tianchi(tmp_path / "made")
    root = tmp_path / "root"
    shutil.copytree(made / "train_subset00", root / place, dirs_exist_ok=True)
    (item,) = items(NAME, root).values()
    assert (item.name, item.split) == ("LKDS-00001", "train")


def test_single_part_knows_its_split_by_its_own_name(tmp_path):
    (item,) = items(NAME, tianchi(tmp_path) / "val_subset01").values()
    assert (item.name, item.split) == ("LKDS-00602", "validation")


def test_what_is_missing_is_told_and_the_rest_found(tmp_path):
    root = tianchi(tmp_path)
    (root / "train_subset00" / "LKDS-00001.raw").unlink()
    (root / "val_subset01" / "LKDS-00602.mhd").unlink()
    touch(root / "test_subset02" / "LKDS-00809.mhd", root / "train_subset00" / "1.zip.part")
    with (root / "csv" / "train" / "annotations.csv").open("a") as table:
        table.write("LKDS_00017,1,2,3,4\nLKDS-00017,5,6,7,8\n")
    told = problems(NAME, root)
    assert "voxels, LKDS-00001.raw, are not there" in told.pop("LKDS-00001").reason
    assert "no header" in told.pop("val_subset01/LKDS-00602.raw").reason
    assert "LKDS-00809.mhd names no ElementDataFile" in told.pop("LKDS-00809").reason
    assert "unfinished" in told.pop("train_subset00/1.zip.part").reason
    listed = told.pop("LKDS-00017")
    assert "annotations.csv, but not there" in listed.reason
    assert listed.is_missing
    assert not told
    assert list(items(NAME, root)) == ["LKDS-00803"]
