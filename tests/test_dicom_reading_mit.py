import warnings

import nibabel
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import MultiFrameGrayscaleWordSecondaryCaptureImageStorage as SecondaryCapture
from pydicom.uid import generate_uid

from dicom_files import slice_affine, write_enhanced, write_radiograph, write_series
from image_files import RANDOM
from unimiss_hf.dicom_reading_mit import (
    DicomImage,
    DicomVolume,
    dicom_dimension,
    dicom_files,
    group_slices,
    is_dicom,
    read_dicom,
    stacked_slices,
)

HU = RANDOM.integers(-1000, 2000, (6, 5, 4))
GREY = RANDOM.integers(0, 4096, (5, 4)).astype(np.uint16)
OBLIQUE = slice_affine((0.8, 0.7, 2.5), (20, -35, 50))
LOCALIZER = ["ORIGINAL", "PRIMARY", "LOCALIZER"]


class TestIsDicom:
    @pytest.mark.parametrize("name", ["a.dcm", "a.DCM", "a.dicom", "a.IMA"])
    def test_knows_the_suffix_whether_the_file_exists_or_not(self, name):
        assert is_dicom(f"missing/{name}")

    def test_knows_the_letters_in_a_file_without_suffix(self, tmp_path):
        path = write_radiograph(tmp_path / "IM0001", GREY)
        assert is_dicom(path)
        path.write_bytes(b"DICM")
        assert not is_dicom(path)
        assert not is_dicom(tmp_path / "missing")

    def test_a_folder_is_no_file(self, tmp_path):
        (tmp_path / "ct.dcm").mkdir()
        assert not is_dicom(tmp_path / "ct.dcm")


class TestDicomFiles:
    def test_passes_others_over(self, tmp_path):
        paths = write_series(tmp_path, HU)
        write_radiograph(tmp_path / "DICOMDIR", GREY)
        write_radiograph(tmp_path / "._IM0001.dcm", GREY)
        write_series(tmp_path / "sub", HU)
        (tmp_path / "notes.txt").write_text("notes")
        assert dicom_files(tmp_path) == sorted(paths)

    def test_says_what_a_folder_without_any_holds(self, tmp_path):
        with pytest.raises(ValueError, match=r"no DICOM files. It holds nothing. Pass a folder"):
            dicom_files(tmp_path)
        (tmp_path / "notes.txt").write_text("notes")
        (tmp_path / "empty").mkdir()
        with pytest.raises(ValueError, match=r"It holds empty/, notes.txt. Pass a folder"):
            dicom_files(tmp_path)
        write_series(tmp_path / "thorax", HU[:1])
        with pytest.raises(ValueError, match=r"There are some in its folder thorax: pass that"):
            dicom_files(tmp_path)
        with pytest.raises(FileNotFoundError, match="missing"):
            dicom_files(tmp_path / "missing")


