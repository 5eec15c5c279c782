"""Saved folders and repositories of a MiT, opened with words that say what is wrong with them."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, PreTrainedModel

from .configuration_mit import MiTConfig
from .hub.fetching import fetch_model, split_revision
from .image_processing_mit import MiTImageProcessor
from .input_checks_mit import did_you_mean, near_matches
from .modeling_mit import MiTModel


def choose_device(name: str) -> torch.device:
    """Choose a device: "auto" is a GPU, if there is one.

    Raises:
        ValueError: If "cuda" is asked for, and there is none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device is 'cuda', but torch finds no GPU. Use auto or cpu.")
    return torch.device(name)


def locate(model: str) -> Path:
    """Find the folder of a model, which a repository on the Hub is downloaded into.

    Args:
        model: Folder, or `"owner/name"` or `"owner/name@revision"` on the Hub.

    Returns:
        The folder; of a repository, that in the cache, so that all of a model is of one commit.

    Raises:
        OSError: If there is no such model; a path with a slip of the pen is not looked for on the
            Hub, and near matches are named. See [`fetch_model`] for what the Hub refuses.
        ValueError: If it is neither a folder nor a name.
    """
    path = Path(model).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise FileNotFoundError(
            f"{model} is a file; wanted the folder with a model's config.json and weights."
        )
    close = near_matches(path)
    if close or model.startswith((".", "/", "~")) or split_revision(model)[0].count("/") > 1:
        raise FileNotFoundError(f"There is no folder {model} with a model.{did_you_mean(close)}")
    return fetch_model(model)


def open_config(model: str) -> MiTConfig:
    """Load the configuration of a folder or a repository on the Hub.

    Raises:
        OSError: If there is no such model, see [`locate`].
        ValueError: If it is no MiT.
    """
    config = AutoConfig.from_pretrained(locate(model))
    if not isinstance(config, MiTConfig):
        raise ValueError(
            f"{model} is a {config.model_type!r} model; wanted {MiTConfig.model_type!r}."
        )
    return config


def open_encoder(model: str, config: MiTConfig, dtype: torch.dtype = torch.float32) -> MiTModel:
    """Load the encoder of a folder or a repository on the Hub, in evaluation mode.

    Args:
        model: Folder or name.
        config: What [`open_config`] returned of it.
        dtype: Of the weights.

    Raises:
        OSError: If there are no weights.
        ValueError: If some of them are missing, or have other shapes.
    """
    encoder, report = MiTModel.from_pretrained(
        locate(model),
        config=config,
        dtype=dtype,
        output_loading_info=True,
        ignore_mismatched_sizes=True,
    )
    require_weights(model, "the encoder's weights", "features", report)
    return encoder.eval()


def require_weights(model: str, weights: str, made: str, report: dict[str, Any]) -> None:
    """Refuse weights that `from_pretrained` had to make up.

    Args:
        model: Folder or name that was loaded.
        weights: What was wanted of it.
        made: What is made with them.
        report: `from_pretrained` returns it with `output_loading_info`; for a sentence about other
            shapes, with `ignore_mismatched_sizes`, too.

    Raises:
        ValueError: If there are any; the first are named.
    """
    mismatched = [key if isinstance(key, str) else key[0] for key in report["mismatched_keys"]]
    absent = sorted({*report["missing_keys"], *mismatched})
    if absent:
        raise ValueError(
            f"{model} lacks {len(absent)} of {weights}, or has them in other shapes; {made} would "
            f"be random. The first are {', '.join(absent[:3])}."
        )


def open_processor(model: str, changes: dict[str, Any]) -> MiTImageProcessor:
    """Load the processor that is saved with a model, with some settings replaced.

    Raises:
        OSError: If the model comes without a processor.
        TypeError, ValueError: If there is no such setting, or it cannot be had.
    """
    saved = MiTImageProcessor.from_pretrained(locate(model))
    return MiTImageProcessor(**{**saved.to_dict(), **changes})


def digest_of(model: PreTrainedModel) -> str:
    """A digest of the pyramid and its weights: equal for models that compute the same."""
    digest = hashlib.blake2b(digest_size=16)
    fields = {name: getattr(model.config, name) for name in MiTConfig.__annotations__}
    pyramid = {name: value for name, value in fields.items() if not name.startswith("_")}
    digest.update(json.dumps(pyramid, sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
