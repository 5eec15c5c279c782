"""What is stored is what the reader reads: rounded, shrunk where asked, never clipped."""

import io
from dataclasses import replace

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from dicom_files import write_radiograph, write_series
from image_files import nifti, saved
from unimiss_hf.data.layouts.item import License, SourceItem
from unimiss_hf.data.prepared import RADIOGRAPH_FEATURES, VOLUME_FEATURES, PreparedVolume
from unimiss_hf.data.preparing.conversion import convert, encode_png, rounded_hu
from unimiss_hf.data.preparing.planning import Sample
from unimiss_hf.image_reading_mit import read_radiograph, read_volume

RANDOM = np.random.default_rng(0)


def sample(*files, dimension="2d", **fields) -> Sample:
    item = SourceItem(files[0].name, dimension, tuple(files), patient="p1", **fields)
    return Sample(f"set/{item.name}", "set", "The Set", License("cc0-1.0", "CC0", ""), item)


def stored(row) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])))


class TestVolumes:
    def test_it_is_what_the_reader_gives_rounded(self, tmp_path, make_settings):
        affine = np.array([[0, -0.7, 0, 5], [0.8, 0, 0, 6], [0, 0, -2.0, 7], [0, 0, 0, 1]])
        voxels = RANDOM.integers(-1000, 1000, (20, 18, 9), dtype=np.int16)
        path = saved(nifti(voxels, affine), tmp_path / "a.nii.gz")
        row = convert(sample(path, dimension="3d"), make_settings())
        volume = PreparedVolume(row["volume"]["bytes"])
        assert np.array_equal(volume[:, :, :], np.rint(read_volume(path)))
        assert volume.spacing == (3, 1, 1)
        assert row["spacing"] == [3, 1, 1]
        assert row["original_shape"] == [9, 20, 18]
        assert row["original_spacing"] == pytest.approx([2.0, 0.8, 0.7])
        assert row.keys() == VOLUME_FEATURES.keys()
        named = ("name", "source", "source_name", "license", "patient")
        assert [row[key] for key in named] == [
            "set/a.nii.gz",
            "The Set",
            "a.nii.gz",
            "cc0-1.0",
            "p1",
        ]

    def test_terms_without_an_identifier_are_told_by_name(self, tmp_path, make_settings):
        path = saved(nifti(np.zeros((8, 6, 5), np.int16)), tmp_path / "a.nii")
        special = License("other", "Special Terms", "")
        row = convert(replace(sample(path, dimension="3d"), license=special), make_settings())
        assert row["license"] == "Special Terms"

    def test_the_true_spacing_replaces_the_header_s(self, tmp_path, make_settings):
        path = saved(nifti(np.zeros((8, 6, 5), np.int16)), tmp_path / "a.nii")
        row = convert(sample(path, dimension="3d", spacing=(6, 1, 2)), make_settings())
        assert PreparedVolume(row["volume"]["bytes"]).shape == (10, 6, 16)
        assert row["original_spacing"] == [6, 1, 2]

    def test_slices_are_one_volume(self, tmp_path, make_settings):
        hu = RANDOM.integers(-1000, 1000, (5, 6, 7))
        paths = write_series(tmp_path / "series", hu)
        row = convert(sample(*paths, dimension="3d"), make_settings(spacing=(2.5, 0.7, 0.8)))
        prepared = PreparedVolume(row["volume"]["bytes"])[:, :, :]
        assert np.array_equal(prepared, read_volume(paths, spacing=None))
        assert sorted(prepared.ravel()) == sorted(hu.ravel())

    @pytest.mark.parametrize(
        ("voxels", "message"),
        [
            (np.full((4, 4, 4), 40_000, np.float32), "40000, are beyond the -32768 to 32767 HU"),
            (np.full((4, 4, 4), np.nan, np.float32), "NaN"),
            (np.zeros((4, 4, 4, 2), np.int16), "not one volume"),
        ],
    )
    def test_what_is_no_ct_is_refused(self, tmp_path, make_settings, voxels, message):
        path = saved(nifti(voxels), tmp_path / "a.nii")
        with pytest.raises(ValueError, match=message):
            convert(sample(path, dimension="3d"), make_settings())

    def test_an_array_needs_a_spacing(self, tmp_path, make_settings):
        np.save(tmp_path / "a.npy", np.zeros((5, 6, 7)))
        with pytest.raises(ValueError, match="source_spacing"):
            convert(sample(tmp_path / "a.npy", dimension="3d"), make_settings())
        given = sample(tmp_path / "a.npy", dimension="3d", spacing=(3, 1, 1))
        assert convert(given, make_settings())["original_shape"] == [5, 6, 7]

    @given(arrays(np.float32, (2, 3), elements=st.floats(-40_000, 40_000, width=32)))
    def test_values_are_rounded_or_refused(self, voxels):
        wanted = np.rint(voxels.astype(np.float64))
        if wanted.min() < -32_768 or wanted.max() > 32_767:
            with pytest.raises(ValueError, match="beyond"):
                rounded_hu(voxels)
        else:
            assert np.array_equal(rounded_hu(voxels), wanted)


