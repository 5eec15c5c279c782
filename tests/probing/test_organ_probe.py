"""The probe of an encoder: its numbers, and what it leaves alone."""

import numpy as np
import pytest
import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling

from unimiss_hf import MiTModel
from unimiss_hf.probing import PATCH_CLASSES, OrganProbe, as_text
from unimiss_hf.probing.organ_probe import number_names
from unimiss_hf.probing.report import Probed, write_report


@pytest.fixture(scope="module")
def probe() -> OrganProbe:
    return OrganProbe((4, 32, 32), per_class=8, batch_size=10)


@pytest.fixture
def encoder(small_config) -> MiTModel:
    return MiTModel(small_config)


def test_numbers_are_named_as_promised(probe, encoder):
    both = probe.numbers(encoder, ["2d", "3d"])
    assert sorted(both) == sorted(number_names(["2d", "3d"]))
    assert both["knn_accuracy"] == pytest.approx(
        (both["knn_accuracy_2d"] + both["knn_accuracy_3d"]) / 2
    )
    alone = probe.numbers(encoder, ["3d"])
    assert sorted(alone) == sorted(number_names(["3d"])) == ["knn_accuracy", "linear_accuracy"]
    assert alone["knn_accuracy"] == both["knn_accuracy_3d"]
    assert all(0 <= number <= 1 for number in both.values())


class CentralValues(torch.nn.Module):
    """An encoder that sees the voxels around the centre and nothing else."""

    device, dtype = torch.device("cpu"), torch.float32

    def forward(self, pixel_values: torch.Tensor) -> BaseModelOutputWithPooling:
        centre = pixel_values[..., 12:21, 12:21].flatten(1)
        spread = centre.std(1, keepdim=True)
        features = torch.cat([centre.mean(1, keepdim=True), spread, torch.ones_like(spread)], 1)
        return BaseModelOutputWithPooling(pooler_output=features)


def test_an_encoder_that_sees_the_centre_tells_what_is_there(probe):
    for dimension in ("2d", "3d"):
        scores = probe.scores(CentralValues(), dimension)
        for method in (scores.knn, scores.linear):
            assert method.class_aurocs["air"] > 0.95
            assert method.class_aurocs["lungs"] > 0.9
            assert method.accuracy > 2 / len(PATCH_CLASSES)


def test_a_probe_draws_no_random_numbers_and_leaves_the_encoder_as_it_was(probe, encoder):
    encoder.train()
    weights = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = probe.numbers(encoder, ["2d", "3d"])
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])
    assert encoder.training
    assert all(parameter.grad is None for parameter in encoder.parameters())
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, weights[name])
    assert probe.numbers(encoder, ["2d", "3d"]) == first


def test_weights_that_are_not_finite_are_told(probe, encoder):
    for parameter in encoder.parameters():
        torch.nn.init.constant_(parameter, torch.nan)
    with pytest.raises(ValueError, match="not finite"):
        probe.scores(encoder, "3d")


def test_the_report_shows_every_class_beside_chance_and_random_weights(probe, encoder, tmp_path):
    scores = probe.scores(encoder, "2d")
    probed = Probed("Organs", "2d", 56, 28, 1 / 7, scores, scores, ("A note.",))
    text = as_text(probed)
    head, accuracy = text.splitlines()[2:4]
    assert head.split() == ["k-NN", "k-NN", "random", "linear", "linear", "random", "chance"]
    shown = [f"{value:.3f}" for value in (scores.knn.accuracy, scores.linear.accuracy)]
    assert accuracy.split()[2:] == [shown[0], shown[0], shown[1], shown[1], "0.143"]
    assert text.count("  liver") == 2
    assert text.endswith("A note.")
    write_report(tmp_path / "new" / "probe.json", {"model": "m"}, [probed])
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["probe.json"]
