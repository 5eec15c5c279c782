"""The curves of a run of fine-tuning."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..drawing import new_figure, save_figure
from ..training.run_log import RunLog
from .validation import PREFIX

_MEAN_OVER = 20


def draw_curves(log: Path, target: Path, metric: str) -> Path:
    """Draw loss, learning rate and validation over the steps of a run.

    Args:
        log: Its `log.jsonl`.
        target: The picture to write.
        metric: The number of the validation that chose the best checkpoint.

    Returns:
        The picture's path.

    Raises:
        ValueError: If the log has no step.
        ImportError: If matplotlib is missing.
    """
    lines = RunLog(log).read()
    if not lines:
        raise ValueError(f"{log} has no step to draw.")
    steps = np.array([line["step"] for line in lines])
    losses = np.array([np.nan if line["loss"] is None else line["loss"] for line in lines])
    validations = [line for line in lines if line.get(f"{PREFIX}{metric}") is not None]
    figure = new_figure(10, 3.6)
    loss, rate, score = figure.subplots(1, 3)
    loss.plot(steps, losses, color="lightgrey", linewidth=0.8)
    count = min(_MEAN_OVER, len(losses))
    means = np.convolve(losses, np.full(count, 1 / count), mode="valid")
    loss.plot(steps[count - 1 :], means, color="C0")
    loss.set(title=f"loss, and its mean over {count} lines", xlabel="step")
    rate.plot(steps, [line["learning_rate"] for line in lines], color="C1")
    rate.set(title="learning rate", xlabel="step")
    places = [line["step"] + 1 for line in validations]
    score.plot(places, [line[f"{PREFIX}{metric}"] for line in validations], "o-", color="C2")
    score.set(title=f"validation {metric}", xlabel="step")
    return save_figure(figure, target)
