"""MetaImage volumes come out as NIfTI ones of the same voxels do."""

import sys

import nibabel
import numpy as np
import pytest
import SimpleITK

from layout_miniatures import anatomy, stored, write_metaimage
from oriented_grids import stored_affine
from unimiss_hf.data.layouts.item import SourceItem
from unimiss_hf.data.layouts.metaimage import load_metaimage, voxel_file
from unimiss_hf.image_reading_mit import load_volume


def item(path, **values) -> SourceItem:
    return SourceItem(path.stem, "3d", (path, path.with_suffix(".raw")), **values)


GRIDS = {
    "as scanned": ("LPS", (0, 0, 0)),
    "feet first": ("LPI", (0, 0, 0)),
    "flipped": ("RAI", (0, 0, 0)),
    "coronal": ("LSP", (0, 0, 0)),
    "oblique": ("LPS", (0.2, -0.1, 0.3)),
    "oblique and permuted": ("SRA", (-0.3, 0.2, 0.1)),
}


@pytest.mark.parametrize("codes, angles", GRIDS.values(), ids=GRIDS)
def test_grid_is_that_of_the_same_volume_as_nifti(tmp_path, codes, angles):
    voxels = anatomy(0).transpose()
    affine = stored_affine(codes, (0.7, 0.8, 2.5), angles)
    path = write_metaimage(tmp_path / "ct.mhd", voxels, affine)
    read = load_metaimage(item(path))
    wanted = load_volume(nibabel.Nifti1Image(voxels, affine))
    np.testing.assert_array_equal(read.voxels, wanted.voxels)
    np.testing.assert_allclose(read.grid.affine, wanted.grid.affine, atol=1e-5)
    assert read.spacing == pytest.approx(wanted.spacing)
    # What ITK itself makes of it, written as NIfTI, is the same again.
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(path)), str(tmp_path / "itk.nii"))
    converted = load_volume(tmp_path / "itk.nii")
    np.testing.assert_array_equal(read.voxels, converted.voxels)
    np.testing.assert_allclose(read.grid.affine, converted.grid.affine, atol=1e-4)


@pytest.mark.parametrize("dtype", ["int16", "uint16", "float64"])
def test_values_are_hounsfield_units_as_they_are_stored(tmp_path, dtype):
    hu = anatomy(0) if dtype != "uint16" else anatomy(0).clip(0)
    image = stored(hu, "LPS", (0.7, 0.8, 2.5))
    voxels = np.asarray(image.dataobj).astype(dtype)
    volume = load_metaimage(item(write_metaimage(tmp_path / "ct.mhd", voxels, image.affine)))
    assert volume.voxels.dtype == np.float32
    assert volume.voxels.flags.c_contiguous
    np.testing.assert_array_equal(volume.voxels, hu)
    assert volume.spacing == pytest.approx((2.5, 0.8, 0.7))


def test_labels_go_back_onto_its_grid(tmp_path):
    affine = stored_affine("LPS", (0.7, 0.8, 2.5), (0, 0, 0))
    path = write_metaimage(tmp_path / "ct.mhd", anatomy(0).transpose(), affine)
    volume = load_metaimage(item(path))
    np.testing.assert_allclose(volume.grid.source_affine, affine, atol=1e-6)
    np.testing.assert_array_equal(volume.grid.to_source(volume.voxels), anatomy(0).transpose())


def test_true_spacing_replaces_that_of_the_header(tmp_path):
    path = write_metaimage(tmp_path / "ct.mhd", anatomy(0).transpose(), np.eye(4))
    assert load_metaimage(item(path, spacing=(5.0, 0.7, 0.8))).spacing == (5, 0.7, 0.8)


def test_voxel_file_is_what_the_header_names(tmp_path):
    path = write_metaimage(tmp_path / "ct.mhd", anatomy(0).transpose(), np.eye(4))
    assert voxel_file(path) == tmp_path / "ct.raw"
    path.write_text("NDims = 3\nElementDataFile = LOCAL\n")
    assert voxel_file(path) == path
    path.write_text("NDims = 3\n")
    with pytest.raises(ValueError, match=r"ct\.mhd names no ElementDataFile"):
        voxel_file(path)


def test_damage_is_named(tmp_path):
    path = write_metaimage(tmp_path / "ct.mhd", anatomy(0).transpose(), np.eye(4))
    raw = tmp_path / "ct.raw"
    raw.write_bytes(raw.read_bytes()[:-20])
    with pytest.raises(OSError, match=r"ct\.mhd is not a MetaImage that SimpleITK reads"):
        load_metaimage(item(path))
    raw.unlink()
    with pytest.raises(OSError, match=r"ct\.mhd is not a MetaImage"):
        load_metaimage(item(path))
    path.write_text("nothing of use")
    with pytest.raises(OSError, match=r"ct\.mhd is not a MetaImage"):
        load_metaimage(item(path))
    with pytest.raises(FileNotFoundError, match=r"no file .*gone\.mhd"):
        load_metaimage(item(tmp_path / "gone.mhd"))


def test_what_is_no_volume_is_named(tmp_path):
    flat = SimpleITK.GetImageFromArray(np.zeros((5, 6), np.int16))
    SimpleITK.WriteImage(flat, str(tmp_path / "flat.mhd"))
    with pytest.raises(ValueError, match=r"flat\.mhd is not one volume: it has 2 axes"):
        load_metaimage(item(tmp_path / "flat.mhd"))
    colours = SimpleITK.GetImageFromArray(np.zeros((4, 5, 6, 3), np.uint8), isVector=True)
    SimpleITK.WriteImage(colours, str(tmp_path / "colours.mhd"))
    with pytest.raises(ValueError, match="3 values a voxel"):
        load_metaimage(item(tmp_path / "colours.mhd"))
    nothing = np.full((6, 5, 4), np.nan)
    path = write_metaimage(tmp_path / "nan.mhd", nothing, np.eye(4))
    with pytest.raises(ValueError, match=r"nan\.mhd has 120 NaN or infinite"):
        load_metaimage(item(path))


def test_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    path = write_metaimage(tmp_path / "ct.mhd", anatomy(0).transpose(), np.eye(4))
    with pytest.raises(ImportError, match=r"ct\.mhd needs SimpleITK: pip install SimpleITK"):
        load_metaimage(item(path))
