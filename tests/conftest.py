"""What every test shares: no network, repeatable numbers, one small model."""

import os

# Before any Hugging Face library reads them.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

import pytest
import torch

from small_pyramid import SMALLEST_PYRAMID
from unimiss_hf import MiTConfig


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
