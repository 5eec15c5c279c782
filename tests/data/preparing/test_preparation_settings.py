import pytest

from unimiss_hf.data.preparing.settings import PreparationSettings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"spacing": (3, 0, 1)}, "spacing must be 3 positive mm"),
        ({"source_spacing": (3, 1)}, "source_spacing must be 3 positive mm"),
        ({"dimension": "4d"}, "must be 2d or 3d"),
        ({"workers": 0}, "workers is 0; it must be 1 or more"),
        ({"max_image_side": -1}, "max_image_side is -1"),
        ({"samples_per_shard": 0}, "samples_per_shard is 0"),
        ({"min_shards": 0}, "min_shards is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"max_bad_fraction": 1.5}, "from 0 to 1"),
        ({"license": " "}, "license is empty"),
        ({"overwrite": True, "retry_failed": True}, "not both"),
    ],
)
def test_what_cannot_be_had_is_told(changes, message):
    with pytest.raises(ValueError, match=message):
        PreparationSettings(**changes)


def test_what_decides_the_content_is_told_apart():
    changed = PreparationSettings(seed=3, spacing=[1, 1, 1], workers=3, max_bad_fraction=0.5)
    assert changed.changed_content() == {"seed": 3, "spacing": [1.0, 1.0, 1.0]}
    assert PreparationSettings().changed_content() == {}
    assert "workers" not in changed.content()


def test_there_is_a_process_for_each_core_unless_told_otherwise():
    assert PreparationSettings().num_workers() >= 1
    assert PreparationSettings(workers=3).num_workers() == 3
