"""Learning rate, weight decay and teacher momentum of each optimiser step."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from .plan import Plan


def cosine(start: float, end: float, step: int, total: int) -> float:
    """Go from `start` at step 0 to `end` at step `total` along half a cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * step / total)) / 2


@dataclass(frozen=True)
class Hyperparameters:
    """What one optimiser step is taken with."""

    learning_rate: float
    weight_decay: float
    teacher_momentum: float
    prototypes_frozen: bool


@dataclass(frozen=True)
class Schedules:
    """The recipe's schedules over the steps of a plan (DINO, section 3.2; UniMiSS, section 4.1).

    They advance with each optimiser step over the known total, whatever the phases' lengths, so
    nothing jumps at an epoch's end. Only the learning rate's height follows the dimension, by the
    linear scaling rule: `base_learning_rate * global batch / 256`.

    Args:
        plan: The run's steps.
        global_batch_sizes: Samples per optimiser step over all processes and accumulation, for
            each dimension.
        base_learning_rate: Learning rate per 256 samples, reached after the warm-up.
        final_learning_rate: Learning rate at the end.
        warmup_epochs: Epochs in which the learning rate rises linearly from 0.
        weight_decay: Weight decay at the start.
        final_weight_decay: Weight decay at the end.
        teacher_momentum: Share of the old teacher kept at a step, at the start.
        final_teacher_momentum: The same at the end.
        frozen_prototype_epochs: First epochs in which the prototypes stay as they are.
    """

    plan: Plan
    global_batch_sizes: Mapping[str, int]
    base_learning_rate: float = 8e-4
    final_learning_rate: float = 1e-6
    warmup_epochs: int = 10
    weight_decay: float = 0.04
    final_weight_decay: float = 0.4
    teacher_momentum: float = 0.996
    final_teacher_momentum: float = 1.0
    frozen_prototype_epochs: int = 1

    def at(self, step: int) -> Hyperparameters:
        """Return the hyperparameters of a step.

        Raises:
            IndexError: If the step is not one of the plan's.
        """
        position = self.plan.position(step)
        total = self.plan.total_steps
        peak = self.base_learning_rate * self.global_batch_sizes[position.dimension] / 256
        warmup = self.plan.steps_before_epoch(self.warmup_epochs)
        if step < warmup:
            # the first step moves already, the last of the warm-up is at the peak
            learning_rate = peak * (step + 1) / warmup
        else:
            learning_rate = cosine(peak, self.final_learning_rate, step - warmup, total - warmup)
        return Hyperparameters(
            learning_rate=learning_rate,
            weight_decay=cosine(self.weight_decay, self.final_weight_decay, step, total),
            teacher_momentum=cosine(
                self.teacher_momentum, self.final_teacher_momentum, step, total
            ),
            prototypes_frozen=position.epoch < self.frozen_prototype_epochs,
        )
