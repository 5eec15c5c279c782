"""How long a run computed, and on what, from its log."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class ComputeRecord:
    """What is known of a run's use of machines.

    Attributes:
        hours: of its optimiser steps, over all restarts; without validation and scoring.
        processes: that trained side by side, each on a device.
        device: what each trained on.
    """

    hours: float
    processes: int
    device: str


def read_compute(
    log: Path, steps: int, processes: int, device: torch.device
) -> ComputeRecord | None:
    """Sum the times of a run's steps; a log of every tenth step stands for all.

    Args:
        log: The run's `log.jsonl`, whose lines hold `step`, from 0, and `seconds`.
        steps: How many steps were taken.
        processes: That train now.
        device: That this one trains on.

    Returns:
        The record; `None` if no line has a time.

    Raises:
        OSError: If the log is there and cannot be read.
    """
    seconds: dict[int, float] = {}
    if log.exists():
        for text in log.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                line = json.loads(text)
                step, duration = line["step"], line["seconds"]
            except (ValueError, KeyError, TypeError):
                continue  # torn by a kill
            if isinstance(duration, int | float) and step < steps:
                seconds[step] = duration
    if not seconds:
        return None
    mean = sum(seconds.values()) / len(seconds)
    return ComputeRecord(mean * steps / 3600, processes, device_name(device))


def device_name(device: torch.device) -> str:
    """What people call a device: a GPU's model, or how many threads of the CPU compute."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{device.type.upper()}, {threads} thread{'' if threads == 1 else 's'}"
