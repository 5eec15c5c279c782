"""Signs that self-distillation collapses."""

import math
from collections.abc import Mapping
from typing import Any

import torch


class CollapseMonitor:
    """Watches the teacher's entropy and the spread of its features over many steps.

    A collapsed teacher gives every sample the same answer: either one prototype (entropy near 0) or
    all of them alike (entropy near log K), from features that no longer spread.

    Args:
        num_prototypes: Number of prototypes K.
        patience: Steps in a row that must show a sign before it is told.
        momentum: Share of the old mean feature kept at a step.

    The spread is `sqrt(1 - |m|²)`, with m the running mean of the L2-normalised bottlenecks: 0 when
    all are equal, 1 when they point everywhere. It is a running mean because batches of volumes are
    small.
    """

    low_entropy = 0.02
    high_entropy = 0.995
    low_spread = 0.05

    def __init__(self, num_prototypes: int, patience: int = 50, momentum: float = 0.9):
        self.max_entropy = math.log(num_prototypes)
        self.patience = patience
        self.momentum = momentum
        self._means: dict[str, torch.Tensor] = {}
        self._streaks: dict[str, int] = {}

    def spread(self, output: str, mean_bottleneck: torch.Tensor) -> float:
        """Take in the mean bottleneck of a step, `(size,)`, and return the spread."""
        mean_bottleneck = mean_bottleneck.detach().double().cpu()
        if not mean_bottleneck.isfinite().all():
            return math.nan
        mean = self._means.get(output, mean_bottleneck)
        mean = self.momentum * mean + (1 - self.momentum) * mean_bottleneck
        self._means[output] = mean
        return math.sqrt(max(0.0, 1.0 - mean.square().sum().item()))

    def warnings(self, entropies: Mapping[str, float], spreads: Mapping[str, float]) -> list[str]:
        """Return a sentence, with numbers, for each sign that has now lasted `patience` steps.

        A sign that goes on is told again only after it has gone away, or after ten times as long.
        """
        signs = {}
        for term, entropy in entropies.items():
            share = entropy / self.max_entropy
            signs[f"low:{term}"] = (
                share < self.low_entropy,
                (
                    f"the teacher's entropy ({term}) is {entropy:.4f} nats, {share:.1%} of log K = "
                    f"{self.max_entropy:.3f}: it answers with few prototypes. A higher "
                    "teacher_temperature or a lower learning rate may help"
                ),
            )
            signs[f"high:{term}"] = (
                share > self.high_entropy,
                (
                    f"the teacher's entropy ({term}) is {entropy:.4f} nats, {share:.1%} of log K = "
                    f"{self.max_entropy:.3f}: it answers with all prototypes alike. A lower "
                    "teacher_temperature or a lower learning rate may help"
                ),
            )
        for output, spread in spreads.items():
            signs[f"spread:{output}"] = (
                spread < self.low_spread,
                (
                    f"the spread of the teacher's features ({output}) is {spread:.4f}, near 0: "
                    "samples are no longer told apart. A lower learning rate or more varied data "
                    "may help"
                ),
            )
        told = []
        for name, (present, sentence) in signs.items():
            streak = self._streaks[name] = self._streaks.get(name, 0) + 1 if present else 0
            if present and (streak == self.patience or streak % (10 * self.patience) == 0):
                told.append(f"Sign of collapse for {streak} steps: {sentence}.")
        return told

    def state_dict(self) -> dict[str, Any]:
        """Return what a continuation needs."""
        return {"means": dict(self._means), "streaks": dict(self._streaks)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what [`state_dict`] returned."""
        self._means = dict(state["means"])
        self._streaks = dict(state["streaks"])
