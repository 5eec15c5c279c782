"""`model.push_to_hub`: a model in memory, put on the Hub with all that its folder would have."""

import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelCard, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from safetensors import safe_open
from transformers import PreTrainedModel

from ..image_processing_mit import MiTImageProcessor
from .fetching import split_revision
from .pushing import Pushed, push_files
from .repository_files import CARD, list_files, run_of

_PROCESSOR = "preprocessor_config.json"
# What tells of the very weights in a folder, and so goes with the same weights alone.
_OF_WEIGHTS = (CARD, "finetuning.json")


def push_model(
    model: PreTrainedModel,
    repository: str,
    *,
    image_processor: MiTImageProcessor | None = None,
    card: ModelCard | str | None = None,
    private: bool = False,
    revision: str | None = None,
    license: str | None = None,
    exclude: Sequence[str] = (),
    commit_message: str | None = None,
    max_shard_size: int | str = "50GB",
    dry_run: bool = False,
    tell: Callable[[str], None] = print,
) -> Pushed:
    """Put a model on the Hub in one commit: what `model.push_to_hub` does.

    A model that was loaded whole from a folder and not changed since takes that folder's card with
    it, and of a run's `model` the log, figures and scores too. Of other weights these would not be
    true: such a model gets a card that says what its configuration says.

    Args:
        model: Weights and configuration go as `save_pretrained` writes them.
        repository: `"owner/name"`; made if it is not there.
        image_processor: What its inputs are prepared with; by default that of the folder or the
            repository that the model was loaded from.
        card: Another card than these.
        private: Whether only its owner may see it; one that is public already is refused.
        revision: A branch, which is made if it is not there; by default the main one.
        license: The Hub's identifier of the weights' licence; by default what the card says.
        exclude: Patterns of paths in the repository that stay here.
        commit_message: Of the commit.
        max_shard_size: Above which weights are saved in several files.
        dry_run: Whether only to tell what would go.
        tell: Takes sentences on what goes on.

    Returns:
        The address and the commit.

    Raises:
        ValueError: If no image processor is known; see [`push_files`] for what else.
        OSError: If the Hub cannot be reached, or refuses; says what to do.
    """
    origin = _origin(model)
    if image_processor is None:
        if origin is None or not (origin / _PROCESSOR).is_file():
            raise ValueError(
                "The model was not loaded from a folder with an image processor, so nobody would "
                "know how to prepare its inputs. Give image_processor=MiTImageProcessor(...)."
            )
        image_processor = MiTImageProcessor.from_pretrained(origin)
    with tempfile.TemporaryDirectory(prefix="unimiss_hf-") as temporary:
        folder, run = Path(temporary), None
        model.save_pretrained(folder, max_shard_size=max_shard_size)
        image_processor.save_pretrained(folder)
        if origin is not None and _is_same_model(folder, origin):
            for name in _OF_WEIGHTS:
                if (origin / name).is_file():
                    shutil.copyfile(origin / name, folder / name)
            run = run_of(origin)
        elif origin is not None:
            tell(_why_alone(folder, origin))
        if card is not None:
            (folder / CARD).write_text(str(card), encoding="utf-8")
        return push_files(
            list_files(folder, exclude, run),
            repository,
            private=private,
            revision=revision,
            license=license,
            message=commit_message,
            dry_run=dry_run,
            tell=tell,
        )


def _origin(model: PreTrainedModel) -> Path | None:
    """The folder that a model was loaded from; of a repository, the one in the cache."""
    name = model.name_or_path
    if not name:
        return None
    if Path(name).is_dir():
        return Path(name).resolve()
    repository, revision = split_revision(name)
    commit = revision or getattr(model.config, "_commit_hash", None)
    try:
        found = try_to_load_from_cache(repository, _PROCESSOR, revision=commit)
    except HFValidationError:
        return None
    return Path(found).parent if isinstance(found, str) else None


def _why_alone(saved: Path, origin: Path) -> str:
    """A sentence on why a folder's card, log and scores stay."""
    ours, theirs = (_kind(folder) for folder in (saved, origin))
    other = (
        "has weights that were changed since"
        if ours == theirs
        else f"is a {ours}, which is not all of the {theirs} there"
    )
    return (
        f"The model that was loaded from {origin} {other}: card, log and scores of that folder "
        "would not be true of it, and stay."
    )


def _kind(folder: Path) -> str:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return (config.get("architectures") or ["model"])[0]


def _is_same_model(saved: Path, origin: Path) -> bool:
    """Whether a folder holds the kind of model that another does, value for value."""
    if _kind(saved) != _kind(origin):
        return False
    theirs: dict[str, Any] = {}
    for path in origin.glob("*.safetensors"):
        file = safe_open(path, framework="pt")
        theirs |= dict.fromkeys(file.keys(), file)
    for path in saved.glob("*.safetensors"):
        ours = safe_open(path, framework="pt")
        for name in sorted(ours.keys()):
            if name not in theirs:
                return False
            if not torch.equal(ours.get_tensor(name), theirs[name].get_tensor(name)):
                return False
    return True


__all__ = ["push_model"]
