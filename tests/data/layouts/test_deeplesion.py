"""DeepLesion: slices in runs, turned to RAS+, with the spacing of its table."""

import nibabel
import numpy as np
import pytest
from PIL import Image

from layout_findings import items, problems
from layout_miniatures import (
    DEEPLESION_COLUMNS,
    anatomy,
    deeplesion,
    deeplesion_row,
    save_slices,
    touch,
    write_table,
)
from unimiss_hf.image_reading_mit import load_volume

NAME = "deeplesion"


def test_runs_of_slices_are_volumes(tmp_path):
    found = items(NAME, deeplesion(tmp_path))
    assert {name: (item.patient, item.split) for name, item in found.items()} == {
        "000001_01_01_103-106": ("000001", "test"),
        "000001_01_01_110-113": ("000001", "test"),
        "000089_07_02_001-004": ("000089", "train"),
    }
    spacings = [(5.0, 0.8, 0.7), (5.0, 0.8, 0.7), (1.0, 0.9, 0.9)]
    for seed, (item, spacing) in enumerate(zip(found.values(), spacings, strict=True), start=1):
        volume = item.read()
        assert item.spacing == volume.spacing == spacing
        np.testing.assert_array_equal(volume.voxels, anatomy(seed))
        assert volume.voxels.dtype == np.float32
        assert volume.voxels.flags.c_contiguous


def test_grid_is_that_of_the_data_sets_own_nifti_files(tmp_path):
    item = items(NAME, deeplesion(tmp_path))["000001_01_01_103-106"]
    planes = [np.asarray(Image.open(path)).astype(np.int32) - 32768 for path in item.files]
    # (rows, columns, slices), as DL_save_nifti.py writes them.
    affine = np.array([[0, -0.7, 0, 0], [-0.8, 0, 0, 0], [0, 0, -5, 0], [0, 0, 0, 1]])
    affine[[0, 1], [1, 0]] = [-0.7, -0.8]
    written = nibabel.Nifti1Image(np.stack(planes, axis=-1).astype(np.int16), affine)
    wanted, read = load_volume(written), item.read()
    np.testing.assert_array_equal(read.voxels, wanted.voxels)
    np.testing.assert_allclose(read.grid.affine, wanted.grid.affine)
    assert read.spacing == pytest.approx(wanted.spacing)
    stored = read.grid.to_source(read.voxels)
    np.testing.assert_array_equal(stored, np.stack(planes).transpose())


@pytest.mark.parametrize(
    "place", ["Images_png_01/Images_png", "Images_png_01", "Images_png/Images_png"]
)
def test_other_places_of_the_folders(tmp_path, place):
    root = deeplesion(tmp_path)
    (root / "Images_png").rename(root / "unpacked")
    (root / place).parent.mkdir(exist_ok=True)
    (root / "unpacked").rename(root / place)
    assert len(items(NAME, root)) == 3


def test_images_folder_alone_has_its_table_beside_it(tmp_path):
    root = deeplesion(tmp_path)
    assert len(items(NAME, root / "Images_png")) == 3
    (root / "DL_info.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no DL_info\.csv.*Download it from https"):
        items(NAME, root)


def test_what_is_missing_is_told_and_the_rest_found(tmp_path):
    root = deeplesion(tmp_path)
    images = root / "Images_png"
    (images / "000001_01_01" / "104.png").unlink()
    (images / "000001_01_01" / "111.png").unlink()
    save_slices(images / "000002_01_01", anatomy(5), first=1)
    touch(images / "000089_07_02" / "005.png.part")
    with (root / "DL_info.csv").open("a") as table:
        row = deeplesion_row("000003_01_01", 7, "1, 14", "0.9, 0.9, 1", 1)
        table.write(",".join(f'"{value}"' for value in row) + "\n")
    told = problems(NAME, root)
    lacking = told.pop("Images_png/000001_01_01")
    assert "lacks slices 104, 111" in lacking.reason
    assert not lacking.is_missing
    assert "one slice" in told.pop("000001_01_01_103-103").reason
    assert "one slice" in told.pop("000001_01_01_110-110").reason
    assert "not listed" in told.pop("Images_png/000002_01_01").reason
    assert "not there" in told.pop("000003_01_01").reason
    assert "unfinished" in told.pop("Images_png/000089_07_02/005.png.part").reason
    assert not told
    assert list(items(NAME, root)) == [
        "000001_01_01_105-106",
        "000001_01_01_112-113",
        "000089_07_02_001-004",
    ]


def test_table_that_cannot_be_trusted(tmp_path):
    root = deeplesion(tmp_path)

    def rows(*spacings: str, slices: str = "1, 4") -> None:
        listed = [deeplesion_row("000089_07_02", 2, slices, each, 1) for each in spacings]
        write_table(root / "DL_info.csv", DEEPLESION_COLUMNS, listed)

    series = "Images_png/000089_07_02"
    rows("0.9, 0.9, 1", "0.9, 0.9, 5")
    assert "several spacings" in problems(NAME, root)[series].reason
    for spacing in ("0.9, 0.9, -5", "0.9, 0.9", "0.9, 0.9, NaN", "none"):
        rows(spacing)
        told = problems(NAME, root)[series]
        assert "Spacing_mm_px_ in DL_info.csv must be 3 positive mm" in told.reason
        assert told.is_missing
    rows("0.9, 0.9, 1", slices="1 to 4")
    with pytest.raises(ValueError, match=r"Slice_range '1 to 4' for 000089_07_02_002\.png"):
        items(NAME, root)


def test_slices_that_are_no_volume_are_named(tmp_path):
    root = deeplesion(tmp_path)
    item = items(NAME, root)["000089_07_02_001-004"]
    Image.fromarray(np.zeros((5, 6), np.uint8)).save(item.files[2])
    with pytest.raises(ValueError, match=r"003\.png has mode L, not 16-bit"):
        item.read()
    Image.fromarray(np.zeros((6, 6), np.uint16)).save(item.files[2])
    with pytest.raises(ValueError, match=r"003\.png has size \(6, 6\).*001\.png has \(5, 6\)"):
        item.read()
    item.files[2].write_bytes(item.files[1].read_bytes()[:-40])
    with pytest.raises(OSError, match=r"003\.png is not a complete image"):
        item.read()
    item.files[2].unlink()
    with pytest.raises(FileNotFoundError, match=r"003\.png"):
        item.read()
