"""Saved models open, or say in a sentence why not."""

import pytest
import torch
from transformers import BertConfig

from unimiss_hf import MiTImageProcessor, MiTModel
from unimiss_hf.saved_models import (
    choose_device,
    digest_of,
    open_config,
    open_encoder,
    open_processor,
)


@pytest.fixture
def folder(small_config, tmp_path):
    MiTModel(small_config).save_pretrained(tmp_path / "model")
    MiTImageProcessor(window="lung").save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_what_is_saved_opens(folder):
    assert open_config(str(folder)).hidden_sizes == [8, 8, 16, 16]
    processor = open_processor(str(folder), {"spacing": (2, 2, 2)})
    assert processor.window == "lung"
    assert list(processor.spacing) == [2, 2, 2]
    with pytest.raises(TypeError, match=r"no setting \['windows'\]"):
        open_processor(str(folder), {"windows": 1})


def test_other_models_and_mistyped_paths_are_told(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=f"no folder {folder}s with a model. Did you mean"):
        open_config(f"{folder}s")
    with pytest.raises(FileNotFoundError, match=r"no folder \./nowhere with a model\."):
        open_config("./nowhere")
    BertConfig().save_pretrained(tmp_path / "bert")
    with pytest.raises(ValueError, match="is a 'bert' model; wanted 'unimiss_mit'"):
        open_config(str(tmp_path / "bert"))


def test_an_encoder_with_other_weights_than_its_config_says_is_told(folder):
    config = open_config(str(folder))
    assert not open_encoder(str(folder), config).training
    assert open_encoder(str(folder), config, torch.bfloat16).dtype == torch.bfloat16
    config.hidden_sizes = [8, 8, 16, 32]
    with pytest.raises(
        ValueError, match=r"lacks \d+ of the encoder's weights, or has them in other"
    ):
        open_encoder(str(folder), config)


def test_digests_tell_weights_apart(small_config):
    model = MiTModel(small_config)
    same = MiTModel(small_config)
    assert digest_of(same) != digest_of(model)
    same.load_state_dict(model.state_dict())
    assert digest_of(same) == digest_of(model)


def test_devices():
    has_gpu = torch.cuda.is_available()
    assert choose_device("auto").type == ("cuda" if has_gpu else "cpu")
    assert choose_device("cpu").type == "cpu"
    if not has_gpu:
        with pytest.raises(ValueError, match="torch finds no GPU"):
            choose_device("cuda")
