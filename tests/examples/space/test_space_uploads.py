from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from dicom_files import write_radiograph, write_series
from viewer import uploads
from viewer.uploads import refuse_large, take_uploads


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "session").mkdir()
    return tmp_path / "session"


def test_a_file_is_moved_where_it_can_be_deleted(folder, tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    taken = take_uploads([str(tmp_path / "a.png")], folder)
    assert Path(taken).read_bytes() == b"x"
    assert folder in Path(taken).parents
    assert not (tmp_path / "a.png").exists()


def test_several_dicom_files_are_one_series_even_with_equal_names(folder, tmp_path):
    paths = []
    for number, path in enumerate(write_series(tmp_path / "s", np.zeros((3, 8, 8)))):
        target = tmp_path / f"dropped{number}" / "IM"
        target.parent.mkdir()
        paths.append(str(path.rename(target)))
    taken = take_uploads(paths, folder)
    assert len(set(taken)) == 3 and all(Path(path).is_file() for path in taken)


def test_several_files_that_are_no_series_are_refused(folder, tmp_path):
    paths = [str(tmp_path / name) for name in ("a.png", "b.png")]
    for path in paths:
        Path(path).write_bytes(b"x")
    with pytest.raises(ValueError, match=r"2 files, of which a\.png is no DICOM"):
        take_uploads(paths, folder)


def test_a_file_that_is_gone_is_asked_for_again(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="Drop it again"):
        take_uploads([str(tmp_path / "a.png")], folder)


def test_too_many_files_are_refused(folder):
    with pytest.raises(ValueError, match="at most 2000"):
        take_uploads(["a.dcm"] * 2001, folder)


def test_what_would_not_fit_into_memory_is_refused_by_its_header(tmp_path, monkeypatch):
    monkeypatch.setattr(uploads, "LARGEST_IMAGE", 1000)
    monkeypatch.setattr(uploads, "LARGEST_VOLUME", 2000)
    voxels = np.zeros((20, 20, 6), np.int16)
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / "a.nii.gz")
    Image.new("L", (40, 30)).save(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", voxels)
    write_radiograph(tmp_path / "x.dcm", np.zeros((40, 30), np.uint16))
    series = [str(path) for path in write_series(tmp_path / "s", np.zeros((6, 20, 20)))]
    for source in (*(str(tmp_path / f"a.{kind}") for kind in ("nii.gz", "png", "npy")), series):
        with pytest.raises(ValueError, match="this page takes up to"):
            refuse_large(source)
    with pytest.raises(ValueError, match="1,200 voxels; this page takes up to 1,000"):
        refuse_large(str(tmp_path / "x.dcm"))
    refuse_large(series[:5])


def test_an_image_that_pillow_takes_for_a_bomb_is_refused(tmp_path, monkeypatch):
    Image.new("L", (40, 30)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match=r"a\.png is too large"):
        refuse_large(str(tmp_path / "a.png"))


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii", "a.png", "a.npy", "a.dcm", "a"])
def test_files_that_cannot_be_read_are_left_to_the_reader(name, tmp_path):
    (tmp_path / name).write_bytes(b"nothing of the kind")
    refuse_large(str(tmp_path / name))
