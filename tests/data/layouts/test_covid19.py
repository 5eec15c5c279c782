"""CT Images in COVID-19, the NIfTI files of TCIA."""

import gzip

import numpy as np
import pytest

from layout_findings import items, problems
from layout_miniatures import anatomy, covid19, save, touch

NAME = "ct-images-in-covid-19"


def test_scans_and_their_patients(tmp_path):
    found = items(NAME, covid19(tmp_path))
    assert {name: item.patient for name, item in found.items()} == {
        "volume-covid19-A-0000": "A-0000",
        "volume-covid19-A-0318_1": "A-0318",
        "volume-covid19-A-0721_day000": "A-0721",
        "volume-covid19-A-0721_day008": "A-0721",
    }
    for seed, name in enumerate(["0000", "0721_day000", "0721_day008", "0318_1"]):
        volume = found[f"volume-covid19-A-{name}"].read()
        np.testing.assert_array_equal(volume.voxels, anatomy(seed))
        assert volume.spacing == pytest.approx((2.5, 0.8, 0.7))


def test_unpacked_files_and_what_is_odd(tmp_path):
    root = covid19(tmp_path)
    packed = root / "volume-covid19-A-0000.nii.gz"
    packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
    save(root / "volume-covid19-A-0003_ct.nii.gz", 1)
    save(root / "volume-covid19-A-0003_seg.nii.gz", 1)
    touch(root / "volume-covid19-A-0004.nii.gz.crdownload")
    assert "volume-covid19-A-0003_ct" not in items(NAME, root)
    told = problems(NAME, root)
    assert told.keys() == {"volume-covid19-A-0000", "volume-covid19-A-0004.nii.gz.crdownload"}
    packed.unlink()
    volume = items(NAME, root)["volume-covid19-A-0000"].read()
    np.testing.assert_array_equal(volume.voxels, anatomy(0))
