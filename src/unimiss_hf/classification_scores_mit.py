"""Scores of classes as labels, the best first."""

from __future__ import annotations

from typing import TypedDict

import torch

PROBLEM_TYPES = ("single_label_classification", "multi_label_classification", "regression")


class Classification(TypedDict):
    """A class and its score: a probability, or a regression's value."""

    label: str
    score: float


def ranked_labels(
    logits: torch.Tensor,
    id2label: dict[int, str] | None,
    problem_type: str | None,
    top_k: int | None,
) -> list[list[Classification]]:
    """Rank classes, see `MiTImageProcessor.post_process_classification`.

    `logits` is `(batch, classes)`, float32.

    Raises:
        ValueError: if the logits have another shape, `id2label` lacks a class, or an argument is
            not valid.
    """
    if logits.ndim != 2 or 0 in logits.shape:
        raise ValueError(f"Wanted logits (batch, classes); got shape {tuple(logits.shape)}.")
    classes = logits.shape[1]
    if problem_type is None:
        problem_type = PROBLEM_TYPES[classes == 1]
    if problem_type not in PROBLEM_TYPES:
        raise ValueError(f"problem_type must be one of {PROBLEM_TYPES}; got {problem_type!r}.")
    if top_k is not None and (not isinstance(top_k, int) or top_k < 1):
        raise ValueError(f"top_k must be a positive number of labels or None; got {top_k!r}.")
    names = {index: str(index) for index in range(classes)} if id2label is None else id2label
    missing = sorted(set(range(classes)) - names.keys())
    if missing:
        raise ValueError(f"id2label has no name for the classes {missing} of {classes}.")
    if problem_type == "single_label_classification":
        scores = logits.softmax(1)
    else:
        scores = logits.sigmoid() if problem_type == "multi_label_classification" else logits
    order = scores.argsort(dim=1, descending=True, stable=True)
    if problem_type == "regression":
        order = torch.arange(classes).expand_as(scores)
    return [
        [{"label": names[index], "score": row[index].item()} for index in chosen[:top_k].tolist()]
        for row, chosen in zip(scores, order, strict=True)
    ]
