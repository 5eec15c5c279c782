"""Windows of a volume, wherever they lie."""

import numpy as np
import pytest

from unimiss_hf.data.labelled.volume_windows import cut_window

VOXELS = np.arange(5 * 6 * 7, dtype=np.float32).reshape(5, 6, 7)
AFFINE = np.array([[-0.5, 0, 0, 10], [0, -1, 0, 20], [0, 0, 2, 30], [0, 0, 0, 1.0]])


def test_window_inside():
    window = cut_window(VOXELS, AFFINE, (2, 3, 3), (1.5, 3, 6))
    np.testing.assert_array_equal(np.asarray(window.dataobj), VOXELS[1:4, 2:5, 2:5])
    np.testing.assert_allclose(window.affine @ [0, 0, 0, 1], AFFINE @ [1, 2, 2, 1])
    np.testing.assert_array_equal(window.affine[:3, :3], AFFINE[:3, :3])


@pytest.mark.parametrize(("extent", "shape"), [((0.5, 1, 2), (1, 1, 1)), ((2, 4, 6.1), (5, 5, 5))])
def test_extent_is_reached_by_whole_voxels(extent, shape):
    assert cut_window(VOXELS, AFFINE, (2, 3, 3), extent).shape == shape


def test_middle_is_rounded():
    window = cut_window(VOXELS, AFFINE, (1.6, 2.7, 3.2), (0.5, 1, 2))
    assert np.asarray(window.dataobj).item() == VOXELS[2, 3, 3]


def test_air_beyond_the_volume():
    window = np.asarray(cut_window(VOXELS, AFFINE, (0, 5, 6), (1.5, 3, 6)).dataobj)
    np.testing.assert_array_equal(window[1:, :2, :2], VOXELS[:2, 4:, 5:])
    assert (window == -1024).sum() == 27 - 8


def test_window_outside_is_air():
    window = np.asarray(cut_window(VOXELS, AFFINE, (-9, 3, 3), (1.5, 3, 6)).dataobj)
    assert window.shape == (3, 3, 3) and (window == -1024).all()
