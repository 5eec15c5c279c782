from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from dicom_files import slice_affine, write_enhanced, write_radiograph, write_series
from image_files import grid, nifti, saved
from unimiss_hf import MiTImageProcessor
from unimiss_hf.image_inputs_mit import dimension_of, split_inputs
from unimiss_hf.image_reading_mit import load_radiograph, load_volume, read_volume


@pytest.fixture
def hu():
    """A CT of 5 slices, (slices, rows, columns)."""
    return grid(5, 9, 8)


@pytest.fixture
def slices(tmp_path, hu):
    return write_series(tmp_path / "series", hu)


@pytest.fixture
def film(tmp_path):
    return write_radiograph(tmp_path / "film.dcm", np.abs(grid(9, 8, 1)[..., 0]))


class TestSplitting:
    def test_one_or_many(self, film):
        assert split_inputs("a.png") == (["a.png"], False)
        assert split_inputs(["a.png"]) == (["a.png"], True)
        assert split_inputs(("a.png", film)) == (["a.png", film], True)
        assert split_inputs([]) == ([], True)

    def test_the_slices_of_a_series_are_one(self, slices):
        shuffled = [slices[index] for index in (3, 1, 4, 0, 2)]
        (series,), many = split_inputs(shuffled)
        assert sorted(series) == sorted(slices)
        assert not many
        assert split_inputs([slices, "a.png"]) == ([slices, "a.png"], True)
        assert split_inputs([tuple(slices)]) == ([slices], True)

    def test_radiographs_are_many(self, tmp_path, film):
        other = write_radiograph(tmp_path / "other.dcm", np.ones((9, 8), dtype=int))
        assert split_inputs([film, other]) == ([film, other], True)

    def test_loose_slices_beside_other_inputs_are_refused(self, slices):
        for other in ("a.png", np.zeros((8, 8, 8)), Image.new("L", (4, 4))):
            with pytest.raises(ValueError, match=r"4 more .* slices of one series, beside .*list"):
                split_inputs([*slices, other])

    def test_lists_within_lists_hold_paths(self):
        for nested in ([np.zeros((8, 8))], [0.5, 1.0], []):
            with pytest.raises(TypeError, match="slices of one DICOM series, as paths; it holds"):
                split_inputs([nested])


class TestDimension:
    def test_dicom(self, tmp_path, slices, film, hu):
        assert dimension_of(tmp_path / "series") == 3
        assert dimension_of(slices) == 3
        assert dimension_of(slices[0]) == 2
        assert dimension_of(slices[:1]) == 2
        assert dimension_of(str(film)) == 2
        assert dimension_of(write_enhanced(tmp_path / "all.dcm", hu)) == 3

    @pytest.mark.parametrize(
        ("shape", "dimension"), [((6, 5, 4), 3), ((6, 5, 1), 2), ((6, 5), 2), ((1, 5, 6, 1), 2)]
    )
    def test_volume_files(self, tmp_path, shape, dimension):
        image = nifti(np.zeros(shape, dtype=np.int16))
        assert dimension_of(image) == dimension
        assert dimension_of(saved(image, tmp_path / "image.nii.gz")) == dimension

    @pytest.mark.parametrize(("shape", "dimension"), [((6, 5, 8), 3), ((6, 5), 2), ((3, 5, 6), 2)])
    def test_arrays_and_their_files(self, tmp_path, shape, dimension):
        array = np.zeros(shape)
        np.save(tmp_path / "array.npy", array)
        for source in (array, torch.from_numpy(array), tmp_path / "array.npy"):
            assert dimension_of(source) == dimension

    @pytest.mark.parametrize("source", [b"bytes", 3, None, {"image": 1}])
    def test_refuses_other_types(self, source):
        with pytest.raises(TypeError, match="Wanted a path"):
            dimension_of(source)

    def test_refuses_a_time_series(self):
        with pytest.raises(ValueError, match=r"axis 4, t \(time\), has length 3"):
            dimension_of(nifti(np.zeros((6, 5, 4, 3), dtype=np.int16)))

    def test_names_missing_files(self, tmp_path):
        for name in ("a.png", "a.nii.gz", "a.dcm", "a.npy", "folder"):
            with pytest.raises(FileNotFoundError, match=name):
                MiTImageProcessor()(tmp_path / name)

    def test_names_what_was_meant(self, slices):
        wrong = slices[0].with_name(slices[0].name.replace("IM", "IN"))
        with pytest.raises(FileNotFoundError, match=rf"Did you mean .*{slices[0].name}"):
            MiTImageProcessor()(wrong)

    def test_a_broken_link_is_named(self, tmp_path):
        (tmp_path / "b.png").symlink_to("nowhere.png")
        with pytest.raises(FileNotFoundError, match=r"b\.png is a link to nowhere\.png, which"):
            MiTImageProcessor()(tmp_path / "b.png")

    def test_an_empty_path_is_not_the_current_folder(self):
        with pytest.raises(ValueError, match="empty path"):
            MiTImageProcessor()("")

    def test_a_folder_without_dicom_says_what_it_holds(self, tmp_path):
        folder = tmp_path / "scans"
        folder.mkdir()
        saved(nifti(grid()), folder / "ct.nii.gz")
        with pytest.raises(ValueError, match=r"scans has no DICOM.*ct\.nii\.gz"):
            MiTImageProcessor()(folder)


