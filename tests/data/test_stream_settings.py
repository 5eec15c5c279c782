"""Settings of a stream that are out of range are named when they are made."""

import pytest

from unimiss_hf.data.stream_settings import StreamSettings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", -1),
        ("shuffle_buffer", 0),
        ("shuffle_bytes", 0),
        ("crops_per_volume", 0),
        ("cache_bytes", -1),
        ("max_bad_fraction", 1.5),
        ("window", (0, 3, 3)),
        ("window", 96),
        ("minimum", (1.5, 2, 2)),
        ("spacing", (3, 1)),
        ("source_spacing", (3, 0, 1)),
        ("grey_window", (3, 0)),
    ],
)
def test_settings_out_of_range_are_named(name, value):
    with pytest.raises(ValueError, match=name):
        StreamSettings(**{name: value})


def test_lists_of_a_recipe_become_tuples():
    settings = StreamSettings(window=[4, 5, 6], spacing=[2, 1, 1], grey_window=[3, 6])
    assert settings.window == (4, 5, 6)
    assert settings.spacing == (2, 1, 1)
    assert settings.grey_window == (3, 6)
