import nibabel
import numpy as np
from PIL import Image

from dicom_files import write_radiograph, write_series
from unimiss_hf import MiTImageProcessor
from viewer.images import read_image


def test_a_ct_is_seen_on_its_own_grid_in_hounsfield_units(ct_path):
    image = read_image(str(ct_path), MiTImageProcessor())
    stored = nibabel.load(ct_path)
    assert image.is_volume and image.is_hounsfield
    assert image.shape == (12, 40, 48) and image.values.dtype == np.int16
    assert image.spacing == (5.0, 2.0, 2.0)
    # Stored with x to the left and y to posterior, seen with both turned round.
    wanted = np.asanyarray(stored.dataobj)[::-1, ::-1].transpose()
    np.testing.assert_array_equal(image.values, wanted)
    assert image.description == "volume of 48 x 40 x 12 voxels, 2 x 2 x 5 mm"


def test_a_radiograph_keeps_all_its_pixels(xray_path):
    image = read_image(str(xray_path), MiTImageProcessor())
    assert not image.is_volume and not image.is_hounsfield
    grey = np.asarray(Image.open(xray_path)) / 255
    np.testing.assert_allclose(image.values, grey[None], atol=1e-6)
    assert image.description == "2D image of 80 x 64 pixels"


def test_slices_of_a_dicom_series_are_one_volume(tmp_path):
    hu = np.random.default_rng(0).integers(-1000, 500, (5, 12, 14))
    slices = [str(path) for path in write_series(tmp_path / "series", hu)]
    image = read_image(slices, MiTImageProcessor())
    assert image.is_volume and image.shape == (5, 12, 14)
    assert sorted(image.values.ravel()) == sorted(hu.ravel())
    assert image.name.endswith("and 4 more")


def test_a_dicom_radiograph_is_an_image_and_a_slice_of_a_ct_has_hounsfield_units(tmp_path):
    grey = np.random.default_rng(0).integers(0, 4000, (20, 24)).astype(np.uint16)
    image = read_image(str(write_radiograph(tmp_path / "x.dcm", grey)), MiTImageProcessor())
    assert image.shape == (1, 20, 24) and not image.is_hounsfield
    (one,) = write_series(tmp_path / "one", np.full((1, 8, 8), -600))
    image = read_image(str(one), MiTImageProcessor())
    assert not image.is_volume and image.is_hounsfield
    assert np.all(image.values == -600)


def test_values_that_are_no_small_integers_are_kept(tmp_path):
    for values in (np.full((6, 6, 6), 0.25), np.full((6, 6, 6), 1e6)):
        nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), np.eye(4)), tmp_path / "a.nii")
        image = read_image(str(tmp_path / "a.nii"), MiTImageProcessor())
        np.testing.assert_array_equal(image.values, values)
