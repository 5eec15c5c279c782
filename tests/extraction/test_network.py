"""What the network of an extraction is, and what of it a table is held against."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig

from small_pyramid import SMALLEST_PYRAMID
from unimiss_hf import MiTConfig, MiTModel
from unimiss_hf.extraction.network import describe_features, load_network


def description(settings) -> dict:
    return describe_features(load_network(settings), settings)


def test_the_encoder_of_a_checkpoint_and_its_processor(make_settings, model_folder):
    network = load_network(make_settings(dtype="bfloat16"))
    assert not network.model.training
    assert network.model.dtype == torch.bfloat16
    expected = load_file(model_folder / "model.safetensors")["encoder.stages.0.class_token"]
    assert torch.equal(network.model.stages[0].class_token, expected.bfloat16())
    assert network.processor.image_size == {"height": 40, "width": 40}
    settings = make_settings(spacing=[2, 2, 2], processor={"image_size": None})
    processor = load_network(settings).processor
    assert list(processor.spacing) == [2, 2, 2]
    assert processor.image_size is None


def test_the_description_tells_features_apart(make_settings, model_folder, tmp_path):
    plain = description(make_settings())
    assert plain["model"] == str(model_folder)
    assert json.loads(json.dumps(plain)) == plain
    assert description(make_settings(batch_size=1, workers=3, device="cpu")) == plain
    for name, changes in {
        "patches": {"patches": True},
        "processor": {"spacing": [2.0, 2.0, 2.0]},
        "overlap": {"overlap": 0.5},
        "dtype": {"dtype": "bfloat16"},
        "source_spacing": {"source_spacing": [3, 1, 1]},
    }.items():
        assert description(make_settings(**changes))[name] != plain[name]

    for folder, config in {
        "copy": SMALLEST_PYRAMID,
        "eps": {**SMALLEST_PYRAMID, "layer_norm_eps": 1e-3},
    }.items():
        model = MiTModel.from_pretrained(model_folder, config=MiTConfig(**config))
        model.save_pretrained(tmp_path / folder)
        load_network(make_settings()).processor.save_pretrained(tmp_path / folder)
    assert description(make_settings(model=str(tmp_path / "copy")))["weights"] == plain["weights"]
    assert description(make_settings(model=str(tmp_path / "eps")))["weights"] != plain["weights"]
    weights = load_file(tmp_path / "copy" / "model.safetensors")
    weights["stages.3.layers.0.mlp.up_projection.bias"][0] += 1
    save_file(weights, tmp_path / "copy" / "model.safetensors", {"format": "pt"})
    assert description(make_settings(model=str(tmp_path / "copy")))["weights"] != plain["weights"]


def test_missing_weights_are_refused(make_settings, model_folder, tmp_path):
    for file in model_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    del weights["encoder.stages.0.class_token"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks 1 of the encoder's weights.*class_token"):
        load_network(make_settings(model=str(tmp_path)))


def test_other_models_are_refused(make_settings, tmp_path):
    BertConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is a 'bert' model; wanted 'unimiss_mit'"):
        load_network(make_settings(model=str(tmp_path)))


def test_mistyped_models_are_told(make_settings, model_folder):
    with pytest.raises(FileNotFoundError, match=f"Did you mean {model_folder}"):
        load_network(make_settings(model=f"{model_folder}x"))


def test_other_settings_of_the_processor_are_refused(make_settings):
    with pytest.raises(TypeError, match="windows"):
        load_network(make_settings(processor={"windows": "lung"}))


def test_a_missing_gpu_is_told(make_settings, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert load_network(make_settings()).model.device.type == "cpu"
    with pytest.raises(ValueError, match="torch finds no GPU"):
        load_network(make_settings(device="cuda"))
