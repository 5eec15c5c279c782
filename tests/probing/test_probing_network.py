"""The encoder that is probed, and the one with random weights beside it."""

import pytest
import torch
from transformers import ViTConfig

from unimiss_hf import MiTForPreTraining, MiTModel
from unimiss_hf.probing.network import load_encoder, random_encoder


def test_the_encoder_of_a_pretrained_model_is_loaded(tmp_path, small_config):
    pretrained = MiTForPreTraining(small_config)
    pretrained.save_pretrained(tmp_path / "model")
    encoder = load_encoder(str(tmp_path / "model"))
    assert isinstance(encoder, MiTModel) and not encoder.training
    for name, tensor in pretrained.encoder.state_dict().items():
        assert torch.equal(encoder.state_dict()[name], tensor), name


def test_random_weights_come_from_the_seed_alone(small_config):
    before = torch.get_rng_state()
    one, again, other = (random_encoder(small_config, seed) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    name = "stages.0.layers.0.mlp.up_projection.weight"
    weights = [encoder.state_dict()[name] for encoder in (one, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_what_is_no_encoder_is_told(tmp_path, small_config):
    (tmp_path / "model").mkdir()
    with pytest.raises(FileNotFoundError, match=r"There is no folder .*modle.* Did you mean"):
        load_encoder(str(tmp_path / "modle"))
    ViTConfig().save_pretrained(tmp_path / "vit")
    with pytest.raises(ValueError, match="is a 'vit' model; wanted 'unimiss_mit'"):
        load_encoder(str(tmp_path / "vit"))
    encoder = MiTModel(small_config)
    weights = encoder.state_dict()
    for lost in [name for name in weights if name.startswith("stages.3")]:
        del weights[lost]
    encoder.save_pretrained(tmp_path / "torn", state_dict=weights)
    with pytest.raises(ValueError, match=r"lacks \d+ of the encoder's weights"):
        load_encoder(str(tmp_path / "torn"))
