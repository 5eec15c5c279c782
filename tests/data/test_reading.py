"""What a record is read as, what damaged records say, and how windows are cut."""

import gzip
import io
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from prepared_folders import tiny_folder, volume_row, voxels_of, write_prepared
from unimiss_hf.data.parquet_rows import StreamingError, row_address
from unimiss_hf.data.prepared import encode_volume
from unimiss_hf.data.reading import (
    BadSampleError,
    LazyVolume,
    cut_region,
    cut_window,
    fit_window,
    read_record,
    record_name,
)
from unimiss_hf.data.sample_cache import SampleCache
from unimiss_hf.hounsfield_mit import apply_window

AFFINE = np.diag([1.0, 1.0, 3.0, 1.0])


def volume(seed: int = 0, shape: tuple[int, ...] = (7, 6, 5)) -> np.ndarray:
    return np.random.default_rng(seed).integers(-1024, 2000, shape).astype(np.int16)


def record(path: Path | str | None = None, content: bytes | None = None) -> dict:
    return {"image": {"path": None if path is None else str(path), "bytes": content}}


@pytest.mark.parametrize("nifti", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_bytes_and_file_of_a_volume_read_the_same(tmp_path, nifti, suffix):
    voxels = volume()
    path = tmp_path / f"ct{suffix}"
    nibabel.save(nifti(voxels, AFFINE), path)
    from_file = read_record(record(path), "3d")
    from_bytes = read_record(record(None, path.read_bytes()), "3d")
    assert from_file.dtype == np.float32
    assert from_file.shape == (1, 5, 6, 7)
    np.testing.assert_array_equal(from_file, voxels.transpose()[None] / 1024)
    np.testing.assert_array_equal(from_bytes, from_file)


def test_hounsfield_units_are_clipped(tmp_path):
    voxels = np.zeros((3, 3, 3), dtype=np.int16)
    voxels[0, 0, 0], voxels[1, 1, 1] = -3024, 9000
    nibabel.save(nibabel.Nifti1Image(voxels, AFFINE), tmp_path / "ct.nii")
    array = read_record(record(tmp_path / "ct.nii"), "3d")
    assert array[0, 0, 0, 0] == -1
    assert array[0, 1, 1, 1] == np.float32(3071 / 1024)


def test_volumes_are_resampled_with_the_true_spacing(tmp_path):
    path = tmp_path / "ct.nii"
    nibabel.save(nibabel.Nifti1Image(volume(shape=(8, 8, 8)), np.eye(4)), path)
    resampled = read_record(record(path), "3d", spacing=(2.0, 1.0, 1.0))
    corrected = read_record(
        record(path), "3d", spacing=(2.0, 1.0, 1.0), source_spacing=(4.0, 1.0, 2.0)
    )
    assert resampled.shape == (1, 4, 8, 8)
    assert corrected.shape == (1, 16, 8, 16)


def test_radiographs_are_seen_through_a_grey_window(tmp_path):
    path = tmp_path / "film.png"
    Image.fromarray(np.array([[0, 1000, 4000]], dtype=np.uint16)).save(path)
    cache = SampleCache(10_000)
    for window, wanted in (((1000, 2000), [0, 0.5, 1]), ("minmax", [0, 0.25, 1])):
        array = read_record(record(path), "2d", grey_window=window, cache=cache)
        np.testing.assert_allclose(array[0, 0], wanted)
    assert len(cache) == 2


def test_radiograph_from_file_and_bytes(tmp_path):
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    Image.fromarray(pixels).save(tmp_path / "x.png")
    from_file = read_record(record(tmp_path / "x.png"), "2d")
    from_bytes = read_record(record("x.png", (tmp_path / "x.png").read_bytes()), "2d")
    np.testing.assert_allclose(from_file[0], pixels / 255, rtol=1e-6)
    np.testing.assert_array_equal(from_bytes, from_file)


def damaged(kind: str, folder: Path) -> tuple[Path, str]:
    path = folder / f"{kind}{'.png' if kind in ('png', 'no_png') else '.nii.gz'}"
    whole = nibabel.Nifti1Image(volume(shape=(20, 20, 20)), AFFINE).to_bytes()
    if kind == "png":
        buffer = io.BytesIO()
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)).save(
            buffer, "PNG"
        )
        path.write_bytes(buffer.getvalue()[:-2000])
    elif kind == "no_png":
        path.write_bytes(b"this is text")
    elif kind == "truncated":
        path.write_bytes(gzip.compress(whole)[:-3000])
    elif kind == "short":
        path.write_bytes(gzip.compress(whole[:-3000]))
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "nan":
        voxels = np.full((4, 4, 4), np.nan, dtype=np.float32)
        nibabel.save(nibabel.Nifti1Image(voxels, AFFINE), path)
    elif kind == "series":
        nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4, 3), np.int16), AFFINE), path)
    elif kind == "slice":
        nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4), np.int16), AFFINE), path)
    return path, "2d" if path.suffix == ".png" else "3d"


