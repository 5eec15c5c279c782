"""A prepared volume gives back what was stored, in parts or whole, and damage is told."""

import time

import blosc2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unimiss_hf.data.prepared import (
    RADIOGRAPH_FEATURES,
    VOLUME_FEATURES,
    PreparedVolume,
    encode_volume,
    is_encoded_volume,
)

SPACING = (2.5, 0.7, 0.8)


def smooth(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Voxels that compress as those of a CT do, over all of int16's range."""
    generator = np.random.default_rng(seed)
    steps = generator.integers(-30, 31, shape).cumsum(axis=-1)
    return (steps + generator.integers(-30000, 30000)).astype(np.int16)


@st.composite
def volumes_and_boxes(draw) -> tuple[np.ndarray, tuple[slice, ...]]:
    shape = [draw(st.integers(1, longest)) for longest in (20, 140, 140)]
    box = []
    for length in shape:
        start = draw(st.integers(0, length - 1))
        box.append(slice(start, draw(st.integers(start + 1, length))))
    return smooth(tuple(shape), draw(st.integers(0, 2**32 - 1))), tuple(box)


@settings(max_examples=40, deadline=None)
@given(volumes_and_boxes())
def test_parts_are_those_of_the_whole(volume_and_box):
    voxels, box = volume_and_box
    stored = PreparedVolume(encode_volume(voxels, SPACING))
    assert stored.shape == voxels.shape
    assert stored.dtype == np.int16
    assert stored.spacing == SPACING
    np.testing.assert_array_equal(stored[box], voxels[box])
    np.testing.assert_array_equal(stored[:], voxels)


def test_slices_are_numpys():
    voxels = smooth((9, 70, 66))
    stored = PreparedVolume(memoryview(encode_volume(voxels, SPACING)))
    for key in (3, (slice(None), 5), (slice(2, 99), slice(-7, None)), (..., slice(1, 4))):
        np.testing.assert_array_equal(stored[key], voxels[key])
    assert stored[2:4].flags.writeable


def test_the_same_volume_gives_the_same_bytes():
    voxels = smooth((9, 70, 66))
    turned = np.asfortranarray(voxels)
    assert encode_volume(voxels, SPACING) == encode_volume(turned, list(SPACING))
    assert len(encode_volume(voxels, SPACING)) < voxels.nbytes


@pytest.mark.parametrize(
    "voxels",
    [
        np.zeros((4, 4, 4), np.float32),
        np.zeros((4, 4, 4), np.uint16),
        np.zeros((1, 4, 4, 4), np.int16),
        np.zeros((4, 0, 4), np.int16),
    ],
)
def test_only_int16_volumes_are_stored(voxels):
    with pytest.raises(ValueError, match=rf"int16 HU.*{voxels.dtype} of shape"):
        encode_volume(voxels, SPACING)


def test_spacing_is_checked():
    with pytest.raises(ValueError, match="spacing"):
        encode_volume(smooth((2, 2, 2)), (3, 1, 0))


def frame(voxels: np.ndarray, **attributes: str) -> bytes:
    stored = blosc2.asarray(voxels)
    for key, value in attributes.items():
        stored.schunk.vlmeta[key] = value
    return stored.to_cframe()


VOLUME = smooth((6, 20, 20))
NEWER = '{"format_version": 2, "spacing": [3, 1, 1]}'
VALID = '{"format_version": 1, "spacing": [3, 1, 1]}'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 bytes that begin with b'' are no prepared volume"),
        (b"\x1f\x8b text and more", "are no prepared volume"),
        (encode_volume(VOLUME, SPACING)[:500], "500 bytes are a damaged prepared volume"),
        (encode_volume(VOLUME, SPACING)[:-1], "are a damaged prepared volume"),
        (frame(VOLUME), "of another purpose"),
        (frame(VOLUME, unimiss_hf="{"), "damaged"),
        (frame(VOLUME, unimiss_hf='{"format_version": 1}'), "'spacing'"),
        (frame(VOLUME, unimiss_hf=NEWER), "format version 2.*reads 1"),
        (frame(VOLUME.astype(np.float32), unimiss_hf=VALID), "float32 of shape"),
        (frame(VOLUME[0], unimiss_hf=VALID), r"int16 of shape \(20, 20\)"),
    ],
)
def test_other_content_is_refused(content, message):
    with pytest.raises(ValueError, match=message):
        PreparedVolume(content)


def test_damaged_voxels_are_told_when_they_are_read():
    voxels = np.random.default_rng(0).integers(-1000, 1000, (8, 64, 64)).astype(np.int16)
    content = bytearray(encode_volume(voxels, SPACING))
    content[200:4000] = b"\xff" * 3800
    stored = PreparedVolume(bytes(content))
    with pytest.raises(ValueError, match="damaged prepared volume"):
        stored[:]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_random_damage_raises_nothing_else(data):
    content = bytearray(encode_volume(VOLUME, SPACING))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        part = PreparedVolume(bytes(content))[:2, :2, :2]
    except ValueError:
        return
    assert part.dtype == np.int16


def test_encoded_volumes_are_recognised():
    assert is_encoded_volume(encode_volume(VOLUME, SPACING))
    assert not is_encoded_volume(b"\x1f\x8b")
    assert not is_encoded_volume(b"")


def test_rows_of_both_parts_have_the_same_metadata():
    metadata = {"name", "source", "source_name", "license", "patient"}
    metadata |= {"original_shape", "original_spacing"}
    assert VOLUME_FEATURES.keys() == metadata | {"volume", "spacing"}
    assert RADIOGRAPH_FEATURES.keys() == metadata | {"image"}


def test_one_thread_decompresses():
    """As many processes read as there are cores already."""
    process_start = time.process_time()
    thread_start = time.thread_time()
    stored = PreparedVolume(encode_volume(smooth((64, 256, 256)), SPACING))
    for _ in range(3):
        stored[:]
    in_threads = time.process_time() - process_start
    in_this_one = time.thread_time() - thread_start
    assert in_this_one > 0.9 * in_threads
