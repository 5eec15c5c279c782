"""How well images are classified and structures segmented: functions, and `evaluate` modules.

`classification_scores` and `segmentation_scores` are what fine-tuning calls. Each folder is a
module of the evaluate library, which `load_metric` opens without a network.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..input_checks_mit import did_you_mean, near_names

METRICS = (
    "auroc",
    "average_precision",
    "accuracy",
    "f1",
    "sensitivity_at_specificity",
    "dice",
    "surface_dice",
    "hausdorff95",
    "average_surface_distance",
)

__all__ = ["METRICS", "load_metric"]


def load_metric(name: str, **kwargs: Any) -> Any:
    """Open one of the metrics as an `evaluate.Metric`. Needs no network.

    evaluate copies the metric's file to its cache under `HF_HOME`, which must be writable. What is
    added to a metric stays in memory, for evaluate leaves a file of it behind where computing ends
    in an error; `keep_in_memory=False` and several processes (`num_process`) use files.

    Args:
        name: one of `METRICS`.
        kwargs: what `evaluate.load` takes beside the path.

    Raises:
        ValueError: if there is no such metric.
        ImportError: if another `evaluate.py`, beside the script that runs, hides the library.

    ```python
    >>> dice = load_metric("dice")
    >>> dice.compute(predictions=[[[0, 1]]], references=[[[0, 1]]], spacing=(1.0, 1.0))["dice"]
    1.0
    ```
    """
    if name not in METRICS:
        near = did_you_mean(near_names(str(name), METRICS, 0.6))
        raise ValueError(f"There is no metric {name!r}; there are {', '.join(METRICS)}.{near}")
    # It takes seconds to import, which whoever calls the functions need not wait for.
    import evaluate

    if not hasattr(evaluate, "load"):
        # A folder without __init__.py has no file, but a path.
        place = evaluate.__file__ or next(iter(evaluate.__path__))
        raise ImportError(
            f"Metrics need the library evaluate, but {place} was imported in its place, as Python "
            "looks first in the folder of the script that runs or in the working folder. Run from "
            "another folder, or rename it. If the library is missing: pip install evaluate."
        )
    kwargs.setdefault("keep_in_memory", kwargs.get("num_process", 1) == 1)
    return evaluate.load(str(Path(__file__).parent / name), **kwargs)
