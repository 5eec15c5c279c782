"""Which checkpoint of a run is the best, by one of the numbers that it logs."""

import math
from collections.abc import Mapping
from typing import Any

MODES = ("min", "max")


class Ranking:
    """Judges each checkpoint by the mean of a number over the steps since the one before.

    A single step says little: its batch is small, and a step on images has other numbers than one
    on volumes. Steps that do not have the number do not count; where none has it, or where it was
    not finite, the checkpoint is not judged.

    Nothing is kept over a restart: a run continues from a checkpoint, where the mean begins anew.

    Args:
        metric: Name of the number, as in `log.jsonl`.
        mode: `"min"` if less of it is better, `"max"` if more is.

    Raises:
        ValueError: If `mode` is neither.

    ```python
    >>> ranking = Ranking("loss")
    >>> for loss in (3.0, 2.0):
    ...     ranking.observe({"loss": loss})
    >>> ranking.take()
    2.5
    ```
    """

    def __init__(self, metric: str, mode: str = "min"):
        if mode not in MODES:
            raise ValueError(f"The mode of a ranking is {mode!r}; it must be 'min' or 'max'.")
        self.metric = metric
        self.mode = mode
        self._sum, self._count = 0.0, 0

    def observe(self, values: Mapping[str, Any]) -> None:
        """Take in the numbers of a step."""
        if self.metric in values:
            self._sum += values[self.metric]
            self._count += 1

    def take(self) -> float | None:
        """Return the mean since the last call, or `None` where there is none, and begin anew."""
        mean = self._sum / self._count if self._count else math.nan
        self._sum, self._count = 0.0, 0
        return mean if math.isfinite(mean) else None

    def key(self, value: float) -> float:
        """Return what is least for the best value."""
        return value if self.mode == "min" else -value
