import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.affines import apply_affine

from oriented_grids import ANGLES, CODES, LENGTHS, SPACINGS, stored_affine
from unimiss_hf.volume_grids_mit import (
    VolumeGrid,
    crop_or_pad,
    nearest,
    resample,
    reverse_axes,
)


def grid_of(shape, affine) -> VolumeGrid:
    return VolumeGrid.native(shape, affine, nibabel.io_orientation(affine))


@settings(deadline=None, max_examples=60)
@given(shape=LENGTHS, codes=CODES, spacing=SPACINGS, angles=ANGLES)
def test_reoriented_voxels_keep_their_place_in_the_world(shape, codes, spacing, angles):
    affine = stored_affine(codes, spacing, angles)
    grid = grid_of(shape, affine)
    voxels = np.arange(np.prod(shape)).reshape(shape)
    turned = reverse_axes(nibabel.apply_orientation(voxels, grid.orientation))
    assert turned.shape == grid.native_shape == grid.shape
    for index in [(0, 0, 0), tuple(length - 1 for length in shape), (1, 0, 1)]:
        prepared = np.argwhere(turned == voxels[index])[0]
        np.testing.assert_allclose(
            apply_affine(grid.affine, reverse_axes(prepared)),
            apply_affine(affine, index),
            atol=1e-6,
        )
    np.testing.assert_array_equal(grid.to_source(turned), voxels)
    assert sorted(grid.spacing) == pytest.approx(sorted(spacing))


@settings(deadline=None, max_examples=60)
@given(
    shape=LENGTHS,
    codes=CODES,
    spacing=SPACINGS,
    angles=ANGLES,
    resampled=LENGTHS,
    start=st.tuples(*[st.integers(-3, 3)] * 3),
    size=LENGTHS,
)
def test_the_way_back_is_where_the_affine_says(
    shape, codes, spacing, angles, resampled, start, size
):
    affine = stored_affine(codes, spacing, angles)
    native = grid_of(shape, affine)
    grid = native.resized(resampled).cropped(start, size)
    places = [grid.positions(axis, size[axis])[0] for axis in range(3)]
    for index in ((0, 0, 0), (1, 1, 1), tuple(length - 1 for length in native.native_shape)):
        place = np.array([places[axis][index[axis]] for axis in range(3)])
        world = apply_affine(native.affine, reverse_axes(np.array(index)))
        np.testing.assert_allclose(apply_affine(grid.affine, place[::-1]), world, atol=1e-6)


def test_resampling_keeps_the_box():
    """The outer edges of the first and last voxels stay where they were."""
    affine = stored_affine("LAS", (0.7, 0.7, 2.5), (0.1, -0.2, 0.3))
    native = grid_of((12, 11, 10), affine)
    resampled = native.resized((8, 8, 8))
    for corner in ((0, 0, 0), (1, 1, 1), (1, 0, 1)):
        edges = [
            apply_affine(grid.affine, reverse_axes(np.array(corner) * np.array(grid.shape) - 0.5))
            for grid in (native, resampled)
        ]
        np.testing.assert_allclose(*edges, atol=1e-9)
    assert resampled.spacing == pytest.approx((2.5 * 10 / 8, 0.7 * 11 / 8, 0.7 * 12 / 8))


def test_an_array_has_no_place():
    grid = VolumeGrid.native((4, 3, 2)).resized((5, 3, 4)).cropped((1, 0, 0), (2, 3, 4))
    assert grid.affine is None
    assert grid.spacing is None
    assert grid.native_shape == (2, 3, 4)
    assert grid.start == (1, 0, 0)


def test_positions_tell_what_was_cropped_away():
    grid = VolumeGrid.native((4, 4, 6)).cropped((2, -1, 0), (3, 6, 4))
    assert grid.positions(0, 3)[1].tolist() == [False, False, True, True, True, False]
    assert grid.positions(0, 3)[0].tolist() == [-2, -1, 0, 1, 2, 3]
    assert grid.positions(1, 6)[0].tolist() == [1, 2, 3, 4]
    # a prediction of twice the resolution
    assert grid.positions(2, 8)[0].tolist() == [0.5, 2.5, 4.5, 6.5]


@settings(deadline=None, max_examples=30)
@given(shape=LENGTHS, wanted=LENGTHS)
def test_nearest_labels_agree_with_their_places(shape, wanted):
    labels = np.arange(np.prod(shape)).reshape(shape)
    resampled = nearest(labels, wanted)
    for index in np.ndindex(*wanted):
        exact = [
            (i + 0.5) * old / new - 0.5 for i, old, new in zip(index, shape, wanted, strict=True)
        ]
        found = np.argwhere(labels == resampled[index])[0]
        assert np.abs(found - exact).max() <= 0.5 + 1e-9


def test_labels_and_images_are_resampled_to_the_same_places():
    ramp = np.broadcast_to(np.arange(12.0, dtype=np.float32), (3, 4, 12))
    image = resample(np.ascontiguousarray(ramp), (1, 1, 2), (1, 1, 1))
    labels = nearest(ramp.astype(np.int64), image.shape)
    assert np.abs(image - labels).max() <= 0.5


@pytest.mark.parametrize(
    ("size", "start", "kept"),
    [((2, 3), (1, 0), [[0, 0, 3], [0, 0, 3]]), ((5, 1), (0, 1), None), ((7, 4), (-1, 0), None)],
)
def test_crop_or_pad_says_where_it_began(size, start, kept):
    voxels = np.tile([0, 0, 3], (5, 1))
    result, found = crop_or_pad(voxels, size, -7)
    assert found == start
    assert result.shape == size
    if kept is not None:
        assert result.tolist() == kept
    assert (result == -7).sum() == result.size - np.prod(np.minimum(size, voxels.shape))
