"""The network and the processor of an extraction, and what makes their features what they are."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from .. import __version__
from ..configuration_mit import MiTConfig
from ..image_processing_mit import MiTImageProcessor
from ..input_checks_mit import did_you_mean, near_matches
from ..modeling_mit import MiTModel
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
    device = _device(settings.device)
    _forbid_mistyped_folder(settings.model)
    config = AutoConfig.from_pretrained(settings.model)
    if not isinstance(config, MiTConfig):
        raise ValueError(
            f"{settings.model} is a {config.model_type!r} model; wanted {MiTConfig.model_type!r}."
        )
    saved = MiTImageProcessor.from_pretrained(settings.model)
    processor = MiTImageProcessor(**{**saved.to_dict(), **settings.processor_overrides()})
    model, report = MiTModel.from_pretrained(
        settings.model,
        config=config,
        dtype=getattr(torch, settings.dtype),
        output_loading_info=True,
    )
    if report["missing_keys"] or report["mismatched_keys"]:
        absent = sorted(map(str, (*report["missing_keys"], *report["mismatched_keys"])))
        raise ValueError(
            f"{settings.model} lacks {len(absent)} of the encoder's weights, or has them in other "
            f"shapes; features would be random. The first are {', '.join(absent[:3])}."
        )
    return Network(model.to(device).eval(), processor)


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
        "commit": getattr(network.model.config, "_commit_hash", None),
        "weights": _digest(network.model),
        "processor": processor,
        "source_spacing": settings.source_spacing,
        "dtype": settings.dtype,
        "overlap": settings.overlap,
        "patches": settings.patches,
        "patches_dtype": settings.patches_dtype if settings.patches else None,
    }
    # Tuples become the lists that they are read back as.
    return json.loads(json.dumps(description))


def _digest(model: MiTModel) -> str:
    """A digest of the pyramid and its weights."""
    digest = hashlib.blake2b(digest_size=16)
    fields = {name: getattr(model.config, name) for name in MiTConfig.__annotations__}
    pyramid = {name: value for name, value in fields.items() if not name.startswith("_")}
    digest.update(json.dumps(pyramid, sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device is 'cuda', but torch finds no GPU. Use auto or cpu.")
    return torch.device(name)


def _forbid_mistyped_folder(model: str) -> None:
    """Keep a path with a slip of the pen from being looked for on the Hub."""
    path = Path(model)
    if path.is_dir():
        return
    close = near_matches(path)
    if close or model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise FileNotFoundError(f"There is no folder {model} with a model.{did_you_mean(close)}")
