"""What a line of `log.jsonl` says of a step."""

from collections.abc import Iterable
from typing import Any

from ..probing.organ_probe import number_names as probe_names
from .feed import Batch
from .objective import TERMS, term_name
from .plan import Position
from .schedules import Hyperparameters

PROBE_PREFIX = "probe/"

_OF_EVERY_STEP = (
    "epoch",
    "loss",
    "bad_records",
    "learning_rate",
    "weight_decay",
    "teacher_momentum",
    "gradient_norm",
    "samples",
    "seconds",
    "data_wait",
    "view_share",
)


def step_line(
    step: int,
    position: Position,
    values: dict[str, float],
    hyperparameters: Hyperparameters,
    gradient_norm: float,
    batches: list[Batch],
    samples: int,
    seconds: float,
) -> dict[str, Any]:
    """Put the line of a step together.

    Args:
        step: Optimiser steps taken before.
        position: Where the step stands.
        values: Losses, the teacher's entropies and the spreads of its features.
        hyperparameters: What the step was taken with.
        gradient_norm: Norm of all gradients before clipping.
        batches: What this process saw.
        samples: How many samples all processes saw.
        seconds: How long the step took.
    """
    return {
        "step": step,
        "epoch": position.epoch,
        "dimension": position.dimension,
        **values,
        "learning_rate": hyperparameters.learning_rate,
        "weight_decay": hyperparameters.weight_decay,
        "teacher_momentum": hyperparameters.teacher_momentum,
        "gradient_norm": gradient_norm,
        "samples": samples,
        "seconds": round(seconds, 4),
        "data_wait": round(sum(batch.seconds_waited for batch in batches) / seconds, 4),
        "view_share": round(sum(batch.seconds_on_views for batch in batches) / seconds, 4),
    }


def number_names(dimensions: Iterable[str], probed: bool = False) -> list[str]:
    """List the numbers that lines hold, of steps on some dimensions: all but `"step"`.

    Args:
        dimensions: The dimensions that a run trains on.
        probed: Whether its teacher is probed now and then.
    """
    dimensions = list(dimensions)
    names = dict.fromkeys(_OF_EVERY_STEP)
    for dimension in dimensions:
        for term in TERMS[dimension]:
            names |= dict.fromkeys((f"loss/{term_name(term)}", f"entropy/{term_name(term)}"))
        names |= dict.fromkeys(f"spread/{teacher}" for teacher, _ in TERMS[dimension])
    if probed:
        names |= dict.fromkeys(PROBE_PREFIX + name for name in probe_names(dimensions))
    return list(names)