class TestRadiographs:
    @pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "jpg"])
    def test_8_bits_are_kept_bit_by_bit(self, tmp_path, make_settings, suffix):
        path = tmp_path / f"a.{suffix}"
        Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(path)
        row = convert(sample(path), make_settings())
        assert stored(row).dtype == np.uint8
        assert np.array_equal(stored(row), np.asarray(Image.open(path)))
        assert row["original_shape"] == [16, 16]
        assert row["original_spacing"] == []
        assert row.keys() == RADIOGRAPH_FEATURES.keys()

    def test_16_bits_are_kept_bit_by_bit(self, tmp_path, make_settings):
        pixels = np.arange(65_536, dtype=np.uint16).reshape(256, 256)
        Image.fromarray(pixels).save(tmp_path / "a.png")
        levels = stored(convert(sample(tmp_path / "a.png"), make_settings()))
        assert levels.dtype == np.uint16
        assert np.array_equal(levels, pixels)

    def test_colours_become_luminance_of_8_bits(self, tmp_path, make_settings):
        Image.fromarray(RANDOM.integers(0, 256, (9, 8, 3), np.uint8)).save(tmp_path / "a.png")
        levels = stored(convert(sample(tmp_path / "a.png"), make_settings()))
        assert levels.dtype == np.uint8
        assert np.array_equal(levels, np.rint(read_radiograph(tmp_path / "a.png")[0] * 255))

    def test_a_dicom_radiograph_keeps_its_depth_and_spacing(self, tmp_path, make_settings):
        pixels = RANDOM.integers(0, 4096, (9, 8)).astype(np.uint16)
        path = write_radiograph(tmp_path / "a.dcm", pixels, bits=12)
        row = convert(sample(path), make_settings())
        assert np.array_equal(stored(row), np.rint(read_radiograph(path)[0] * 65_535))
        assert row["original_spacing"] == [0.2, 0.2]
        assert len(np.unique(stored(row))) == len(np.unique(pixels))

    @pytest.mark.parametrize(
        ("shape", "side", "wanted"),
        [
            ((40, 30), 20, (20, 15)),
            ((40, 30), 40, (40, 30)),
            ((40, 30), 0, (40, 30)),
            ((2, 300), 20, (1, 20)),
        ],
    )
    def test_the_longer_side_is_bounded(self, tmp_path, make_settings, shape, side, wanted):
        Image.fromarray(np.full(shape, 77, np.uint8)).save(tmp_path / "a.png")
        row = convert(sample(tmp_path / "a.png"), make_settings(max_image_side=side))
        assert np.array_equal(stored(row), np.full(wanted, 77, np.uint8))
        assert row["original_shape"] == list(shape)

    def test_what_is_thinned_out_is_averaged(self, tmp_path, make_settings):
        stripes = np.zeros((64, 64), np.uint8)
        stripes[::2] = 200
        Image.fromarray(stripes).save(tmp_path / "a.png")
        levels = stored(convert(sample(tmp_path / "a.png"), make_settings(max_image_side=16)))
        assert np.abs(levels[1:-1].astype(int) - 100).max() <= 1

    def test_a_slice_of_a_ct_is_refused(self, tmp_path, make_settings):
        (path,) = write_series(tmp_path / "one", np.zeros((1, 5, 6), int))
        with pytest.raises(ValueError, match="neither a volume nor a radiograph"):
            convert(sample(path), make_settings())

    def test_a_volume_file_of_one_slice_is_a_radiograph(self, tmp_path, make_settings):
        image = nibabel.Nifti1Image(np.arange(30, dtype=np.uint8).reshape(6, 5, 1), np.eye(4))
        path = saved(image, tmp_path / "a.nii")
        row = convert(sample(path), make_settings())
        assert np.array_equal(stored(row), np.rint(read_radiograph(path)[0] * 255))

    @given(arrays(np.uint16, (3, 4)))
    def test_every_grey_level_comes_back(self, levels):
        content = encode_png(levels.astype(np.float32) / np.float32(65_535), deep=True)
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(content))), levels)
