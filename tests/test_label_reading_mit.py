import numpy as np
import pytest
from PIL import Image

from image_files import RANDOM, grid, nifti, saved
from unimiss_hf import MiTImageProcessor

AFFINE = np.diag([-1.0, 1.0, 2.0, 1.0])


class TestVolumes:
    @pytest.fixture
    def image(self, tmp_path):
        return saved(nifti(grid(6, 5, 4), AFFINE), tmp_path / "ct.nii.gz")

    def labels(self, image, maps, **settings):
        processor = MiTImageProcessor(spacing=None)
        return processor(image, segmentation_maps=maps, return_tensors="np", **settings)["labels"]

    def test_turn_as_the_image_does(self, image):
        voxels = np.arange(120).reshape(6, 5, 4).astype(np.int16)
        labels = self.labels(image, nifti(voxels, AFFINE))
        assert labels.dtype == np.int64
        np.testing.assert_array_equal(labels[0], voxels[::-1].T)

    def test_are_resampled_to_the_nearest_and_padded_with_background(self, image):
        voxels = np.arange(120).reshape(6, 5, 4).astype(np.int16) + 1
        size = {"depth": 10, "height": 10, "width": 12}
        labels = self.labels(image, nifti(voxels, AFFINE), spacing=(1, 0.5, 0.5), volume_size=size)[
            0
        ]
        assert labels.shape == (10, 10, 12)
        np.testing.assert_array_equal(labels[[0, -1]], 0)
        np.testing.assert_array_equal(labels[1:-1:2, ::2, ::2], voxels[::-1].T)
        np.testing.assert_array_equal(labels[2:-1:2, 1::2, 1::2], voxels[::-1].T)

    def test_floats_that_are_integers_are_labels(self, image):
        voxels = np.ones((6, 5, 4), dtype=np.float32) * 3
        assert (self.labels(image, nifti(voxels, AFFINE)) == 3).all()

    @pytest.mark.parametrize(
        ("voxels", "affine", "message"),
        [
            (grid(6, 5, 3) * 0, AFFINE, r"shape \(6, 5, 3\) and .*ct.nii.gz has \(6, 5, 4\)"),
            (grid(6, 5, 4) * 0, AFFINE * [1, 1, 1.2, 1], "corner 0.60 voxels apart"),
            (grid(6, 5, 4) * 0, AFFINE * [-1, 1, 1, 1], "do not lie|corner 10.00 voxels"),
            (grid(6, 5, 4) * 0 - 1, AFFINE, "from -1 to -1"),
            (np.full((6, 5, 4), 0.5), AFFINE, "no integers"),
            (np.full((6, 5, 4), np.nan), AFFINE, "120 NaN"),
        ],
    )
    def test_refuses_what_is_no_label_map_of_the_image(self, image, voxels, affine, message):
        with pytest.raises(ValueError, match=message):
            self.labels(image, nifti(voxels, affine))

    def test_refuses_an_array_for_a_file(self, image):
        with pytest.raises(ValueError, match="no place in the world"):
            self.labels(image, np.zeros((4, 5, 6), dtype=np.int64))

    def test_arrays(self):
        volume = grid(6, 5, 8)
        labels = self.labels(volume, (volume > 0).astype(np.uint8))
        np.testing.assert_array_equal(labels[0], volume > 0)
        with pytest.raises(ValueError, match=r"shape \(6, 5, 3\) for .*\(6, 5, 8\)"):
            self.labels(volume, np.zeros((6, 5, 3), dtype=int))
        with pytest.raises(ValueError, match="world"):
            self.labels(volume, nifti(volume))

    def test_one_each(self):
        volume = grid(6, 5, 8)
        with pytest.raises(ValueError, match="got 2 label maps for 1 inputs"):
            self.labels(volume, [volume, volume])


class TestRadiographs:
    def labels(self, image, maps, **settings):
        processor = MiTImageProcessor(image_size=None)
        return processor(image, segmentation_maps=maps, return_tensors="np", **settings)["labels"]

    @pytest.mark.parametrize("mode", ["L", "P", "I;16", "1"])
    def test_palettes_and_grey_values_are_labels(self, tmp_path, mode):
        film = RANDOM.integers(0, 255, (8, 9), dtype=np.uint8)
        values = RANDOM.integers(0, 2 if mode == "1" else 5, (8, 9)).astype(np.uint8)
        maps = Image.fromarray(values * (255 if mode == "1" else 1))
        if mode == "P":
            maps.putpalette(range(30, 60))
        elif mode == "I;16":
            maps = Image.fromarray(values.astype(np.uint16))
        elif mode == "1":
            maps = maps.convert("1")
        assert maps.mode == mode
        maps.save(tmp_path / "labels.png")
        for source in (maps, tmp_path / "labels.png"):
            labels = self.labels(Image.fromarray(film), source)
            np.testing.assert_array_equal(labels[0], values)

    def test_are_resized_to_the_nearest(self):
        values = np.arange(6).reshape(2, 3)
        size = {"height": 4, "width": 6}
        labels = self.labels(np.zeros((2, 3)), values, image_size=size)
        np.testing.assert_array_equal(labels[0], values.repeat(2, 0).repeat(2, 1))

    def test_refuses_colours_and_other_sizes(self):
        film = Image.new("L", (9, 8))
        with pytest.raises(ValueError, match="mode RGB; a label map has one value a pixel"):
            self.labels(film, Image.new("RGB", (9, 8)))
        with pytest.raises(ValueError, match=r"shape \(9, 8\) for .*\(8, 9\)"):
            self.labels(film, Image.new("L", (8, 9)))
        with pytest.raises(TypeError, match="Labels are"):
            self.labels(film, b"labels")

    def test_warns_of_a_mask_of_black_and_white(self):
        film = Image.new("L", (9, 8))
        mask = np.zeros((8, 9), dtype=np.uint8)
        mask[2:5] = 255
        with pytest.warns(UserWarning, match=r"labels 0 and 255 alone.*divide it by 255"):
            self.labels(film, Image.fromarray(mask))
