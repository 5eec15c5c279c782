import numpy as np
import pytest

from viewer.planes import Plane

SHAPE, SPACING = (10, 40, 60), (5.0, 1.0, 2.0)


@pytest.mark.parametrize(("axis", "wanted"), [(0, 40 / 120), (1, 50 / 120), (2, 50 / 40)])
def test_pictures_have_the_proportions_of_the_body(axis, wanted):
    height, width = Plane(SHAPE, SPACING, axis, 3, True).size
    assert height / width == pytest.approx(wanted, rel=0.01)
    assert 512 <= max(height, width) <= 1024


def test_planes_are_hung_as_radiologists_hang_them():
    # RAS+: the last voxel of each axis is superior, anterior, right.
    voxels = np.zeros(SHAPE)
    voxels[-1, -1, -1] = 1
    # Superior at the top, and the right at the left; of a sagittal plane anterior at the left.
    for axis, sides in ((0, "RLAP"), (1, "RLSI"), (2, "APSI")):
        plane = Plane(SHAPE, SPACING, axis, SHAPE[axis] - 1, True)
        cut = plane.cut(voxels)
        assert cut[0, 0] == 1 == cut.sum()
        assert "".join(plane.sides) == sides


def test_an_image_is_shown_as_it_is_and_has_no_sides():
    pixels = np.arange(12.0).reshape(1, 3, 4)
    plane = Plane((1, 3, 4), (1.0, 1.0, 1.0), 0, 0, False)
    np.testing.assert_array_equal(plane.cut(pixels), pixels[0])
    assert plane.sides is None
    assert plane.voxel_at(0.99, 0.01) == (0, 0, 3)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("is_volume", [True, False])
def test_a_point_of_the_picture_is_the_voxel_that_is_seen_there(axis, is_volume):
    voxels = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    plane = Plane(SHAPE, SPACING, axis, 4, is_volume)
    cut = plane.cut(voxels)
    rows, columns = cut.shape
    for row, column in ((0, 0), (rows - 1, columns - 1), (rows // 3, columns // 2)):
        voxel = plane.voxel_at((column + 0.5) / columns, (row + 0.5) / rows)
        assert voxels[voxel] == cut[row, column]


def test_points_at_the_edges_lie_inside():
    plane = Plane(SHAPE, SPACING, 0, 4, True)
    assert plane.voxel_at(0.0, 0.0) == (4, 39, 59)
    assert plane.voxel_at(1.0, 1.0) == (4, 0, 0)


def test_a_box_is_drawn_where_its_voxels_are_seen():
    plane = Plane(SHAPE, SPACING, 0, 4, True)
    height, width = plane.size
    edges = np.array([[4, 6], [30, 40], [0, 15]])
    left, top, right, bottom = plane.box(edges)
    # Anterior rows are at the top, the patient's left at the right.
    assert (top, bottom) == pytest.approx((0, height / 4))
    assert (left, right) == pytest.approx((width * 3 / 4, width))
    assert Plane(SHAPE, SPACING, 0, 6, True).box(edges) is None
