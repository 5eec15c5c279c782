import gzip
import struct
import warnings

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from PIL import Image

from image_files import RANDOM, grid, nifti, saved, tiff
from oriented_grids import ANGLES, CODES, LENGTHS, SPACINGS, stored_affine
from unimiss_hf.image_reading_mit import (
    read_radiograph,
    read_volume,
    reverse_axes,
)


class TestReverseAxes:
    def test_is_its_own_inverse_and_puts_z_first(self):
        volume = grid(2, 3, 4)
        assert reverse_axes(volume).shape == (4, 3, 2)
        assert reverse_axes(volume)[3, 2, 1] == volume[1, 2, 3]
        np.testing.assert_array_equal(reverse_axes(reverse_axes(volume)), volume)
        np.testing.assert_array_equal(reverse_axes(np.array([1, 2, 3])), [3, 2, 1])

    @pytest.mark.parametrize("shape", [(4,), (2, 3), (1, 2, 3, 4)])
    def test_refuses_other_numbers_of_axes(self, shape):
        with pytest.raises(ValueError, match="3 axes"):
            reverse_axes(np.zeros(shape))


class TestReadRadiograph:
    @pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "jpg"])
    def test_8_bit_grey(self, tmp_path, suffix):
        grey = np.full((16, 24), 51, dtype=np.uint8)
        Image.fromarray(grey).save(tmp_path / f"chest.{suffix}", quality=100)
        pixels = read_radiograph(tmp_path / f"chest.{suffix}")
        assert pixels.shape == (1, 16, 24)
        assert pixels.dtype == np.float32
        np.testing.assert_allclose(pixels, 0.2, atol=1e-6)

    @pytest.mark.parametrize("suffix", ["png", "tif"])
    def test_16_bit_grey(self, tmp_path, suffix):
        grey = np.array([[0, 13107, 65535]], dtype=np.uint16)
        Image.fromarray(grey).save(tmp_path / f"chest.{suffix}")
        np.testing.assert_allclose(
            read_radiograph(str(tmp_path / f"chest.{suffix}"))[0, 0], [0, 0.2, 1]
        )

    def test_32_bit_integers_are_taken_for_16_bits_where_they_fit(self):
        fits = Image.fromarray(np.array([[0, 65535]], dtype=np.int32))
        assert fits.mode == "I"
        np.testing.assert_array_equal(read_radiograph(fits)[0], [[0, 1]])
        with pytest.raises(ValueError, match=r"65536.*uint16"):
            read_radiograph(Image.fromarray(np.array([[0, 65536]], dtype=np.int32)))

    def test_float_tiff(self, tmp_path):
        path = tmp_path / "chest.tif"
        Image.fromarray(np.array([[0.0, 0.25, 1.0]], dtype=np.float32)).save(path)
        np.testing.assert_allclose(read_radiograph(path)[0], [[0, 0.25, 1]])

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ([0, 1.5], r"chest.tif .*1\.5.*\[0, 1\]"),
            ([-0.5, 1], r"\[0, 1\]"),
            ([0, np.nan], "1 NaN"),
        ],
    )
    def test_refuses_floats_of_unknown_scale(self, tmp_path, values, message):
        path = tmp_path / "chest.tif"
        Image.fromarray(np.array([values], dtype=np.float32)).save(path)
        with pytest.raises(ValueError, match=message):
            read_radiograph(path)

    @pytest.mark.parametrize(
        ("mode", "colour", "grey"),
        [
            ("RGB", (255, 0, 0), 0.299),
            ("RGB", (51, 51, 51), 0.2),
            ("RGBA", (255, 255, 255, 51), 0.2),
            ("LA", (255, 0), 0),
            ("CMYK", (0, 0, 0, 0), 1),
            ("1", 1, 1),
        ],
    )
    def test_colours_become_luminance_on_black(self, mode, colour, grey):
        image = Image.new(mode, (3, 2), colour)
        np.testing.assert_allclose(read_radiograph(image), np.full((1, 2, 3), grey), atol=1e-6)

    def test_palette_colours(self, tmp_path):
        image = Image.new("P", (2, 1))
        image.putpalette([255, 255, 255, 0, 255, 0])
        image.putdata([0, 1])
        image.save(tmp_path / "chest.png")
        np.testing.assert_allclose(
            read_radiograph(tmp_path / "chest.png")[0], [[1, 0.587]], atol=1e-6
        )

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_white_as_zero_is_inverted(self, tmp_path, dtype):
        largest = np.iinfo(dtype).max
        grey = np.array([[0, largest, largest // 5, 0]], dtype=dtype)
        for photometric, wanted in ((1, [0, 1, 0.2, 0]), (0, [1, 0, 0.8, 1])):
            path = tmp_path / f"film{photometric}.tif"
            path.write_bytes(tiff(grey, photometric))
            np.testing.assert_allclose(read_radiograph(path)[0, 0], wanted, atol=1e-6)

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_exif_orientation_is_applied(self, tmp_path, dtype):
        exif = Image.Exif()
        exif[0x0112] = 6  # The camera lay on its right side.
        grey = np.zeros((4, 6), dtype=dtype)
        grey[0, 0] = np.iinfo(dtype).max
        Image.fromarray(grey).save(tmp_path / "chest.png", exif=exif)
        pixels = read_radiograph(tmp_path / "chest.png")
        assert pixels.shape == (1, 6, 4)
        assert pixels[0, 0, 3] == 1
        assert pixels.sum() == 1

    def test_refuses_several_frames(self, tmp_path):
        frames = [Image.new("L", (4, 4), value) for value in (1, 2, 3)]
        frames[0].save(tmp_path / "chest.tif", save_all=True, append_images=frames[1:])
        with pytest.raises(ValueError, match=r"chest.tif holds 3 frames"):
            read_radiograph(tmp_path / "chest.tif")

    def test_names_a_file_that_is_no_image(self, tmp_path):
        path = tmp_path / "chest.png"
        for content in (b"", b"not an image"):
            path.write_bytes(content)
            with pytest.raises(OSError, match=r"chest.png is not an image"):
                read_radiograph(path)
        with pytest.raises(FileNotFoundError, match=r"missing.png"):
            read_radiograph(tmp_path / "missing.png")

    @pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "jpg"])
    def test_names_a_truncated_file(self, tmp_path, suffix):
        path = tmp_path / f"chest.{suffix}"
        Image.fromarray(RANDOM.integers(0, 255, (64, 64), dtype=np.uint8)).save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(OSError, match=rf"chest.{suffix} is not a"):
            read_radiograph(path)

    def test_refuses_empty_images_and_other_types(self):
        with pytest.raises(ValueError, match="empty"):
            read_radiograph(Image.new("L", (0, 4)))
        with pytest.raises(TypeError, match="bytes"):
            read_radiograph(b"")


class TestReadVolume:
    @pytest.mark.parametrize("name", ["ct.nii", "ct.nii.gz", "ct.mgz"])
    def test_reads_hounsfield_units_on_the_native_grid(self, tmp_path, name):
        voxels = grid()
        image = (
            nifti(voxels) if "nii" in name else nibabel.MGHImage(voxels, np.diag([1.5, 2, 3, 1]))
        )
        volume = read_volume(saved(image, tmp_path / name), spacing=None)
        assert volume.dtype == np.float32
        np.testing.assert_array_equal(volume, voxels.T)

    @pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float64])
    def test_applies_slope_and_intercept(self, tmp_path, dtype):
        stored = RANDOM.integers(0, 200, (5, 4, 3)).astype(dtype)
        image = nifti(stored)
        image.header.set_slope_inter(2.5, -1024)
        path = saved(image, tmp_path / "ct.nii.gz")
        assert nibabel.load(path).dataobj.inter == -1024
        np.testing.assert_array_equal(read_volume(path, None), stored.T * 2.5 - 1024)

    @pytest.mark.parametrize("codes", ["RAS", "LAS", "LPS", "PLI", "SAR", "AIL"])
    def test_reorients_like_nibabel(self, tmp_path, codes):
        voxels = grid()
        spacing = np.array([1.0, 2.0, 3.0])
        canonical = nifti(voxels, spacing)
        ornt = nibabel.orientations.axcodes2ornt(codes)
        stored = canonical.as_reoriented(
            nibabel.orientations.ornt_transform(nibabel.io_orientation(canonical.affine), ornt)
        )
        assert "".join(nibabel.aff2axcodes(stored.affine)) == codes
        path = saved(stored, tmp_path / "ct.nii.gz")
        np.testing.assert_array_equal(read_volume(path, None), voxels.T)
        # The spacing follows its axes: nothing to resample.
        np.testing.assert_array_equal(read_volume(path, (3, 2, 1)), voxels.T)

    @settings(deadline=None, max_examples=40)
    @given(shape=LENGTHS, codes=CODES, spacing=SPACINGS, angles=ANGLES)
    def test_any_orientation_reads_like_the_canonical_one(self, shape, codes, spacing, angles):
        image = nifti(grid(*shape), stored_affine(codes, spacing, angles))
        canonical = nibabel.as_closest_canonical(image)
        np.testing.assert_array_equal(read_volume(image, None), canonical.get_fdata().T)
        resampled = read_volume(image, (2, 1.5, 1))
        np.testing.assert_allclose(resampled, read_volume(canonical, (2, 1.5, 1)), atol=1e-2)
        extent = nibabel.affines.voxel_sizes(canonical.affine) * canonical.shape
        wanted = np.array([1, 1.5, 2])
        kept = np.array(resampled.shape[::-1]) * wanted
        # to half a voxel, or the one voxel that there is at least
        assert (np.abs(extent - kept) <= np.maximum(wanted / 2, wanted - extent) + 1e-3).all()

    def test_oblique_affine_gives_the_spacing_of_its_voxels(self):
        angle = np.deg2rad(20)
        turn = np.array(
            [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
        )
        affine = np.eye(4)
        affine[:3, :3] = turn @ np.diag([0.5, 2, 4])
        voxels = grid(8, 6, 4)
        np.testing.assert_array_equal(read_volume(nifti(voxels, affine), (4, 2, 0.5)), voxels.T)
        assert read_volume(nifti(voxels, affine), (2, 1, 1)).shape == (8, 12, 4)

    def test_resampling_keeps_the_extent(self):
        volume = nifti(grid(10, 9, 8), (0.7, 0.7, 2.5))
        assert read_volume(volume).shape == (round(8 * 2.5 / 3), round(9 * 0.7), 7)
        assert read_volume(volume, (100, 100, 100)).shape == (1, 1, 1)

    @pytest.mark.parametrize("spacing", [(3, 2, 1), (1.5, 1, 0.5), (6, 4, 2), (3, 1, 2)])
    def test_resampling_keeps_positions(self, spacing):
        """A value that is its own position in mm stays so, away from the edges."""
        x, y, z = np.meshgrid(
            *((np.arange(n) + 0.5) * mm for n, mm in ((24, 1), (20, 2), (16, 3))), indexing="ij"
        )
        volume = read_volume(nifti((100 * x + 10 * y + z).astype(np.float32), (1, 2, 3)), spacing)
        z, y, x = np.meshgrid(
            *((np.arange(n) + 0.5) * mm for n, mm in zip(volume.shape, spacing, strict=True)),
            indexing="ij",
        )
        inside = (slice(2, -2),) * 3
        np.testing.assert_allclose(volume[inside], (100 * x + 10 * y + z)[inside], rtol=1e-5)

    def test_resampling_averages_what_it_thins_out(self):
        noise = RANDOM.normal(0, 100, (60, 60, 12)).astype(np.float32)
        volume = read_volume(nifti(noise, (1, 1, 1)), (1, 1, 3))[:, :, 2:-2]
        assert volume.std() < 60
        stripes = np.zeros((60, 4, 4), dtype=np.float32)
        stripes[::3] = 300
        np.testing.assert_allclose(
            read_volume(nifti(stripes, (1, 1, 1)), (1, 1, 3))[..., 2:-2], 100, atol=35
        )

    def test_equal_spacing_within_a_thousandth_is_not_interpolated(self):
        voxels = grid(1200, 1200, 2)  # long enough for the tolerance to make a voxel's difference
        image = nifti(voxels, (1.0009, 0.9991, 3.0009))
        np.testing.assert_array_equal(read_volume(image), voxels.T)

    def test_source_spacing_replaces_the_header(self):
        image = nifti(grid(10, 8, 6), (1, 1, 1))
        assert read_volume(image, (3, 1, 1), source_spacing=(6, 0.5, 2)).shape == (12, 4, 20)

    def test_the_callers_array_is_left_alone(self, tmp_path):
        voxels = np.asfortranarray(grid(dtype=np.float32))
        image = nifti(voxels)
        before = voxels.copy()
        read_volume(image, None)[:] = 7
        read_volume(saved(image, tmp_path / "ct.nii"), None)[:] = 7
        np.testing.assert_array_equal(voxels, before)

    def test_one_trailing_axis_is_dropped(self):
        voxels = grid()
        np.testing.assert_array_equal(read_volume(nifti(voxels[..., None]), None), voxels.T)

    @pytest.mark.parametrize(
        ("shape", "lengths"),
        [
            ((6, 5, 4, 3), r"axis 4, t \(time\), has length 3 .*x 6, y 5, z 4"),
            ((6, 5), "x 6, y 5"),
            ((6, 5, 1), "x 6, y 5, z 1"),
            ((1, 5, 6), "x 1, y 5, z 6"),
            ((6, 5, 0), "x 6, y 5, z 0"),
        ],
    )
    def test_refuses_what_is_not_one_volume(self, shape, lengths):
        with pytest.raises(ValueError, match=lengths):
            read_volume(nifti(np.zeros(shape, dtype=np.int16)))

    def test_refuses_voxels_that_are_no_real_numbers(self, tmp_path):
        colour = np.zeros((4, 4, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
        for voxels in (np.zeros((4, 4, 4), dtype=np.complex64), colour):
            with pytest.raises(ValueError, match=r"ct.nii.* real numbers"):
                read_volume(saved(nifti(voxels), tmp_path / "ct.nii"))

    def test_counts_voxels_that_are_not_finite(self, tmp_path):
        voxels = grid(dtype=np.float32)
        voxels[0, 0, 0], voxels[1, 1, 1] = np.nan, np.inf
        with pytest.raises(ValueError, match=r"ct.nii.gz has 2 NaN or infinite of 120"):
            read_volume(saved(nifti(voxels), tmp_path / "ct.nii.gz"))

    @pytest.mark.parametrize("column", [[0, 0, 0], [1, 0, 0], [np.nan, 0, 1]])
    def test_refuses_a_singular_affine(self, column):
        affine = np.eye(4)
        affine[:3, 2] = column
        with pytest.raises(ValueError, match="affine"):
            read_volume(nibabel.spatialimages.SpatialImage(grid(), affine))

    @pytest.mark.parametrize("size", [0.0, -2.5])
    def test_refuses_broken_voxel_sizes_that_the_affine_rests_on(self, tmp_path, size):
        image = nifti(grid())
        image.set_sform(None, code=0)
        image.set_qform(np.diag([1.5, 1.5, 2.5, 1]), code=1)
        path = saved(image, tmp_path / "ct.nii")
        content = bytearray(path.read_bytes())
        content[88:92] = struct.pack("<f", size)
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"ct.nii has voxel sizes \[1.5, 1.5, {size}\]"):
            read_volume(path)
        assert read_volume(path, source_spacing=(3, 1, 1)).shape == (4, 5, 6)
        in_memory = nibabel.Nifti1Image.from_bytes(bytes(content))
        with pytest.raises(ValueError, match=rf"{size}\]"):
            read_volume(in_memory)

    @pytest.mark.parametrize("spacing", [(1, 1), (1, 1, 0), (1, 1, -1), (1, np.nan, 1), 3])
    def test_refuses_invalid_spacings(self, spacing):
        with pytest.raises(ValueError, match=r"^spacing must be .*\(depth, height, width\)"):
            read_volume(nifti(grid()), spacing)
        with pytest.raises(ValueError, match=r"^source_spacing must be"):
            read_volume(nifti(grid()), source_spacing=spacing)

    def test_names_a_file_that_is_no_volume(self, tmp_path):
        path = tmp_path / "ct.nii.gz"
        whole = saved(nifti(grid(30, 30, 30)), tmp_path / "whole.nii.gz").read_bytes()
        broken = [b"", b"not a volume", gzip.compress(b"not a volume"), whole[:60], whole[:-9000]]
        for content in broken:
            path.write_bytes(content)
            with pytest.raises(OSError, match=r"ct.nii.gz is not a"):
                read_volume(path)
        with pytest.raises(FileNotFoundError, match=r"missing.nii"):
            read_volume(tmp_path / "missing.nii")
        plain = saved(nifti(grid()), tmp_path / "ct.nii")
        plain.write_bytes(plain.read_bytes()[:-10])
        with pytest.raises(OSError, match=r"ct.nii is not a complete volume"):
            read_volume(plain)

    @pytest.mark.parametrize("name", ["ct.nii.gz", "ct.mgz"])
    def test_damage_that_only_the_checksum_tells_is_found(self, tmp_path, name):
        voxels = np.arange(27_000, dtype=np.int16).reshape(30, 30, 30)
        image = nifti(voxels) if "nii" in name else nibabel.MGHImage(voxels, np.eye(4))
        path = saved(image, tmp_path / name)
        whole = path.read_bytes()
        for broken in (
            whole[:-8] + bytes(4) + whole[-4:],
            whole[:-8],
            whole[:-1],
        ):
            path.write_bytes(broken)
            with pytest.raises(OSError, match=rf"{name} is not a complete volume"):
                read_volume(path)
        path.write_bytes(whole)
        assert read_volume(path, None).shape == (30, 30, 30)

    def test_refuses_other_types(self):
        with pytest.raises(TypeError, match="bytes"):
            read_volume(b"volume")

    def test_warns_once_per_file_of_a_placeholder_header(self, tmp_path):
        path = saved(nifti(np.zeros((130, 10, 4), np.int16), (1, 1, 1)), tmp_path / "ct.nii.gz")
        with pytest.warns(UserWarning, match=r"ct.nii.gz has a spacing of exactly 1 x 1 x 1 mm"):
            read_volume(path)
        other = saved(nifti(np.zeros((130, 10, 4), np.int16), (1, 1, 1)), tmp_path / "other.nii.gz")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            read_volume(path)
            read_volume(other, source_spacing=(1, 1, 1))
            read_volume(saved(nifti(grid(), (1, 1, 1)), tmp_path / "small.nii.gz"))

    def test_warns_of_a_header_without_orientation(self, tmp_path):
        image = nifti(grid())
        image.set_sform(None, code=0)
        image.set_qform(None, code=0)
        with pytest.warns(UserWarning, match=r"ct.nii has neither an sform nor a qform"):
            read_volume(saved(image, tmp_path / "ct.nii"))
