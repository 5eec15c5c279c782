"""The order of a run: which optimiser step belongs to which epoch, phase and dimension."""

import itertools
from bisect import bisect_right
from dataclasses import dataclass


@dataclass(frozen=True)
class Phase:
    """Consecutive epochs on one dimension, which alternate with the other's.

    Args:
        dimension: `"2d"` or `"3d"`.
        epochs: Epochs before the other dimension's turn.
        steps_per_epoch: Optimiser steps of one epoch.
    """

    dimension: str
    epochs: int
    steps_per_epoch: int

    def __post_init__(self):
        for name in ("epochs", "steps_per_epoch"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"{name} of the {self.dimension} phase is {getattr(self, name)}; at least 1 is "
                    "needed. A data set smaller than one batch gives no step: lower the batch size "
                    "or the accumulation."
                )


@dataclass(frozen=True)
class Position:
    """Where an optimiser step stands.

    Args:
        epoch: Epochs complete before it, of both dimensions together.
        dimension: `"2d"` or `"3d"`.
        step_in_epoch: Steps of its epoch complete before it.
    """

    epoch: int
    dimension: str
    step_in_epoch: int


class Plan:
    """All optimiser steps of a run, over a total that is known from the start.

    Args:
        phases: They take turns in this order until the run ends.
        epochs: How many epochs, of all dimensions together. Not with `max_steps`.
        max_steps: How many optimiser steps. Not with `epochs`.

    Raises:
        ValueError: If not exactly one of `epochs` and `max_steps` is given, or if it is not
            positive, or without phases.

    Example:

    ```python
    >>> plan = Plan([Phase("2d", 2, 100), Phase("3d", 2, 50)], epochs=200)
    >>> plan.total_steps, plan.position(250).dimension
    (15000, '3d')
    ```
    """

    def __init__(
        self, phases: list[Phase], epochs: int | None = None, max_steps: int | None = None
    ):
        if not phases:
            raise ValueError("A plan needs at least one phase.")
        if (epochs is None) == (max_steps is None):
            raise ValueError(
                f"Give either epochs or max_steps, got epochs={epochs}, max_steps={max_steps}."
            )
        if (epochs if max_steps is None else max_steps) < 1:
            raise ValueError(
                f"A run needs at least one step, got epochs={epochs}, max_steps={max_steps}."
            )
        dimensions, ends = [], [0]
        turns = itertools.chain.from_iterable([phase] * phase.epochs for phase in phases)
        for phase in itertools.cycle(list(turns)):
            if len(dimensions) == epochs or (max_steps is not None and ends[-1] >= max_steps):
                break
            dimensions.append(phase.dimension)
            ends.append(ends[-1] + phase.steps_per_epoch)
        self._dimensions = dimensions
        self._ends = ends
        self.total_steps = ends[-1] if max_steps is None else max_steps

    @property
    def epochs(self) -> int:
        """Number of epochs, the last of which `max_steps` may cut short."""
        return len(self._dimensions)

    def position(self, step: int) -> Position:
        """Tell where a step stands.

        Raises:
            IndexError: If the step is not one of the run's.
        """
        if not 0 <= step < self.total_steps:
            raise IndexError(f"Step {step} is not one of the run's {self.total_steps}.")
        epoch = bisect_right(self._ends, step) - 1
        return Position(epoch, self._dimensions[epoch], step - self._ends[epoch])

    def steps_before_epoch(self, epoch: int) -> int:
        """Count the steps before an epoch; the whole run's if it has no such epoch."""
        return min(self._ends[min(epoch, self.epochs)], self.total_steps)

    def remaining(self, step: int) -> dict[str, int]:
        """Count the steps still to come from `step` on, by dimension."""
        counts = dict.fromkeys(self._dimensions, 0)
        for epoch, dimension in enumerate(self._dimensions):
            begin = max(step, self._ends[epoch])
            counts[dimension] += max(0, min(self._ends[epoch + 1], self.total_steps) - begin)
        return counts
