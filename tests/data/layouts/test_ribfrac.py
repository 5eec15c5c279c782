"""RibFrac as its archives are unpacked, and as people rename them."""

import numpy as np
import pytest

from layout_findings import items, problems
from layout_miniatures import anatomy, ribfrac, save, touch

NAME = "ribfrac"
SPLITS = {
    "RibFrac1": "train",
    "RibFrac301": "train",
    "RibFrac421": "validation",
    "RibFrac501": "test",
}


def test_images_and_no_labels(tmp_path):
    found = items(NAME, ribfrac(tmp_path))
    assert {name: item.split for name, item in found.items()} == dict(sorted(SPLITS.items()))
    for name, item in found.items():
        assert item.patient == name
        volume = item.read()
        np.testing.assert_array_equal(volume.voxels, anatomy(int(name[7:])))
        assert volume.spacing == pytest.approx((2.5, 0.8, 0.7))


@pytest.mark.parametrize(
    "train, validation",
    [
        ("Part1", "ribfrac-val-images"),
        ("training/images", "validation/ribfrac-val-images"),
        ("train/ribfrac-train-images-1/Part1", "val/ribfrac-val-images"),
        ("", ""),
    ],
)
def test_other_places_of_the_files(tmp_path, train, validation):
    save(tmp_path / train / "RibFrac420-image.nii.gz", 1)
    save(tmp_path / validation / "RibFrac500-image.nii.gz", 2)
    found = items(NAME, tmp_path)
    assert {name: item.split for name, item in found.items()} == {
        "RibFrac420": "train",
        "RibFrac500": "validation",
    }


def test_what_is_missing_or_there_twice_is_told(tmp_path):
    root = ribfrac(tmp_path)
    (root / "ribfrac-val-images" / "RibFrac421-image.nii.gz").unlink()
    save(root / "Part1" / "RibFrac1-image.nii.gz", 1)
    touch(root / "ribfrac-test-images.zip.part")
    told = problems(NAME, root)
    assert "ribfrac-val-info.csv, but not there" in told.pop("RibFrac421").reason
    assert "twice" in told["RibFrac1"].reason
    assert not told.pop("RibFrac1").is_missing
    assert told.keys() == {"ribfrac-test-images.zip.part"}
    assert items(NAME, root).keys() == SPLITS.keys() - {"RibFrac421"}
