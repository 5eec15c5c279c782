"""Official checkpoints, read without running anything that they hold."""

import argparse
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .renaming import list_names

BRANCHES = ("teacher", "student")
_WRAPPERS = ("state_dict", "model")
_ZIP_SIGNATURE = b"PK\x03\x04"


@dataclass(frozen=True)
class OfficialCheckpoint:
    """Weights of one network, and what their file says about them.

    Args:
        weights: Official keys and, usually, tensors. They may lie in the file itself (mapped into
            memory), so copy what is to outlive it.
        branch: "teacher" or "student"; `None` if the file holds one network only.
        epoch: The epochs of pretraining that the file records, or `None`.
    """

    weights: Mapping[str, Any]
    branch: str | None
    epoch: int | None


def read_checkpoint(path: Path, branch: str | None = None) -> OfficialCheckpoint:
    """Read one network's weights from an official checkpoint.

    Taken are the checkpoints of the official trainer (`student`, `teacher`, `optimizer`, `epoch`,
    `args`, `loss`), and files with one network: a state dict, by itself or under the key
    `state_dict` or `model`.

    A checkpoint is a pickle, and a pickle can call any function. Only what `torch.load` itself
    takes for safe, `argparse.Namespace` and NumPy's numbers are built; a file that asks for more is
    refused before anything of it runs.

    Args:
        path: The file, in either of PyTorch's formats.
        branch: "teacher" or "student". `None` takes the teacher of a file that has both, and the
            weights of a file that has one network.

    Raises:
        OSError: If the file is not there or cannot be read.
        ValueError: If it is no PyTorch file, is damaged, asks for something that is not taken, or
            does not hold the weights asked for.
    """
    if branch not in (None, *BRANCHES):
        raise ValueError(f"branch is {branch!r}; there are {' and '.join(BRANCHES)}.")
    content = _load(path)
    weights, branch = _choose_weights(path, content, branch)
    if unnamed := [key for key in weights if not isinstance(key, str)]:
        raise ValueError(
            f"{path} has the key {unnamed[0]!r} among its weights; a state dict's keys are names."
        )
    if not any(isinstance(value, torch.Tensor) for value in weights.values()):
        raise ValueError(
            f"{path} holds no weights{f' under {branch}' if branch else ''}, but {_keys(weights)}. "
            "Give an official checkpoint or a state dict."
        )
    epoch = content.get("epoch")
    has_epoch = isinstance(epoch, int) and not isinstance(epoch, bool)
    return OfficialCheckpoint(weights, branch, epoch if has_epoch else None)


def _choose_weights(
    path: Path, content: Mapping[str, Any], branch: str | None
) -> tuple[Mapping[str, Any], str | None]:
    branches = [name for name in BRANCHES if isinstance(content.get(name), Mapping)]
    if branches:
        chosen = branch or "teacher"
        if chosen not in branches:
            raise ValueError(
                f"{path} has no {chosen}, only a {branches[0]}. Choose it with --branch "
                f"{branches[0]}."
            )
        return content[chosen], chosen
    if branch is not None:
        raise ValueError(
            f"{path} has no branches, so there is no {branch} to choose: it holds "
            f"{_keys(content)}. Leave --branch out to take the weights that are there."
        )
    wrappers = [name for name in _WRAPPERS if isinstance(content.get(name), Mapping)]
    if len(wrappers) > 1:
        raise ValueError(
            f"{path} has weights under {' and under '.join(wrappers)}, and nothing tells which are "
            "meant. Save one of them as a file of its own."
        )
    return (content[wrappers[0]] if wrappers else content), None


def _keys(content: Mapping[str, Any]) -> str:
    return f"{len(content)} entries: {list_names([str(name) for name in content])}"


def _load(path: Path) -> Mapping[str, Any]:
    if not path.exists():
        raise FileNotFoundError(f"There is no checkpoint {path}.")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give the checkpoint's file.")
    with path.open("rb") as file:
        is_zip = file.read(len(_ZIP_SIGNATURE)) == _ZIP_SIGNATURE
    try:
        # torch warns of what it then fails on
        with warnings.catch_warnings(record=True) as warned, _only_these_globals():
            warnings.simplefilter("always")
            # mapped, the optimiser and the other branch are not read; the old format cannot be
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    # A damaged file fails in as many ways as there are bytes in it.
    except Exception as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise
        told = [str(warning.message) for warning in warned]
        raise ValueError(f"{path} {_why_refused(error, told)}") from error
    if not isinstance(content, Mapping):
        raise ValueError(
            f"{path} holds a {type(content).__name__}, not a dictionary of weights. Give an "
            "official checkpoint or a state dict."
        )
    return content


@contextmanager
def _only_these_globals() -> Iterator[None]:
    """Allow what is taken, and for the time nothing that the process allowed before."""
    before = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(_ALLOWED)
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


class _NotTakenError(Exception):
    """What a file asks for and is not given."""


class _NumberType:
    """Stands in for `numpy.dtype` while a file is read.

    NumPy's own unpickling builds whole records and objects; a checkpoint needs numbers only.
    """

    def __init__(self, code: str, *flags: bool) -> None:
        self.code = code
        self.byte_order = "="

    def __setstate__(self, state: tuple) -> None:
        self.byte_order = state[1]


def _number(kind: _NumberType, content: bytes) -> bool | int | float:
    """Stand in for NumPy's `scalar`: a Python number instead of a NumPy one."""
    name = f"{kind.byte_order}{kind.code}"
    if not re.fullmatch(r"[=<>|][bfiu][1248]", name):
        raise _NotTakenError(f"a NumPy scalar of type {name}")
    return np.frombuffer(content, name).item()


_ALLOWED = [
    (argparse.Namespace, "argparse.Namespace"),
    (_NumberType, "numpy.dtype"),
    # the module's name before and since NumPy 2
    (_number, "numpy.core.multiarray.scalar"),
    (_number, "numpy._core.multiarray.scalar"),
]


def _why_refused(error: Exception, warned: list[str]) -> str:
    """Say in a sentence what torch says in a page, without its advice to read unsafely."""
    unsafe = re.search(r"GLOBAL (\S+)", str(error))
    if unsafe or isinstance(error, _NotTakenError):
        return (
            f"is refused: it asks for {unsafe[1] if unsafe else error}. A checkpoint may ask for "
            "tensors, argparse.Namespace and NumPy's numbers, and nothing else. None of it was "
            "run. If you trust where it is from, save its state dict alone and convert that."
        )
    if protocol := re.search(r"pickle protocol (\d+)", " ".join(warned)):
        return (
            f"is refused: it is written with pickle protocol {protocol[1]}, of which not all can "
            "be read safely. Save it with the protocol that torch.save uses by itself, 2."
        )
    found = re.search(r"WeightsUnpickler error:\s*(.+)", str(error))
    said = re.sub(r"^\[enforce fail[^]]*\][ .]*", "", str(error))
    detail = found[1] if found else re.split(r"(?<=\.)\s|\n", said)[0]
    return (
        f"is not a PyTorch checkpoint, or is truncated or damaged{f' ({detail})' if detail else ''}"
        ". Download or copy it again, and compare its size."
    )
