import numpy as np
import pytest

from unimiss_hf.hounsfield_mit import WINDOWS
from viewer.windows import (
    CT_WINDOWS,
    OWN,
    PERCENTILES,
    first_window,
    grey_levels,
    level_and_width,
    window_names,
)


def test_windows_of_ct_are_those_that_the_processor_knows():
    assert CT_WINDOWS == WINDOWS
    assert set(window_names(is_hounsfield=True)) == {*WINDOWS, PERCENTILES, OWN}


def test_a_window_is_black_below_and_white_above():
    values = np.array([-1000, -150, 50, 250, 3000], dtype=np.int16)
    assert grey_levels(values, *level_and_width("soft tissue", values)).tolist() == [
        0,
        0,
        128,
        255,
        255,
    ]


def test_percentiles_are_measured_on_the_image():
    values = np.arange(1001, dtype=np.float32)
    level, width = level_and_width(PERCENTILES, values)
    assert level == pytest.approx(500)
    assert width == pytest.approx(990)
    assert level_and_width(PERCENTILES, np.full((4, 4), 7.0)) == (7.5, 1.0)


def test_a_volume_without_negative_values_is_first_seen_through_percentiles():
    assert first_window(np.array([0, 800]), is_hounsfield=True) == PERCENTILES
    assert first_window(np.array([-1000, 800]), is_hounsfield=True) == "soft tissue"
    assert first_window(np.array([0.0, 1.0]), is_hounsfield=False) == "whole range"


def test_windows_that_cannot_be_had_are_refused():
    with pytest.raises(ValueError, match="width is 0"):
        grey_levels(np.zeros(3), 0, 0)
    with pytest.raises(ValueError, match="no window 'brain'"):
        level_and_width("brain", np.zeros(3))
