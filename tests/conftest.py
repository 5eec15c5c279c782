"""What every test shares: no network, repeatable numbers, one small model."""

import os

# Before any Hugging Face library reads them.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

import pytest
import torch

from unimiss_hf import MiTConfig

SMALLEST_PYRAMID = {
    "stem_channels": 4,
    "hidden_sizes": [8, 8, 16, 16],
    "depths": [1, 2, 1, 1],
    "num_attention_heads": [1, 1, 2, 2],
    "decoder_hidden_sizes": [16, 8, 8],
    "decoder_depths": [1, 1, 2],
    "decoder_num_attention_heads": [2, 1, 1],
    "image_size": [64, 64],
    "volume_size": [8, 32, 32],
    "projection_hidden_size": 16,
    "projection_size": 8,
    "num_prototypes": 32,
}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture
def small_config() -> MiTConfig:
    """A pyramid of the real depth and shape with few channels."""
    return MiTConfig(**SMALLEST_PYRAMID)


@pytest.fixture(scope="session", autouse=True)
def private_cache(tmp_path_factory):
    """Keep data sets' caches out of the user's home."""
    from datasets import config

    config.HF_DATASETS_CACHE = tmp_path_factory.mktemp("datasets")