class TestVolume:
    @pytest.mark.parametrize("signed", [True, False])
    def test_lies_where_the_series_lies(self, tmp_path, signed):
        paths = write_series(tmp_path, HU, OBLIQUE, signed=signed)
        assert paths != sorted(paths)
        for source in (tmp_path, str(tmp_path), paths[::-1], [str(path) for path in sorted(paths)]):
            volume = read_dicom(source)
            assert isinstance(volume, DicomVolume)
            assert volume.modality == "CT"
            assert volume.voxels.dtype == np.float32
            assert volume.affine.dtype == np.float64
            np.testing.assert_array_equal(volume.voxels, HU.transpose())
            np.testing.assert_allclose(volume.affine, OBLIQUE, atol=1e-9)
            assert volume.voxels.transpose().flags.c_contiguous
        assert read_dicom(tmp_path).name == str(tmp_path)
        assert read_dicom(paths).name.startswith(f"{paths[0]}, {paths[1].name}, ")

    def test_a_bright_voxel_is_where_its_file_says(self, tmp_path):
        """In mm, from ImagePositionPatient and the directions of the file that holds it."""
        hu = np.full_like(HU, -1000)
        hu[4, 3, 1] = 1500
        seen = []

        def note(dataset, index):
            if index == 4:
                turn = np.array(dataset.ImageOrientationPatient, dtype=float).reshape(2, 3)
                rows, columns = (float(length) for length in dataset.PixelSpacing)
                position = np.array(dataset.ImagePositionPatient, dtype=float)
                seen.append(position + 1 * columns * turn[0] + 3 * rows * turn[1])

        write_series(tmp_path, hu, OBLIQUE, change=note)
        volume = read_dicom(tmp_path)
        image = nibabel.Nifti1Image(volume.voxels, volume.affine)
        brightest = np.unravel_index(np.argmax(image.get_fdata()), image.shape)
        world = nibabel.affines.apply_affine(image.affine, brightest)
        left, posterior, superior = seen[0]
        np.testing.assert_allclose(world, [-left, -posterior, superior], atol=1e-9)

    @given(
        angles=st.tuples(*[st.floats(-180, 180)] * 3),
        spacing=st.tuples(*[st.floats(0.1, 8)] * 3),
        shape=st.tuples(st.integers(2, 5), st.integers(1, 5), st.integers(1, 5)),
        seed=st.integers(0, 99),
    )
    @settings(
        deadline=None,
        max_examples=12,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    def test_any_orientation_spacing_and_shape(self, tmp_path, angles, spacing, shape, seed):
        hu = np.random.default_rng(seed).integers(-1024, 3000, shape)
        affine = slice_affine(spacing, angles)
        volume = read_dicom(write_series(tmp_path, hu, affine, seed=seed))
        np.testing.assert_array_equal(volume.voxels, hu.transpose())
        np.testing.assert_allclose(volume.affine, affine, atol=1e-8)

    def test_each_slice_has_a_slope_of_its_own(self, tmp_path):
        slopes = [0.5, 1, 2, 0.25, 1, 4]
        hu = RANDOM.integers(0, 100, HU.shape) * 8 - 1024
        write_series(tmp_path, hu, slopes=slopes)
        np.testing.assert_array_equal(read_dicom(tmp_path).voxels, hu.transpose())

    def test_monochrome1_says_nothing_of_hounsfield_units(self, tmp_path):
        write_series(tmp_path, HU, PhotometricInterpretation="MONOCHROME1")
        np.testing.assert_array_equal(read_dicom(tmp_path).voxels, HU.transpose())

    def test_an_enhanced_file_is_a_series(self, tmp_path):
        order = [3, 0, 5, 1, 4, 2]
        path = write_enhanced(tmp_path / "ct.dcm", HU, OBLIQUE, order=order)
        volume = read_dicom(path)
        np.testing.assert_array_equal(volume.voxels, HU.transpose())
        np.testing.assert_allclose(volume.affine, OBLIQUE, atol=1e-9)
        with pytest.raises(ValueError, match=r"missing slices: 1 between ct.dcm frame 1 at"):
            read_dicom(write_enhanced(path, HU[:5], OBLIQUE, change=_without_second_frame))

    def test_other_modalities_keep_their_values(self, tmp_path):
        write_series(
            tmp_path,
            HU,
            Modality="MR",
            SOPClassUID="1.2.840.10008.5.1.4.1.1.4",
            RescaleType=None,
        )
        volume = read_dicom(tmp_path)
        assert volume.modality == "MR"
        np.testing.assert_array_equal(volume.voxels, HU.transpose())

    def test_odd_values_do_not_flood_the_user_with_warnings(self, tmp_path):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            write_series(tmp_path, HU, SeriesInstanceUID="1.2.odd")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            read_dicom(tmp_path)
            group_slices(dicom_files(tmp_path))


def _without_second_frame(dataset):
    rows = dataset.Rows * dataset.Columns * 2
    dataset.PixelData = dataset.PixelData[:rows] + dataset.PixelData[2 * rows :]
    del dataset.PerFrameFunctionalGroupsSequence[1]
    dataset.NumberOfFrames = dataset.NumberOfFrames - 1


class TestRefusals:
    """What no volume can be made of without a guess. Geometry: see test_dicom_geometry_mit.py."""

    def test_an_empty_list(self):
        with pytest.raises(ValueError, match="empty list"):
            read_dicom([])

    def test_mixed_series(self, tmp_path):
        write_series(tmp_path, HU, SeriesDescription="Lung 1.0", SeriesInstanceUID="1.2.3")
        other = write_series(tmp_path / "b", HU[:2], SeriesDescription="Bone")
        for path in other:
            path.rename(tmp_path / f"other{path.name}")
        with pytest.raises(
            ValueError,
            match=r"mixes 2 series: ...1.2.3 'Lung 1.0' \(CT, files: 6, .*; "
            r"...\d{12} 'Bone' \(CT, files: 2, other.*Pass the files of one as a list",
        ):
            read_dicom(tmp_path)

    def test_missing_slices(self, tmp_path):
        paths = write_series(tmp_path, np.concatenate([HU, HU]))
        with pytest.raises(
            ValueError,
            match=rf"has missing slices: 2 between {paths[1].name} at .* and {paths[4].name} at",
        ):
            read_dicom(paths[:2] + paths[4:])

    def test_the_same_slice_twice(self, tmp_path):
        paths = write_series(tmp_path, HU)
        name = paths[2].name
        with pytest.raises(ValueError, match=rf"same position: {name} and {name}"):
            read_dicom([*paths, paths[2]])

    def test_gantry_tilt(self, tmp_path):
        tilted = slice_affine()
        tilted[1, 2] = 0.5
        write_series(tmp_path, HU, tilted)
        with pytest.raises(ValueError, match=r"tilted gantry.* 11.3 degrees"):
            read_dicom(tmp_path)

    def test_slices_of_differing_size(self, tmp_path):
        write_series(tmp_path, HU, change=_crop_third)
        with pytest.raises(ValueError, match=r"differing size \(Rows, Columns\)"):
            read_dicom(tmp_path)

    @pytest.mark.parametrize("keyword", ["ImagePositionPatient", "ImageOrientationPatient"])
    def test_slices_without_a_place(self, tmp_path, keyword):
        paths = write_series(
            tmp_path, HU, change=lambda dataset, index: index == 3 and dataset.pop(keyword)
        )
        with pytest.raises(ValueError, match=rf"has 1 of 6 frames without .*{paths[3].name}"):
            read_dicom(tmp_path)

    def test_radiographs_in_one_folder(self, tmp_path):
        for index in range(2):
            write_radiograph(tmp_path / f"{index}.dcm", GREY, SeriesInstanceUID="1.2")
        with pytest.raises(ValueError, match=r"0.dcm, 1.dcm. .* pass each file by itself"):
            read_dicom(tmp_path)

    def test_slices_without_pixel_spacing(self, tmp_path):
        write_series(tmp_path, HU, PixelSpacing=None, ImagerPixelSpacing=[0.7, 0.7])
        with pytest.raises(ValueError, match=r"without PixelSpacing: IM0000.dcm.* and 3 more"):
            read_dicom(tmp_path)

    def test_a_localizer(self, tmp_path):
        def localize(dataset, index):
            if index == 2:
                dataset.ImageType = LOCALIZER

        paths = write_series(tmp_path, HU, change=localize)
        with pytest.raises(ValueError, match=rf"a localizer among its slices: {paths[2].name}\."):
            read_dicom(tmp_path)

    def test_secondary_captures_of_a_ct(self, tmp_path):
        write_series(tmp_path, HU, SOPClassUID=SecondaryCapture)
        with pytest.raises(
            ValueError, match=r"has modality CT, but IM0000.dcm.* not CT Image Stor"
        ):
            read_dicom(tmp_path)

    def test_a_loop_of_frames(self, tmp_path):
        path = write_enhanced(
            tmp_path / "loop.dcm",
            HU,
            PerFrameFunctionalGroupsSequence=None,
            ImagePositionPatient=[0, 0, 0],
        )
        with pytest.raises(ValueError, match=r"loop.dcm has 6 of 6 frames without .* one frame as"):
            read_dicom(path)

    def test_one_damaged_slice_is_named(self, tmp_path):
        paths = write_series(tmp_path, HU)
        paths[3].write_bytes(paths[3].read_bytes()[:-7])
        with pytest.raises(OSError, match=rf"{paths[3].name} is not a complete DICOM image"):
            read_dicom(tmp_path)


def _crop_third(dataset, index):
    if index == 2:
        dataset.Rows -= 1
        dataset.PixelData = dataset.PixelData[: dataset.Rows * dataset.Columns * 2]


class TestImage:
    def test_a_slice_of_a_ct_is_in_hounsfield_units(self, tmp_path):
        paths = write_series(tmp_path, HU[:1], PhotometricInterpretation="MONOCHROME1")
        for source in (paths[0], tmp_path, paths):
            image = read_dicom(source)
            assert isinstance(image, DicomImage)
            assert image.is_hounsfield
            assert image.modality == "CT"
            assert image.name == str(paths[0])
            assert image.spacing == (0.7, 0.8)
            np.testing.assert_array_equal(image.pixels, HU[0])

    def test_so_is_the_only_frame_of_an_enhanced_file(self, tmp_path):
        image = read_dicom(write_enhanced(tmp_path / "ct.dcm", HU[:1]))
        assert image.is_hounsfield
        np.testing.assert_array_equal(image.pixels, HU[0])

    def test_a_localizer_is_a_radiograph(self, tmp_path):
        path = write_series(tmp_path, HU[:1], ImageType=LOCALIZER)[0]
        image = read_dicom(path, grey_window=(0, 4000))
        assert not image.is_hounsfield
        np.testing.assert_allclose(image.pixels, HU[0] / 4000 + 0.5, atol=1e-6)

    def test_a_radiograph_is_grey(self, tmp_path):
        path = write_radiograph(tmp_path / "chest.dcm", GREY)
        image = read_dicom(path)
        assert not image.is_hounsfield
        assert image.modality == "DX"
        assert image.pixels.dtype == np.float32
        np.testing.assert_allclose(image.pixels, GREY / 4095, atol=1e-6)

    def test_spacing_in_the_patient_comes_before_that_at_the_detector(self, tmp_path):
        path = tmp_path / "chest.dcm"
        write_radiograph(path, GREY)
        assert read_dicom(path).spacing == (0.2, 0.2)
        write_radiograph(path, GREY, PixelSpacing=[0.15, 0.16])
        assert read_dicom(path).spacing == (0.15, 0.16)
        write_radiograph(path, GREY, ImagerPixelSpacing=None)
        assert read_dicom(path).spacing is None
        write_radiograph(path, GREY, PixelSpacing=[0.15, 0])
        with pytest.raises(ValueError, match=r"chest.dcm has a pixel spacing of \[0.15, 0.0\]"):
            read_dicom(path)


class TestDicomDimension:
    def test_of_files_lists_and_folders(self, tmp_path):
        radiograph = write_radiograph(tmp_path / "chest.dcm", GREY)
        slices = write_series(tmp_path / "ct", HU)
        enhanced = write_enhanced(tmp_path / "enhanced.dcm", HU)
        for source in (radiograph, [radiograph], slices[0], slices[:1]):
            assert dicom_dimension(source) == 2
        for source in (slices, tmp_path / "ct", enhanced, [enhanced]):
            assert dicom_dimension(source) == 3


class TestGroupSlices:
    def test_slices_of_a_series_are_one_input(self, tmp_path):
        slices = write_series(tmp_path / "ct", HU)
        radiographs = [write_radiograph(tmp_path / f"{i}.dcm", GREY) for i in range(2)]
        single = write_series(tmp_path / "single", HU[:1])[0]
        enhanced = write_enhanced(tmp_path / "enhanced.dcm", HU)
        mixed = [radiographs[0], single, *slices[:2], enhanced, *slices[2:], radiographs[1]]
        assert group_slices([str(path) for path in mixed]) == [
            radiographs[0],
            single,
            slices,
            enhanced,
            radiographs[1],
        ]
        assert group_slices(slices) == [slices]
        assert group_slices([]) == []

    def test_radiographs_stay_apart_even_of_one_series(self, tmp_path):
        uid = generate_uid()
        paths = [
            write_radiograph(tmp_path / f"{i}.dcm", GREY, SeriesInstanceUID=uid) for i in range(3)
        ]
        assert group_slices(paths) == paths

    def test_multi_frame_files_stay_apart_even_of_one_series(self, tmp_path):
        paths = [
            write_enhanced(tmp_path / f"{i}.dcm", HU, SeriesInstanceUID="1.2") for i in range(2)
        ]
        assert group_slices(paths) == paths

    def test_localizers_are_radiographs_unless_they_are_among_slices(self, tmp_path):
        localizers = write_series(tmp_path / "scout", HU[:2], ImageType=LOCALIZER)
        slices = write_series(tmp_path / "ct", HU)
        assert group_slices([*localizers, *slices]) == [*localizers, slices]

        def localize(dataset, index):
            if index == 0:
                dataset.ImageType = LOCALIZER

        among = write_series(tmp_path / "among", HU, change=localize)
        assert group_slices(among) == [among]

    def test_two_series_are_a_guess(self, tmp_path):
        paths = write_series(tmp_path / "a", HU, SeriesDescription="Lung")
        paths += write_series(tmp_path / "b", HU[:2], SeriesDescription="Bone")
        with pytest.raises(
            ValueError, match=r"2 series: .*'Lung'.* 6.*'Bone'.* 2.* list of its own"
        ):
            group_slices(paths)

    def test_names_what_is_no_dicom(self, tmp_path):
        (tmp_path / "a.dcm").write_bytes(b"text")
        with pytest.raises(OSError, match=r"a.dcm is not a DICOM file"):
            group_slices([tmp_path / "a.dcm"])


class TestStackedSlices:
    def test_tell_the_order_and_place_of_what_is_read(self, tmp_path):
        affine = slice_affine(angles=(10, 0, 5))
        paths = write_series(tmp_path, RANDOM.integers(-900, 900, (5, 4, 3)), affine)
        files, found = stacked_slices(tmp_path)
        assert files == paths
        np.testing.assert_array_equal(found, read_dicom(tmp_path).affine)

    def test_need_no_pixels(self, tmp_path):
        def without_pixels(dataset, index):
            del dataset.PixelData

        paths = write_series(tmp_path, np.zeros((3, 4, 5)), change=without_pixels)
        assert stacked_slices(paths[::-1])[0] == paths

    def test_are_several_of_one_series(self, tmp_path):
        first = write_series(tmp_path / "a", np.zeros((2, 4, 5)))
        second = write_series(tmp_path / "b", np.zeros((2, 4, 5)))
        with pytest.raises(ValueError, match="mixes 2 series"):
            stacked_slices([*first, *second])
        with pytest.raises(ValueError, match=r"IM\d+.dcm is one slice; wanted a series"):
            stacked_slices(first[0])
