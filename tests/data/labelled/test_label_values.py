"""Label values become numbers of classes, or the map is refused."""

import numpy as np
import pytest

from unimiss_hf.data.labelled.label_values import class_numbers

NUMBERS = {0: 0, 500: 1, 205: 2, 255: 255}


@pytest.mark.parametrize("kind", [np.int16, np.uint16, np.int64, np.float32, np.float64])
def test_each_value_has_its_number(kind):
    values = np.array([[500, 0], [205, 255]], kind)
    found = class_numbers(values, NUMBERS, "case 7")
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, [[1, 0], [2, 255]])


def test_what_a_slope_makes_of_integers_are_integers():
    values = np.array([0, 500.00001, 204.9999], np.float32)
    np.testing.assert_array_equal(class_numbers(values, NUMBERS, "case 7"), [0, 1, 2])


def test_a_map_of_truths_has_two_classes():
    found = class_numbers(np.array([True, False]), {0: 0, 1: 1}, "case 7")
    np.testing.assert_array_equal(found, [1, 0])


@pytest.mark.parametrize("value", [-1, 1, 499, 501, 502, 30000, -30000])
def test_other_values_are_refused_by_the_name_of_the_case(value):
    values = np.array([500, value, 0, value], np.int16)
    with pytest.raises(ValueError, match=rf"case 7 has the label values {value} in 2 voxels; .*"):
        class_numbers(values, NUMBERS, "case 7")


def test_of_many_other_values_some_are_named():
    with pytest.raises(
        ValueError, match=r"values 1, 2, 3, 4, 5 and 4 more in 9 voxels; .* 0, 500\."
    ):
        class_numbers(np.arange(10), {0: 0, 500: 1}, "case 7")


@pytest.mark.parametrize("value", [0.5, np.nan, np.inf])
def test_values_that_are_no_integers_are_refused(value):
    with pytest.raises(ValueError, match=rf"case 7 has .* no integers: {value} in 1 voxels"):
        class_numbers(np.array([0, value, 500]), NUMBERS, "case 7")
