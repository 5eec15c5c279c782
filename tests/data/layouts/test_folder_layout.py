"""Any folder: what its images are is told by the files."""

import nibabel
import numpy as np
import pytest
import SimpleITK
from PIL import Image

from dicom_files import write_enhanced, write_radiograph, write_series
from image_files import nifti, saved
from unimiss_hf.data.layouts.folder import FOLDER
from unimiss_hf.data.layouts.item import Problem

HU = np.random.default_rng(0).integers(-1000, 1000, (5, 6, 7))


@pytest.fixture
def contents(tmp_path):
    def find() -> tuple[dict[str, str], list[str]]:
        found = list(FOLDER.items(tmp_path))
        problems = [one.name for one in found if isinstance(one, Problem)]
        return {one.name: one.dimension for one in found if not isinstance(one, Problem)}, problems

    return find


def test_images_are_found_at_any_depth(tmp_path, contents):
    (tmp_path / "a" / "b").mkdir(parents=True)
    Image.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / "a" / "film.png")
    saved(nifti(HU.astype(np.int16)), tmp_path / "a" / "b" / "ct.nii.gz")
    saved(nifti(HU[..., :1].astype(np.int16)), tmp_path / "a" / "b" / "slice.nii.gz")
    saved(nibabel.MGHImage(HU.astype(np.float32), np.eye(4)), tmp_path / "a" / "ct.mgz")
    np.save(tmp_path / "array.npy", HU)
    write_series(tmp_path / "series", HU)
    write_radiograph(tmp_path / "chest.dcm", np.zeros((5, 6), np.uint16))
    write_enhanced(tmp_path / "frames.dcm", HU)
    for name in ("notes.csv", ".hidden.png"):
        (tmp_path / name).touch()
    assert contents() == (
        {
            "a/film.png": "2d",
            "a/b/ct.nii.gz": "3d",
            "a/b/slice.nii.gz": "2d",
            "a/ct.mgz": "3d",
            "array.npy": "3d",
            "series": "3d",
            "chest.dcm": "2d",
            "frames.dcm": "3d",
        },
        ["notes.csv"],
    )


def test_a_metaimage_is_a_header_with_its_voxels(tmp_path, contents):
    image = SimpleITK.GetImageFromArray(HU.astype(np.int16))
    image.SetSpacing((0.7, 0.8, 2.5))
    SimpleITK.WriteImage(image, tmp_path / "a.mhd")
    SimpleITK.WriteImage(image, tmp_path / "b.mha")
    (tmp_path / "c.mhd").write_text("ObjectType = Image\n")
    (tmp_path / "d.raw").touch()
    assert contents() == ({"a.mhd": "3d", "b.mha": "3d", "c.mhd": "3d"}, ["d.raw"])
    items = {item.name: item for item in FOLDER.items(tmp_path) if not isinstance(item, Problem)}
    for name in ("a.mhd", "b.mha"):
        volume = items[name].read()
        assert volume.spacing == pytest.approx((2.5, 0.8, 0.7))
        assert sorted(volume.voxels.ravel()) == sorted(HU.ravel())
    assert [path.name for path in items["a.mhd"].files] == ["a.mhd", "a.raw"]


def test_items_read_what_they_are_made_of(tmp_path):
    write_series(tmp_path, HU)
    (item,) = FOLDER.items(tmp_path)
    assert item.name == tmp_path.name
    assert sorted(item.read().voxels.ravel()) == sorted(HU.ravel())


def test_series_in_one_folder_are_told_apart(tmp_path, contents):
    write_series(tmp_path / "study", HU, SeriesInstanceUID="1.2.3")
    write_series(tmp_path / "other", HU[:3], SeriesInstanceUID="1.2.4")
    write_series(tmp_path / "single", HU[:1], SeriesInstanceUID="1.2.5")
    for folder in ("other", "single"):
        for path in (tmp_path / folder).iterdir():
            path.rename(tmp_path / "study" / f"{folder}_{path.name}")
    items, _ = contents()
    (single,) = (name for name in items if "single" in name)
    assert items == {"study/1.2.3": "3d", "study/1.2.4": "3d", single: "2d"}
    read = {item.name: item.read() for item in FOLDER.items(tmp_path) if item.dimension == "3d"}
    assert read["study/1.2.3"].voxels.shape == (5, 6, 7)
    assert read["study/1.2.4"].voxels.shape == (3, 6, 7)


def test_a_damaged_slice_spoils_its_volume_audibly(tmp_path, contents):
    paths = write_series(tmp_path / "series", HU)
    paths[2].write_bytes(b"no DICOM")
    assert contents()[0] == {"series": "3d"}
    with pytest.raises(OSError, match="IM"):
        next(FOLDER.items(tmp_path)).read()


def test_what_cannot_be_opened_is_taken_for_what_its_name_says(tmp_path, contents):
    for name in ("a.nii.gz", "b.png", "c.dcm"):
        (tmp_path / name).write_bytes(b"damaged")
    assert contents()[0] == {"a.nii.gz": "3d", "b.png": "2d", "c.dcm": "2d"}
