"""Items are read by what they are, and stand for files that nothing has opened."""

import nibabel
import numpy as np
import pytest
from PIL import Image

from dicom_files import slice_affine, write_series
from image_files import nifti, saved
from layout_miniatures import anatomy
from unimiss_hf.data.layouts.item import SourceItem


def test_nothing_is_opened_before_it_is_read(tmp_path):
    item = SourceItem("gone", "3d", (tmp_path / "gone.nii.gz",))
    with pytest.raises(FileNotFoundError, match=r"gone\.nii\.gz"):
        item.read()


def test_volume_file_slices_of_a_series_and_radiograph(tmp_path):
    hu = anatomy(0)
    volume = saved(nifti(hu.transpose()), tmp_path / "ct.nii.gz")
    np.testing.assert_array_equal(SourceItem("a", "3d", (volume,)).read().voxels, hu)
    slices = write_series(tmp_path / "series", hu[:, ::-1, ::-1], slice_affine((0.7, 0.8, 2.5)))
    read = SourceItem("b", "3d", tuple(reversed(slices))).read()
    np.testing.assert_array_equal(read.voxels, hu)
    assert read.spacing == pytest.approx((2.5, 0.8, 0.7))
    Image.fromarray(np.full((5, 6), 51, np.uint8)).save(tmp_path / "film.png")
    film = SourceItem("c", "2d", (tmp_path / "film.png",)).read()
    np.testing.assert_allclose(film.pixels, np.full((1, 5, 6), 0.2), atol=1e-6)


def test_true_spacing_replaces_that_of_the_header(tmp_path):
    image = nibabel.Nifti1Image(anatomy(0).transpose(), np.eye(4))
    path = saved(image, tmp_path / "ct.nii.gz")
    assert SourceItem("a", "3d", (path,), spacing=(5.0, 0.7, 0.8)).read().spacing == (5, 0.7, 0.8)