class TestReading:
    def test_a_series_lies_where_the_same_nifti_lies(self, tmp_path, hu):
        affine = slice_affine((0.8, 0.7, 2.5), angles=(5, -8, 12))
        write_series(tmp_path / "oblique", hu, affine)
        image = nifti(hu.transpose(2, 1, 0), affine)
        series, volume = load_volume(tmp_path / "oblique"), load_volume(image)
        np.testing.assert_allclose(series.voxels, volume.voxels, atol=1e-3)
        np.testing.assert_allclose(series.grid.affine, volume.grid.affine, atol=1e-4)
        assert series.spacing == pytest.approx((2.5, 0.7, 0.8), abs=1e-4)
        np.testing.assert_allclose(
            read_volume(tmp_path / "oblique", (2, 2, 2)), read_volume(image, (2, 2, 2)), atol=0.5
        )

    @pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
    def test_the_processor_takes_a_folder_a_list_and_a_multi_frame_file(
        self, tmp_path, hu, photometric
    ):
        files = write_series(tmp_path / "series", hu, PhotometricInterpretation=photometric)
        single = write_enhanced(tmp_path / "all.dcm", hu)
        processor = MiTImageProcessor(spacing=None)
        batch = processor([tmp_path / "series", files, single], return_tensors="np")
        assert batch["pixel_values"].shape == (3, 1, 5, 9, 8)
        for pixels in batch["pixel_values"]:
            # LPS to RAS+: rows and columns turn round
            np.testing.assert_allclose(pixels[0] * 1024, hu[:, ::-1, ::-1], atol=1e-3)
        flat = processor(files, return_tensors="np")["pixel_values"]
        np.testing.assert_array_equal(flat, batch["pixel_values"][:1])

    def test_labels_of_a_series_are_a_nifti_that_lies_on_it(self, tmp_path, hu):
        affine = slice_affine(angles=(5, -8, 12))
        files = write_series(tmp_path / "series", hu, affine)
        processor = MiTImageProcessor(spacing=None)
        batch = processor(files, return_tensors="pt")
        scores = torch.cat([-batch["pixel_values"], batch["pixel_values"]], 1)
        (answer,) = processor.post_process_semantic_segmentation(scores, batch)
        assert isinstance(answer, nibabel.Nifti1Image)
        np.testing.assert_allclose(answer.affine, affine, atol=1e-4)
        np.testing.assert_array_equal(np.asarray(answer.dataobj), (hu > 0).transpose(2, 1, 0))

    def test_a_ct_slice_is_windowed_like_a_volume(self, slices, hu):
        processor = MiTImageProcessor(image_size=None)
        pixels = processor(slices[2], return_tensors="np")["pixel_values"]
        np.testing.assert_allclose(pixels[0, 0] * 1024, hu[2], atol=1e-3)
        lung = processor(slices[2], window="lung", scaling="unit")["pixel_values"][0]
        np.testing.assert_allclose(lung[0], ((hu[2] + 1350) / 1500).clip(0, 1), atol=1e-6)

    def test_a_radiograph_gives_an_image(self, film):
        processor = MiTImageProcessor(image_size=None)
        batch = processor(film, return_tensors="pt")
        assert batch["pixel_values"].shape == (1, 1, 9, 8)
        (answer,) = processor.post_process_semantic_segmentation(
            torch.cat([batch["pixel_values"]] * 2, 1), batch
        )
        assert isinstance(answer, Image.Image)
        assert answer.size == (8, 9)

    def test_another_modality_is_warned_of(self, tmp_path, hu):
        def make_mr(dataset, index):
            dataset.Modality = "MR"
            dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
            dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID

        write_series(tmp_path / "mr", hu, change=make_mr)
        with pytest.warns(UserWarning, match="modality MR: its values are no HU"):
            load_volume(tmp_path / "mr")

    def test_arrays_from_files(self, tmp_path, hu):
        np.save(tmp_path / "ct.npy", hu)
        batch = MiTImageProcessor()(tmp_path / "ct.npy", return_tensors="np")
        np.testing.assert_allclose(batch["pixel_values"][0, 0] * 1024, hu, atol=1e-3)
        for broken in (b"", b"no array", (tmp_path / "ct.npy").read_bytes()[:-9]):
            (tmp_path / "broken.npy").write_bytes(broken)
            with pytest.raises(OSError, match=r"broken.npy is not an array that numpy saved"):
                MiTImageProcessor()(tmp_path / "broken.npy")
        np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
        with pytest.raises(OSError, match=r"objects\.npy"):
            MiTImageProcessor()(tmp_path / "objects.npy")


