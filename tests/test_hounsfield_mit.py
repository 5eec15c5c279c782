import pytest

from unimiss_hf.hounsfield_mit import AIR_HU, MAX_HU, WINDOWS, scale_of, window_range


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