@pytest.mark.parametrize(
    "kind",
    ["png", "no_png", "truncated", "short", "empty", "nan", "series", "slice", "missing"],
)
def test_damaged_files_are_named(tmp_path, kind):
    path, dimension = damaged(kind, tmp_path)
    with pytest.raises(BadSampleError) as caught:
        read_record(record(path), dimension)
    assert path.name in str(caught.value)
    assert len(str(caught.value)) > len(str(path)) + 10
    if kind != "missing":
        with pytest.raises(BadSampleError, match="unnamed record of"):
            read_record(record(None, path.read_bytes()), dimension)


def test_record_without_content():
    with pytest.raises(BadSampleError, match="neither a path nor bytes"):
        read_record(record(), "3d")
    with pytest.raises(BadSampleError, match="neither a path nor bytes"):
        read_record({"image": None}, "2d")


def test_wrong_dimension_is_not_a_bad_sample():
    with pytest.raises(ValueError, match="'4d'") as caught:
        read_record(record("x.png"), "4d")
    assert not isinstance(caught.value, BadSampleError)


def test_names():
    assert record_name(record("a/b.nii.gz", b"123")) == "a/b.nii.gz"
    assert record_name(record(None, b"123")) != record_name(record(None, b"124"))


def test_cache_gives_the_same_array_without_reading(tmp_path):
    path = tmp_path / "ct.nii.gz"
    nibabel.save(nibabel.Nifti1Image(volume(shape=(9, 9, 9)), np.diag([0.7, 0.7, 2.5, 1])), path)
    cache = SampleCache(2**20)
    without = read_record(record(path), "3d")
    first = read_record(record(path), "3d", cache=cache)
    path.unlink()
    again = read_record(record(path), "3d", cache=cache)
    np.testing.assert_array_equal(first, without)
    np.testing.assert_array_equal(again, without)
    with pytest.raises(BadSampleError):  # another spacing is another sample
        read_record(record(path), "3d", spacing=None, cache=cache)


def test_cache_keeps_nothing_of_records_that_are_bytes(tmp_path):
    nibabel.save(nibabel.Nifti1Image(volume(), AFFINE), tmp_path / "ct.nii")
    cache = SampleCache(2**20)
    read_record(record("ct.nii", (tmp_path / "ct.nii").read_bytes()), "3d", cache=cache)
    assert len(cache) == 0


def test_window_of_a_larger_array_is_a_part_of_it():
    array = np.arange(6 * 7 * 8, dtype=np.float32).reshape(1, 6, 7, 8)
    starts = set()
    for seed in range(60):
        window, extent = cut_window(array, (4, 7, 5), (2, 2, 2), seed, -1.0)
        assert window.shape == (1, 4, 7, 5)
        assert extent.tolist() == [4, 7, 5]
        z, y, x = np.unravel_index(int(window[0, 0, 0, 0]), (6, 7, 8))
        np.testing.assert_array_equal(window, array[:, z : z + 4, y : y + 7, x : x + 5])
        starts.add((z, y, x))
    assert starts == {(z, 0, x) for z in range(3) for x in range(4)}
    again = [cut_window(array, (4, 7, 5), (2, 2, 2), 5, -1.0)[0] for _ in range(2)]
    assert torch.equal(*again)


