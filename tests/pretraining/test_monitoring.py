import math

import pytest
import torch

from unimiss_hf.pretraining.monitoring import CollapseMonitor

HEALTHY = 0.5 * math.log(64)


def test_spread_is_zero_for_equal_features_and_one_for_scattered():
    monitor = CollapseMonitor(64)
    same = torch.nn.functional.normalize(torch.ones(16), dim=0)
    assert monitor.spread("volume", same) == pytest.approx(0.0, abs=1e-7)
    scattered = CollapseMonitor(64, momentum=0.99)
    for _ in range(500):
        features = torch.nn.functional.normalize(torch.randn(8, 16), dim=1)
        spread = scattered.spread("image", features.mean(0))
    assert spread > 0.99


@pytest.mark.parametrize(
    ("entropy", "spread", "named"),
    [
        (0.001, 0.5, r"image_to_image\) is 0\.0010 nats.*log K = 4\.159.*few prototypes"),
        (4.158, 0.5, "all prototypes alike"),
        (HEALTHY, 0.01, r"\(image\) is 0\.0100, near 0"),
    ],
)
def test_a_lasting_sign_is_told_once_with_its_numbers(entropy, spread, named):
    monitor = CollapseMonitor(64, patience=5)
    told = [monitor.warnings({"image_to_image": entropy}, {"image": spread}) for _ in range(12)]
    assert [len(sentences) for sentences in told] == [0] * 4 + [1] + [0] * 7
    import re

    assert re.search(named, told[4][0])


def test_a_passing_sign_is_not_told():
    monitor = CollapseMonitor(64, patience=3)
    for step in range(30):
        entropy = HEALTHY if step % 3 == 0 else 0.0
        assert monitor.warnings({"image_to_image": entropy}, {"image": 0.5}) == []


def test_a_continuation_counts_on():
    first = CollapseMonitor(64, patience=3)
    for _ in range(2):
        first.warnings({"image_to_image": 0.0}, {})
    first.spread("image", torch.ones(4) / 2)
    second = CollapseMonitor(64, patience=3)
    second.load_state_dict(first.state_dict())
    assert len(second.warnings({"image_to_image": 0.0}, {})) == 1
    probe = torch.tensor([1.0, 0, 0, 0])
    assert second.spread("image", probe) == first.spread("image", probe)
