"""An official checkpoint → a folder that transformers opens."""

import glob
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError

from ..hub.endpoint_files import add_endpoint
from ..image_processing_mit import MiTImageProcessor
from ..modeling_mit import MiTForPreTraining
from .checkpoint_reading import read_checkpoint
from .matching import MatchedWeights, match_weights
from .model_card import make_card
from .report import ConversionReport

_CONFIG = "config.json"
# Names all files that a conversion wrote: only those may be replaced.
_MARKER = "conversion.json"


def convert_checkpoint(
    checkpoint: str | Path, folder: str | Path, branch: str | None = None, overwrite: bool = False
) -> ConversionReport:
    """Turn an official UniMiSS checkpoint, tiny or small, into a folder for transformers.

    The folder holds a [`MiTForPreTraining`] with its projection head, the image processor with
    pretraining's settings, the code of both, and a model card. It is complete, or nothing opens it.

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
        add_endpoint(target)
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
    entries = sorted(folder.iterdir())
    if not entries:
        return
    if not overwrite:
        raise FileExistsError(
            f"{folder} is not empty. Give another folder, or replace it with --overwrite."
        )
    written = {_MARKER, *_written_before(folder)}
    foreign = [path.name for path in entries if path.name not in written or not path.is_file()]
    if foreign:
        raise FileExistsError(
            f"{folder} holds what no conversion wrote, {foreign[0]!r}, and is not replaced. Give "
            "another folder, or move that away."
        )


def _written_before(folder: Path) -> list[str]:
    """The files that an earlier conversion wrote into a folder, by its own note."""
    try:
        return list(json.loads((folder / _MARKER).read_text())["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _write(folder: Path, fill: Callable[[Path], None]) -> None:
    """Fill a folder beside the wanted one, and move it into place when it is complete."""
    prefix = f".{folder.name}.partial-"
    _remove_abandoned(folder.parent, prefix)
    partial = folder.with_name(f"{prefix}{os.getpid()}")
    try:
        partial.mkdir(parents=True)
        fill(partial)
        _put_in_place(partial, folder)
    except SafetensorError as error:
        raise OSError(f"Cannot write the weights in {folder}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _remove_abandoned(parent: Path, prefix: str) -> None:
    """Delete what conversions left that were killed."""
    for path in parent.glob(f"{glob.escape(prefix)}*") if parent.is_dir() else ():
        process = path.name.removeprefix(prefix)
        try:
            os.kill(int(process), 0)
        except (ValueError, ProcessLookupError):
            shutil.rmtree(path, ignore_errors=True)
        except PermissionError:
            continue


def _put_in_place(partial: Path, folder: Path) -> None:
    """Move a whole folder, or its files into one that is there.

    A folder that is there may be somebody's working directory, so it stays the same one. It has no
    `config.json`, without which nothing opens it, until all other files are in place.
    """
    before, now = _written_before(folder), sorted(path.name for path in partial.iterdir())
    note = {"written_by": "unimiss_hf.conversion", "files": sorted({*before, *now})}
    (partial / _MARKER).write_text(json.dumps(note, indent=2) + "\n")
    if not folder.exists():
        partial.rename(folder)
        return
    (folder / _CONFIG).unlink(missing_ok=True)
    for name in [_MARKER, *(name for name in now if name != _CONFIG), _CONFIG]:
        (partial / name).replace(folder / name)
    for name in set(before) - set(now):
        (folder / name).unlink(missing_ok=True)