def prepared(voxels: np.ndarray, spacing: tuple[float, ...] = (3, 1, 1)) -> dict:
    return record("lidc/1", encode_volume(voxels, spacing))


def whole(voxels: np.ndarray) -> np.ndarray:
    """What reading a file of these voxels (depth, height, width) gives."""
    image = nibabel.Nifti1Image(voxels.transpose(), AFFINE)
    return read_record(record("a.nii", image.to_bytes()), "3d")


def test_prepared_volume_is_read_as_the_file_is():
    voxels = voxels_of(0)
    assert voxels.min() < -1024
    assert voxels.max() > 3071
    array, expected = read_record(prepared(voxels), "3d"), whole(voxels)
    assert isinstance(array, LazyVolume)
    assert (array.shape, array.dtype, array.name) == (expected.shape, np.float32, "lidc/1")
    for key in (slice(None), 0, (0, slice(2, 5)), (slice(None), 1, slice(3, 9), 2), (..., 4)):
        np.testing.assert_array_equal(array[key], expected[key])
        assert array[key].dtype == np.float32
    np.testing.assert_array_equal(np.asarray(array), expected)


@settings(max_examples=40, deadline=None)
@given(st.tuples(*[st.integers(1, 12)] * 3), st.integers(0, 2**62))
def test_windows_of_prepared_volumes_are_those_of_arrays(shape, seed):
    voxels = voxels_of(seed, shape)
    window, minimum = (5, 7, 6), (3, 2, 6)
    one = cut_window(read_record(prepared(voxels), "3d"), window, minimum, seed, -1.0)
    array = apply_window(voxels.astype(np.float32))[None]
    other = cut_window(array, window, minimum, seed, -1.0)
    assert all(torch.equal(*pair) for pair in zip(one, other, strict=True))


@settings(max_examples=60, deadline=None)
@given(st.tuples(*[st.integers(1, 12)] * 3), st.integers(0, 2**62), st.data())
def test_a_needed_region_is_that_part_of_the_window(shape, seed, data):
    voxels = voxels_of(seed, shape)
    window, minimum = (5, 7, 6), (3, 2, 6)
    arguments = (window, minimum, seed, -1.0)
    whole, extent = cut_window(read_record(prepared(voxels), "3d"), *arguments)
    first = [data.draw(st.integers(0, n - 1)) for n in window]
    length = [data.draw(st.integers(1, n - f)) for n, f in zip(window, first, strict=True)]
    part = whole[(slice(None), *(slice(f, f + n) for f, n in zip(first, length, strict=True)))]

    def region(valid, of_seed):
        assert (list(valid), of_seed) == (extent.tolist(), seed)
        return first, length

    stored, *places = cut_region(read_record(prepared(voxels), "3d"), *arguments, region)
    assert stored.dtype == torch.int16
    assert torch.equal(stored / 1024, part)
    assert [place.tolist() for place in places] == [extent.tolist(), first]
    array = apply_window(voxels.astype(np.float32))[None]
    assert torch.equal(cut_region(array, *arguments, region)[0], part)


def test_rows_of_prepared_folders(tmp_path):
    folder = tiny_folder(tmp_path)
    films = read_record(
        record(row_address(f"{folder}/radiographs/train-00000-of-00002.parquet", 2)), "2d"
    )
    assert films.shape == (1, 12, 12)
    cache = SampleCache(2**20)
    address = row_address(f"{folder}/volumes/train-00001-of-00003.parquet", 1)
    volume = read_record(record(address), "3d", cache=cache)
    assert volume.name == "lidc/4"
    np.testing.assert_array_equal(volume[:], whole(voxels_of(4)))
    # What is mapped into memory needs no place in the cache.
    assert len(cache) == 0
    with pytest.raises(BadSampleError, match=r"train-00001.*2 rows, but not row 2"):
        read_record(record(address.replace("row=1", "row=2")), "3d")


