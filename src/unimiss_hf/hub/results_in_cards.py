"""The numbers of a `results.json` in a card: its metadata, and a table in its text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from huggingface_hub import EvalResult
from huggingface_hub.repocard_data import (
    eval_results_to_model_index,
    model_index_to_eval_results,
)

from .card_fields import read_fields, with_fields
from .card_sections import with_section
from .score_tables import Score, scores_of, table_of

SCORES = "scores"
"""The section of a card that the table stands in."""

_TASKS = {
    "classification": ("image-classification", "Image Classification"),
    "segmentation": ("image-segmentation", "Image Segmentation"),
}


def with_results(card_text: str, results: Mapping[str, Any], name: str) -> str:
    """Put scores into a card: `metrics`, `model-index`, and a table in the text.

    The table stands between marks and is replaced when scores are put in again. In `model-index`,
    the results of the same data set and split are replaced, and those of others stay. Nothing else
    of the card changes. A number that is not there (a class that no case has) is left out, and the
    text says so.

    Args:
        card_text: The card.
        results: What fine-tuning wrote into `results.json`, of one run or over all folds of one.
        name: The model's, for `model-index`.

    Raises:
        ValueError: If these are no such results, or the card's metadata or marks are not as they
            should be.
    """
    scores = scores_of(results)
    data = results.get("data") or {}
    title = str(data.get("title", "not named"))
    part = str(data.get("part", "test"))
    task_type, task_name = _TASKS[_task_of(results)]
    new = [
        EvalResult(
            task_type=task_type,
            task_name=task_name,
            dataset_type=str(data.get("layout", "unknown")),
            dataset_name=title,
            dataset_split=part,
            metric_type=score.metric,
            metric_name=score.name,
            metric_value=round(score.value, 6),
        )
        for score in scores
        if score.value is not None
    ]
    fields = read_fields(card_text)
    kept = [old for old in _results_in(fields) if not _is_of_same_data(old, new, title, part)]
    metrics = dict.fromkeys([*_listed(fields.get("metrics")), *(r.metric_type for r in new)])
    index = eval_results_to_model_index(name, [*kept, *new]) if kept or new else None
    text = with_fields(card_text, {"metrics": list(metrics) or None, "model-index": index})
    return with_section(text, SCORES, _section(results, scores, title, part))


def _task_of(results: Mapping[str, Any]) -> str:
    task = results.get("task")
    if task is None:  # over folds, as earlier versions wrote it
        task = "segmentation" if "mean Dice" in results["scores"] else "classification"
    if task not in _TASKS:
        raise ValueError(
            f"The results are of the task {task!r}; wanted one of {', '.join(_TASKS)}. Give the "
            "results.json that fine-tuning or examples/evaluate.py wrote."
        )
    return task


def _results_in(fields: Mapping[str, Any]) -> list[EvalResult]:
    index = fields.get("model-index")
    if not index:
        return []
    try:
        return model_index_to_eval_results(index)[1]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"The card's model-index is not what the Hub takes ({error!r}). Put it right, or "
            "delete it."
        ) from error


def _is_of_same_data(old: EvalResult, new: list[EvalResult], title: str, part: str) -> bool:
    types = {result.dataset_type for result in new}
    return old.dataset_name == title and old.dataset_split == part and old.dataset_type in types


def _listed(value: Any) -> list[str]:
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)


def _section(results: Mapping[str, Any], scores: list[Score], title: str, part: str) -> str:
    heading = "all labelled cases" if part == "all" else f"the {part} split"
    return "\n\n".join([f"## Scores of {heading}", *table_of(results, scores, title)])
