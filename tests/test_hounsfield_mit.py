import numpy as np
import pytest

from unimiss_hf import MiTImageProcessor
from unimiss_hf.hounsfield_mit import (
    AIR_HU,
    MAX_HU,
    WINDOWS,
    apply_window,
    measured_window,
    scale_of,
    window_range,
)


@pytest.mark.parametrize(
    ("window", "bounds"),
    [
        ("pretraining", (AIR_HU, MAX_HU)),
        ("lung", (-1350, 150)),
        ("soft tissue", (-150, 250)),
        ("Soft_Tissue", (-150, 250)),
        ("bone", (-500, 1300)),
        ((40, 80), (0, 80)),
    ],
)
def test_level_and_width_are_middle_and_length(window, bounds):
    assert window_range(window) == bounds


@pytest.mark.parametrize("window", ["brain", "", (40, 0), (40, -80), (40,), (1, float("inf")), 3])
def test_refuses_what_is_no_window(window):
    with pytest.raises(ValueError, match=r"window must be one of \['pretraining', 'lung', "):
        window_range(window)


def test_scales():
    assert scale_of("pretraining", "lung") == (0, 1024)
    assert scale_of("unit", "lung") == (-1350, 1500)
    assert scale_of((158.58, 324.7), None) == (158.58, 324.7)
    assert list(WINDOWS) == ["pretraining", "lung", "soft tissue", "bone"]


@pytest.mark.parametrize("scaling", ["hu", (1,), (0, 0), (0, -1), (float("nan"), 1), None])
def test_refuses_what_is_no_scale(scaling):
    with pytest.raises(ValueError, match="scaling must be"):
        scale_of(scaling, "lung")


def test_unit_needs_a_window():
    with pytest.raises(ValueError, match="window=None"):
        scale_of("unit", None)


def test_the_window_of_percentiles_is_measured_on_the_values():
    values = np.arange(1001, dtype=np.float32).reshape(7, 11, 13) * 3 + 50
    level, width = measured_window(values, "percentiles")
    assert (level, width) == pytest.approx((50 + 1500, 3 * 990))
    for window in ("lung", (40.0, 400.0), None):
        assert measured_window(values, window) is window
    scaled = apply_window(values, "percentiles", "unit")
    assert scaled.min() == 0
    assert scaled.max() == pytest.approx(1)
    assert np.count_nonzero((scaled > 0) & (scaled < 1)) == pytest.approx(990, abs=1)


def test_a_volume_of_one_value_has_a_window_too():
    values = np.full((2, 3, 4), -7.0, np.float32)
    assert window_range(measured_window(values, "percentiles")) == (-7, -6)
    assert not apply_window(values, "percentiles", "unit").any()


def test_percentiles_without_a_volume_are_no_range():
    with pytest.raises(ValueError, match=r"pass what measured_window returns"):
        window_range("percentiles")


# An MR has values below -1024 too: what is added is the darkest that its window shows.
@pytest.mark.parametrize("offset", [0, 300, -5000])
def test_a_volume_is_filled_up_with_its_windows_lowest_value(offset):
    voxels = np.arange(6 * 7 * 8, dtype=np.float32).reshape(6, 7, 8) + offset
    processor = MiTImageProcessor(
        window="percentiles",
        scaling="unit",
        volume_size={"depth": 12, "height": 7, "width": 16},
    )
    pixels = processor(voxels, return_tensors="np")["pixel_values"][0, 0]
    low, high = np.percentile(voxels, (0.5, 99.5))
    inside = pixels[3:9, :, 4:12]
    np.testing.assert_allclose(inside, (voxels.clip(low, high) - low) / (high - low), atol=1e-4)
    assert inside.min() == 0
    pixels[3:9, :, 4:12] = 0
    assert not pixels.any()


def test_a_processor_keeps_the_window_of_percentiles(tmp_path):
    MiTImageProcessor(window="percentiles", scaling="unit").save_pretrained(tmp_path)
    processor = MiTImageProcessor.from_pretrained(tmp_path)
    assert (processor.window, processor.scaling) == ("percentiles", "unit")
    with pytest.raises(ValueError, match=r"one of \['pretraining', .*'percentiles'\] or"):
        processor(np.zeros((4, 5, 6)), window="percentile")