class TestSlicesInVolumeFiles:
    @pytest.fixture
    def axial(self):
        """x to the left, y to anterior: what a converter makes of a radiograph that lies flat."""
        return np.diag([-1.0, 1.0, 1.0, 1.0])

    def test_are_turned_to_how_they_are_displayed(self, axial):
        stored = np.zeros((4, 3, 1), dtype=np.uint8)
        stored[0, 2] = 255  # the patient's right, anterior
        radiograph = load_radiograph(nifti(stored, axial))
        assert radiograph.pixels.shape == (1, 3, 4)
        assert radiograph.pixels[0, 0, 0] == 1
        assert radiograph.pixels.sum() == 1

    @pytest.mark.parametrize(
        ("values", "header", "wanted"),
        [
            (np.array([0, 51, 255], np.uint8), {}, [0, 0.2, 1]),
            (np.array([0, 13107, 65535], np.uint16), {}, [0, 0.2, 1]),
            (np.array([0, 500, 1000], np.int16), {"cal_max": 500}, [0, 1, 1]),
            (np.array([0, 0.25, 1], np.float32), {}, [0, 0.25, 1]),
            (np.array([0, 51, 255], np.uint8), {"scl_slope": 1 / 255, "scl_inter": 0}, [0, 0.2, 1]),
        ],
    )
    def test_what_the_header_or_the_type_declares(self, axial, values, header, wanted, recwarn):
        image = nifti(values.reshape(3, 1)[:, [0, 0], None], axial)
        for field, value in header.items():
            image.header[field] = value
        image = nibabel.Nifti1Image.from_bytes(image.to_bytes())
        np.testing.assert_allclose(load_radiograph(image).pixels[0, 0], wanted, atol=1e-6)
        assert not recwarn.list

    def test_12_bits_in_16_are_not_black(self, axial):
        image = nifti(np.array([0, 819, 4095], np.uint16).reshape(3, 1)[:, [0, 0], None], axial)
        with pytest.warns(UserWarning, match="lowest and highest, 0 and 4095"):
            np.testing.assert_allclose(load_radiograph(image).pixels[0, 0], [0, 0.2, 1])

    def test_a_slice_without_orientation_is_warned_of(self, axial):
        image = nifti(np.array([0, 51, 255], np.uint8).reshape(3, 1)[:, [0, 0], None], axial)
        image.set_sform(None, code=0)
        image.set_qform(None, code=0)
        with pytest.warns(UserWarning, match="neither an sform nor a qform"):
            load_radiograph(image)

    def test_a_range_that_nothing_declares_is_warned_of(self, axial):
        image = nifti(np.array([-1000, 0, 1000], np.int16).reshape(3, 1)[:, [0, 0], None], axial)
        with pytest.warns(UserWarning, match="lowest and highest, -1000 and 1000"):
            grey = load_radiograph(image).pixels
        np.testing.assert_allclose(grey[0, 0], [0, 0.5, 1])
        hounsfield = load_radiograph(image, "hounsfield")
        assert hounsfield.is_hounsfield
        np.testing.assert_array_equal(hounsfield.pixels[0, 0], [-1000, 0, 1000])

    def test_an_image_file_has_no_hounsfield_units(self, tmp_path):
        Image.new("L", (4, 4)).save(Path(tmp_path) / "film.png")
        with pytest.raises(ValueError, match="holds grey levels, not HU"):
            load_radiograph(tmp_path / "film.png", "hounsfield")
