"""The network and the processor of an extraction, and what makes their features what they are."""

import json
from dataclasses import dataclass
from typing import Any

import torch

from .. import __version__
from ..hub.fetching import commit_of
from ..image_processing_mit import MiTImageProcessor
from ..modeling_mit import MiTModel
from ..saved_models import (
    choose_device,
    digest_of,
    locate,
    open_config,
    open_encoder,
    open_processor,
)
from .settings import ExtractionSettings


@dataclass(frozen=True)
class Network:
    """An encoder in evaluation mode, on its device, and the processor that prepares its inputs."""

    model: MiTModel
    processor: MiTImageProcessor


def load_network(settings: ExtractionSettings) -> Network:
    """Load the encoder and the processor of a folder or a repository on the Hub.

    Raises:
        OSError: If there is no such model, or it comes without a processor.
        ValueError: If it is no MiT, if weights are missing, if there is no such device, or if a
            setting of the processor cannot be had.
        TypeError: If the processor has no such setting.
    """
    device = choose_device(settings.device)
    config = open_config(settings.model)
    processor = open_processor(settings.model, settings.processor_overrides())
    model = open_encoder(settings.model, config, getattr(torch, settings.dtype))
    return Network(model.to(device), processor)


def describe_features(network: Network, settings: ExtractionSettings) -> dict[str, Any]:
    """Return all that features depend on, as it is written into the table.

    Two tables whose descriptions agree hold features that may stand side by side, even if the
    names in them (`model`, `commit`, `package_version`) differ.
    """
    saved = network.processor.to_dict()
    processor = {name: saved[name] for name in network.processor.valid_kwargs.__annotations__}
    description = {
        "package_version": __version__,
        "model": settings.model,
        "commit": commit_of(locate(settings.model)),
        "weights": digest_of(network.model),
        "processor": processor,
        "source_spacing": settings.source_spacing,
        "dtype": settings.dtype,
        "overlap": settings.overlap,
        "patches": settings.patches,
        "patches_dtype": settings.patches_dtype if settings.patches else None,
    }
    # Tuples become the lists that they are read back as.
    return json.loads(json.dumps(description))
