"""The encoder that is probed, and the same network with random weights."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoConfig

from ..configuration_mit import MiTConfig
from ..input_checks_mit import did_you_mean, near_matches
from ..modeling_mit import MiTModel


def load_encoder(model: str) -> MiTModel:
    """Load the encoder of a folder or of a repository on the Hub, in evaluation mode.

    Raises:
        OSError: If there is no such model.
        ValueError: If it is no MiT, or weights of the encoder are missing.
    """
    path = Path(model)
    if not path.is_dir():
        close = near_matches(path)
        # A path with a slip of the pen is not looked for on the Hub.
        if close or model.startswith((".", "/", "~")) or model.count("/") > 1:
            raise FileNotFoundError(
                f"There is no folder {model} with a model.{did_you_mean(close)}"
            )
    config = AutoConfig.from_pretrained(model)
    if not isinstance(config, MiTConfig):
        raise ValueError(f"{model} is a {config.model_type!r} model; wanted 'unimiss_mit'.")
    encoder, report = MiTModel.from_pretrained(
        model, config=config, dtype=torch.float32, output_loading_info=True
    )
    absent = sorted(map(str, (*report["missing_keys"], *report["mismatched_keys"])))
    if absent:
        raise ValueError(
            f"{model} lacks {len(absent)} of the encoder's weights, or has them in other shapes; "
            f"its features would be random. The first are {', '.join(absent[:3])}."
        )
    return encoder.eval()


def random_encoder(config: MiTConfig, seed: int) -> MiTModel:
    """Make an encoder with the weights that training from scratch would begin with.

    Args:
        config: Of the encoder that it is compared with.
        seed: Of the weights; random numbers of others are left alone.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MiTModel(config).eval()