def test_prepared_spacing_must_be_the_one_asked_for():
    content = prepared(voxels_of(0), (2.5, 0.7, 0.7))
    with pytest.raises(
        ValueError, match=r"lidc/1.*\(2.5, 0.7, 0.7\).*\(3, 1, 1\).*--spacing 3 1 1"
    ):
        read_record(content, "3d", spacing=(3, 1, 1))
    with pytest.raises(ValueError, match=r"lidc/1.*source_spacing=\(3, 1, 1\) comes too late"):
        read_record(content, "3d", spacing=None, source_spacing=(3, 1, 1))
    for spacing in (None, (2.5, 0.7, 0.7), (2.5, 0.70000001, 0.7)):
        assert read_record(content, "3d", spacing=spacing).spacing == (2.5, 0.7, 0.7)


def test_damaged_prepared_volumes_are_named(tmp_path):
    rows = [volume_row(0, content) for content in (b"no", volume_row(0)["volume"]["bytes"][:-9])]
    content = bytearray(encode_volume(voxels_of(0, (8, 64, 64)), (3, 1, 1)))
    content[200:4000] = b"\xff" * 3800
    write_prepared(tmp_path, [[*rows, volume_row(0, bytes(content))]])
    address = f"{tmp_path}/volumes/train-00000-of-00001.parquet"
    for row in (0, 1):
        with pytest.raises(BadSampleError, match=rf"^lidc/0 \(.*train-00000.*#row={row}\): "):
            read_record(record(row_address(address, row)), "3d")
    volume = read_record(record(row_address(address, 2)), "3d")
    with pytest.raises(BadSampleError, match=r"^lidc/0.*damaged"):
        cut_window(volume, (8, 64, 64), (1, 1, 1), 0, -1.0)


def test_lost_connection_is_not_a_bad_sample():
    # HF_HUB_OFFLINE is set in tests.
    with pytest.raises(StreamingError, match=r"0\.parquet"):
        read_record(record(row_address("hf://datasets/owner/name@12/0.parquet", 0)), "3d")


def test_window_is_a_copy():
    array = np.ones((1, 3, 3, 3), np.float32)
    window, _ = cut_window(array, (3, 3, 3), (1, 1, 1), 0, -1.0)
    window.zero_()
    assert array.all()


def test_small_array_is_centred_in_the_minimum_and_filled_to_the_window():
    array = np.full((1, 2, 5, 9), 0.5, dtype=np.float32)
    window, extent = cut_window(array, (6, 7, 8), (4, 3, 3), 0, -1.0)
    assert extent.tolist() == [4, 5, 8]
    assert extent.dtype == torch.int64
    expected = torch.full((1, 6, 7, 8), -1.0)
    expected[:, 1:3, :5, :] = 0.5
    assert torch.equal(window, expected)


def test_cut_window_names_what_does_not_fit():
    with pytest.raises(ValueError, match=r"\(1, 5, 5\)"):
        cut_window(np.zeros((1, 5, 5)), (3, 3, 3), (1, 1, 1), 0, 0.0)
    with pytest.raises(ValueError, match="exceeds"):
        cut_window(np.zeros((1, 5, 5)), (3, 3), (4, 3), 0, 0.0)


@pytest.mark.parametrize(
    ("size", "fitted"),
    [((32, 64), (8, 16)), ((64, 32), (16, 8)), ((4, 2), (16, 8)), ((16, 16), (16, 16))],
)
def test_fitted_image_keeps_its_shape(size, fitted):
    image, extent = fit_window(np.full((1, *size), 0.25, np.float32), (16, 16))
    assert tuple(extent) == fitted
    expected = torch.zeros(1, 16, 16)
    expected[:, : fitted[0], : fitted[1]] = 0.25
    torch.testing.assert_close(image, expected)


def test_shrinking_averages_fine_structure_away():
    noise = np.random.default_rng(0).random((1, 64, 64), np.float32)
    image, _ = fit_window(noise, (8, 8))
    # All 64 pixels and more go into one of the result; sampling four of them would leave 0.14.
    assert noise.std() > 0.25
    assert image.std() < 0.06


def test_fit_window_extremes():
    image, extent = fit_window(np.ones((1, 1, 500), np.float32), (8, 8))
    assert extent.tolist() == [1, 8]
    assert 0.999 < image[0, 0].min() <= image.max() <= 1
    with pytest.raises(ValueError, match="cannot be fitted"):
        fit_window(np.ones((1, 4, 4, 4), np.float32), (8, 8))
