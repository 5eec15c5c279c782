"""Whether a run may go on from a checkpoint, or would become another one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def require_same_run(
    checkpoint: Path, differences: Mapping[str, tuple[Any, Any]], old_precision: str, precision: str
) -> None:
    """Refuse a checkpoint of a run that computes something else.

    Args:
        checkpoint: Its folder.
        differences: Settings that differ: `{name: (the checkpoint's, this run's)}`.
        old_precision: Mixed precision of the run that wrote the checkpoint.
        precision: Mixed precision of this run.

    Raises:
        ValueError: If settings or precision differ; all of them are named.
    """
    differences = dict(differences)
    if old_precision != precision:
        differences["mixed_precision"] = (old_precision, precision)
    if differences:
        listed = "; ".join(
            f"{name} was {old!r} and is now {new!r}" for name, (old, new) in differences.items()
        )
        raise ValueError(
            f"{checkpoint} belongs to a run with other settings: {listed}. Give the old settings "
            "to continue it, or another --output to start a new run."
        )


def require_same_processes(checkpoint: Path, old_number: int, number: int) -> None:
    """Refuse a checkpoint that another number of processes wrote, each of which has its own state.

    Args:
        checkpoint: Its folder.
        old_number: Processes of the run that wrote the checkpoint.
        number: Processes of this run.

    Raises:
        ValueError: If the numbers differ.
    """
    if old_number != number:
        raise ValueError(
            f"{checkpoint} was written by {old_number} processes, and there are {number} now. "
            "Start as many as before, or give another --output to start a new run."
        )
