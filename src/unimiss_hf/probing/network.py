"""The encoder that is probed, and the same network with random weights."""

from __future__ import annotations

import torch

from ..configuration_mit import MiTConfig
from ..modeling_mit import MiTModel
from ..saved_models import open_config, open_encoder


def load_encoder(model: str) -> MiTModel:
    """Load the encoder of a folder or of a repository on the Hub, in evaluation mode.

    Raises:
        OSError: If there is no such model.
        ValueError: If it is no MiT, or weights of the encoder are missing.
    """
    return open_encoder(model, open_config(model))


def random_encoder(config: MiTConfig, seed: int) -> MiTModel:
    """Make an encoder with the weights that training from scratch would begin with.

    Args:
        config: Of the encoder that it is compared with.
        seed: Of the weights; random numbers of others are left alone.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MiTModel(config).eval()
