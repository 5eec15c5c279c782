import numpy as np
import pytest

from unimiss_hf.grey_levels_mit import require_grey_window, unit_range


@pytest.mark.parametrize(
    ("dtype", "largest"), [(np.uint8, 255), (np.uint16, 65535), (np.int16, 32767), (bool, 1)]
)
def test_an_integer_type_declares_its_range(dtype, largest):
    grey = unit_range(np.array([[0, largest]], dtype=dtype), "film")
    assert grey.dtype == np.float32
    np.testing.assert_array_equal(grey, [[0, 1]])


def test_a_window_comes_before_what_is_declared():
    stored = np.array([0, 1000, 2000, 3000, 5000], dtype=np.uint16)
    np.testing.assert_allclose(unit_range(stored, "", (2000, 2000)), [0, 0, 0.5, 1, 1])
    np.testing.assert_allclose(unit_range(stored, "", "minmax"), stored / 5000, atol=1e-6)
    np.testing.assert_allclose(unit_range(stored, "", None, (0, 4000)), [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(unit_range(stored, "", (2000, 2000), (0, 9)), [0, 0, 0.5, 1, 1])


def test_percentiles_leave_out_a_marker():
    film = np.linspace(100, 200, 1000)
    film[-1] = 65535
    grey = unit_range(film, "", "percentiles")
    assert grey[0] == 0
    assert grey[499] == pytest.approx(0.5, abs=0.02)
    assert grey[-1] == 1


def test_a_constant_image_is_black_in_its_own_range():
    assert unit_range(np.full((2, 2), 7, np.uint8), "", "minmax").tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    "pixels", [np.array([-1.0, 0]), np.array([0, 200.0]), np.array([0, 9], dtype=np.int32)]
)
def test_an_unknown_scale_is_refused_until_it_is_given(pixels):
    with pytest.raises(ValueError, match=r"film has grey levels of type .*grey_window="):
        unit_range(pixels, "film")
    grey = unit_range(pixels, "film", "minmax")
    assert (grey.min(), grey.max()) == (0, 1)


def test_warns_of_12_bits_in_16():
    film = np.array([0, 4095], dtype=np.uint16)
    with pytest.warns(UserWarning, match=r"film has 16-bit grey levels that reach 4095 only"):
        unit_range(film, "film")


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("window", [None, "minmax", (1, 2)])
def test_values_must_be_finite(value, window):
    with pytest.raises(ValueError, match="film has 1 NaN or infinite of 2"):
        unit_range(np.array([0.5, value]), "film", window)


def test_window_names():
    assert require_grey_window("grey_window", (5, 10)) == (5, 10)
    for name in (None, "minmax", "percentiles", "hounsfield"):
        assert require_grey_window("grey_window", name) == name
    for wrong in ("auto", "lung", (1,), (0, 0)):
        with pytest.raises(ValueError, match=r"^grey_window must be"):
            require_grey_window("grey_window", wrong)
