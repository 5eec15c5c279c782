"""An official checkpoint → a folder that transformers opens."""

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError

from ..image_processing_mit import MiTImageProcessor
from ..modeling_mit import MiTForPreTraining
from .checkpoint_reading import read_checkpoint
from .matching import MatchedWeights, match_weights
from .model_card import make_card
from .report import ConversionReport

# Beside the published code, `*_mit.py`, all that a conversion writes.
_WRITTEN = ("config.json", "model.safetensors", "preprocessor_config.json", "README.md")


def convert_checkpoint(
    checkpoint: str | Path, folder: str | Path, branch: str | None = None, overwrite: bool = False
) -> ConversionReport:
    """Turn an official UniMiSS checkpoint, tiny or small, into a folder for transformers.

    The folder holds a [`MiTForPreTraining`] with its projection head, the image processor with
    pretraining's settings, the code of both, and a model card. It is complete or not written.

    Args:
        checkpoint: A checkpoint of the official trainer, or a file with one network's state dict
            (see `read_checkpoint`). It is read safely: nothing in it is run.
        folder: Where to write. It must be empty or not there, unless `overwrite` is given.
        branch: "teacher" or "student". `None` takes the teacher of a file that has both, and the
            weights of a file that has one network.
        overwrite: Whether to replace a folder of an earlier conversion. A folder that holds
            anything else is never replaced.

    Returns:
        What was converted, and which weights matched, were missing and were unexpected. A
        projection head that the file does not have is new, and its weights are listed as missing.

    Raises:
        OSError: If the file cannot be read, or the folder cannot be written.
        ValueError: If the file is damaged, unsafe or not of UniMiSS tiny or small, or if not every
            weight of the encoder and the decoder matched in name and shape.

    ```python
    >>> report = convert_checkpoint("UniMiSS_small.pth", "unimiss-small")
    >>> report.size, report.branch
    ('small', 'teacher')
    ```
    """
    checkpoint, folder = Path(checkpoint), Path(folder)
    _check_folder(folder, overwrite)
    official = read_checkpoint(checkpoint, branch)
    try:
        matched = match_weights(official.weights)
    except ValueError as error:
        raise ValueError(f"{checkpoint} cannot be converted: {error}") from error
    model = _build(matched)
    with checkpoint.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    report = ConversionReport(
        checkpoint=checkpoint,
        folder=folder,
        sha256=sha256,
        branch=official.branch,
        epoch=official.epoch,
        size=matched.size,
        encoder_parameters=model.encoder.num_parameters(),
        decoder_parameters=sum(weight.numel() for weight in model.decoder.parameters()),
        head_parameters=sum(weight.numel() for weight in model.projection_head.parameters()),
        num_prototypes=matched.config.num_prototypes,
        matched=tuple(matched.weights),
        missing=matched.missing,
        unexpected=matched.unexpected,
        converted=matched.converted,
    )
    card = make_card(report)

    def fill(target: Path) -> None:
        model.save_pretrained(target)
        MiTImageProcessor().save_pretrained(target)
        card.save(target / "README.md")

    _write(folder.resolve(), fill)
    return report


def _build(matched: MatchedWeights) -> MiTForPreTraining:
    if matched.missing:
        model = MiTForPreTraining(matched.config)
        model.load_state_dict(matched.weights, strict=False)
        return model
    # without random weights to be replaced: half the time and memory
    with torch.device("meta"):
        model = MiTForPreTraining(matched.config)
    model.load_state_dict(matched.weights, assign=True)
    return model


def _check_folder(folder: Path, overwrite: bool) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; give a folder.")
    names = sorted(path.name for path in folder.iterdir())
    if names and not overwrite:
        raise FileExistsError(
            f"{folder} is not empty. Give another folder, or replace it with --overwrite."
        )
    foreign = [name for name in names if name not in _WRITTEN and not name.endswith("_mit.py")]
    if foreign:
        raise FileExistsError(
            f"{folder} holds what no conversion writes, {foreign[0]!r}, and is not replaced. Give "
            "another folder, or move that away."
        )


def _write(folder: Path, fill: Callable[[Path], None]) -> None:
    """Fill a folder beside the wanted one, and move it into place when it is complete."""
    partial = folder.with_name(f".{folder.name}.partial-{os.getpid()}")
    try:
        partial.mkdir(parents=True)
        fill(partial)
        _put_in_place(partial, folder)
    except SafetensorError as error:
        raise OSError(f"Cannot write the weights in {folder}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _put_in_place(partial: Path, folder: Path) -> None:
    if not folder.exists():
        partial.rename(folder)
        return
    # A folder cannot be renamed over another one everywhere, and never over a filled one.
    set_aside = folder.with_name(f".{folder.name}.replaced-{os.getpid()}")
    folder.rename(set_aside)
    try:
        partial.rename(folder)
    except OSError:
        set_aside.rename(folder)
        raise
    shutil.rmtree(set_aside)
