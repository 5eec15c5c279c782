import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_files import slice_affine
from unimiss_hf.dicom_geometry_mit import Plane, listed, stack_planes

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def planes_of(affine, count=6, shifts=None, shape=(5, 4)):
    """Planes of an affine in RAS+, each moved by its shift in mm along (column, row, normal)."""
    affine = LPS @ affine
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    directions = affine[:3, :3] / lengths
    shifts = np.zeros((count, 3)) if shifts is None else np.array(shifts)
    return [
        Plane(
            f"{index}.dcm",
            shape,
            affine[:3, 3] + index * affine[:3, 2] + directions @ shifts[index],
            directions[:, :2].T,
            lengths[[1, 0]],
        )
        for index in range(count)
    ]


def along_normal(*distances):
    """Planes at these distances in mm."""
    shifts = np.zeros((len(distances), 3))
    shifts[:, 2] = distances
    planes = planes_of(slice_affine((0.8, 0.7, 1)), len(distances), shifts)
    step = planes[0].normal
    return [replace(p, position=p.position - index * step) for index, p in enumerate(planes)]


class TestStackPlanes:
    @given(
        angles=st.tuples(*[st.floats(-180, 180)] * 3),
        spacing=st.tuples(*[st.floats(0.01, 8)] * 3),
        origin=st.tuples(*[st.floats(-500, 500)] * 3),
        count=st.integers(2, 9),
        seed=st.integers(0, 99),
    )
    @settings(deadline=None, max_examples=60)
    def test_finds_order_and_affine(self, angles, spacing, origin, count, seed):
        affine = slice_affine(spacing, angles, origin)
        planes = planes_of(affine, count)
        shuffled = np.random.default_rng(seed).permutation(count)
        order, found = stack_planes([planes[index] for index in shuffled], "ct")
        np.testing.assert_array_equal(shuffled[order], np.arange(count))
        np.testing.assert_allclose(found, affine, atol=1e-8)

    def test_a_slice_at_the_origin_of_columns_to_the_left_and_rows_to_posterior(self):
        """The patient's left, posterior and superior are DICOM's axes; RAS+ turns the first two."""
        planes = [
            Plane(f"{z}", (3, 3), np.array([10.0, 20, z]), np.eye(3)[:2], np.array([0.5, 0.25]))
            for z in (30, 32)
        ]
        _, affine = stack_planes(planes, "ct")
        np.testing.assert_array_equal(
            affine, [[-0.25, 0, 0, -10], [0, -0.5, 0, -20], [0, 0, 2, 30], [0, 0, 0, 1]]
        )

    def test_allows_what_rounding_makes(self):
        rounded = np.round(np.arange(40) * 0.625, 2)
        order, affine = stack_planes(along_normal(*rounded), "ct")
        assert len(order) == 40
        assert affine[2, 2] == pytest.approx(0.625, abs=1e-3)
        slightly = np.array([0, 2.5, 5.02, 7.5])  # 0.02 mm of the 0.045 that 2.5 mm allow
        assert len(stack_planes(along_normal(*slightly), "ct")[0]) == 4

    def test_counts_missing_slices_and_says_where(self):
        with pytest.raises(
            ValueError,
            match=r"ct has missing slices: 2 between 1.dcm at .* mm and 2.dcm .*"
            r"1 between 3.dcm .* and 4.dcm .* where 2.50 mm are usual",
        ):
            stack_planes(along_normal(0, 2.5, 10, 12.5, 17.5, 20, 22.5, 25), "ct")

    def test_says_how_unequal_spacing_is(self):
        with pytest.raises(
            ValueError,
            match=r"ct has unequal spacing: from 2.500 mm between 0.dcm and 1.dcm to 4.000 mm "
            r"between 2.dcm and 3.dcm.* up to 1.500 mm off a regular grid .0.045 mm are tolerated",
        ):
            stack_planes(along_normal(0, 2.5, 5, 9, 13), "ct")

    def test_refuses_a_spacing_that_drifts(self):
        drifting = np.cumsum([0.0] + [1.0] * 50 + [1.005] * 50)
        with pytest.raises(ValueError, match="unequal spacing"):
            stack_planes(along_normal(*drifting), "ct")

    def test_small_spacings_are_compared_to_their_own_size(self):
        assert len(stack_planes(along_normal(0, 0.01, 0.02, 0.03), "micro")[0]) == 4
        with pytest.raises(ValueError, match=r"missing slices: 1 between 2.dcm"):
            stack_planes(along_normal(0, 0.01, 0.02, 0.04, 0.05), "micro")
        with pytest.raises(ValueError, match="unequal spacing"):
            stack_planes(along_normal(0, 0.01, 0.02, 0.034, 0.044), "micro")

    def test_names_slices_at_one_position(self):
        with pytest.raises(ValueError, match=r"same position: 1.dcm and 2.dcm, 4.dcm and 5.dcm\."):
            stack_planes(along_normal(0, 2, 2, 4, 6, 6.001), "ct")
        with pytest.raises(ValueError, match="same position"):
            stack_planes(along_normal(1, 1), "ct")

    @pytest.mark.parametrize("degrees", [-18, 0.8, 12])
    def test_gives_the_angle_of_a_tilted_gantry(self, degrees):
        shifts = np.zeros((6, 3))
        shifts[:, 1] = np.arange(6) * 2.5 * np.tan(np.radians(degrees))
        with pytest.raises(
            ValueError, match=rf"tilted gantry.* {abs(degrees):.1f} degrees.*dcm2ni"
        ):
            stack_planes(planes_of(slice_affine(), shifts=shifts), "ct")

    def test_a_slight_tilt_stays_in_the_affine(self):
        shifts = np.zeros((6, 3))
        shifts[:, 1] = np.arange(6) * 0.015  # 0.34 degrees
        planes = planes_of(slice_affine(), shifts=shifts)
        _, affine = stack_planes(planes, "ct")
        np.testing.assert_allclose(
            (affine @ [0, 0, 5, 1])[:3], (LPS[:3, :3] @ planes[5].position), atol=1e-9
        )

    def test_names_a_slice_that_is_shifted_sideways(self):
        shifts = np.zeros((6, 3))
        shifts[3, 0] = 4
        with pytest.raises(ValueError, match=r"sideways: 3.dcm lies 4.000 mm beside"):
            stack_planes(planes_of(slice_affine(), shifts=shifts), "ct")

    @pytest.mark.parametrize(
        ("affine", "shape", "message"),
        [
            (slice_affine(), (6, 4), "differing size (Rows, Columns): 0.dcm has [5, 4]"),
            (slice_affine((0.9, 0.7, 2.5)), (5, 4), "differing PixelSpacing in mm: 0.dcm has [0.7"),
            (slice_affine(angles=(1, 0, 0)), (5, 4), "differing orientation (ImageOrientationPati"),
        ],
    )
    def test_names_slices_that_differ(self, affine, shape, message):
        planes = [*planes_of(slice_affine()), planes_of(affine, 7, shape=shape)[6]]
        with pytest.raises(ValueError, match=f"^ct has slices of {re.escape(message)}.*6.dcm"):
            stack_planes(planes, "ct")

    @pytest.mark.parametrize("spacing", [[0.0, 0.7], [0.7, -1]])
    def test_refuses_impossible_pixel_spacing(self, spacing):
        planes = planes_of(slice_affine())
        planes[2] = replace(planes[2], spacing=np.array(spacing))
        with pytest.raises(ValueError, match=r"^2.dcm has PixelSpacing .* positive mm"):
            stack_planes(planes, "ct")

    @pytest.mark.parametrize("orientation", [[[1, 0, 0], [1, 0, 0]], [[1, 0, 0], [0, 2, 0]]])
    def test_refuses_impossible_orientations(self, orientation):
        planes = planes_of(slice_affine())
        planes[1] = replace(planes[1], orientation=np.array(orientation, dtype=float))
        with pytest.raises(ValueError, match=r"1.dcm has ImageOrientationPatient .* perpendicular"):
            stack_planes(planes, "ct")


def test_long_lists_are_cut():
    assert listed(["a", "b", "c"]) == "a, b, c"
    assert listed(list("abcde")) == "a, b, c and 2 more"
