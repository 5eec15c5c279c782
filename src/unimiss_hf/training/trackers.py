"""Trackers that a run reports to beside its log: TensorBoard, trackio, W&B."""

from collections.abc import Mapping, Sequence
from typing import Any

from accelerate import Accelerator


def check_trackers(accelerator: Accelerator, wanted: Sequence[str]) -> None:
    """Refuse trackers that Accelerate passes over.

    Raises:
        ValueError: If one is not installed or not known.
    """
    missing = set(wanted) - {str(tracker) for tracker in accelerator.log_with}
    if missing:
        raise ValueError(
            f"The trackers {sorted(missing)} are not installed or not known. Install them, as with "
            "pip install tensorboard, or leave them out of report_to."
        )


def begin_trackers(accelerator: Accelerator, settings: Mapping[str, Any], step: int) -> None:
    """Start the trackers of a run, which may go on at a step.

    Args:
        accelerator: Knows the trackers.
        settings: What they show of the run; other than scalars is shown as text.
        step: Optimiser steps taken before. What an earlier run showed of later ones is shown no
            more, where a tracker can.
    """
    flat = {
        name: value if isinstance(value, (int, float, str, bool)) else str(value)
        for name, value in settings.items()
    }
    purge = {"tensorboard": {"purge_step": step}} if step else {}
    accelerator.init_trackers("unimiss", config=flat, init_kwargs=purge)
