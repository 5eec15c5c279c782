"""The scores of a probe, for people and for programs."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.whole_files import put_in_place
from .organ_probe import ProbeScores

_METHODS = {"knn": "k-NN", "linear": "linear"}


@dataclass(frozen=True)
class Probed:
    """One data set in one dimension, read by a network and by the same one with random weights.

    Attributes:
        task: what is told apart, in words.
        dimension: "2d" or "3d".
        num_train: cases to learn from.
        num_test: cases that are scored.
        chance: the accuracy of guessing; that of an AUROC is 0.5.
        pretrained: what the network's features reach.
        random: what those of random weights reach.
        notes: what must be known to read the scores.
    """

    task: str
    dimension: str
    num_train: int
    num_test: int
    chance: float
    pretrained: ProbeScores
    random: ProbeScores
    notes: tuple[str, ...] = ()


def as_text(probed: Probed) -> str:
    """Put the scores into a table: accuracies and AUROCs, of all classes and of each."""
    lines = [
        f"{probed.task}, {probed.dimension.upper()}: {probed.num_train} cases to learn from, "
        f"{probed.num_test} tested",
        "",
    ]
    columns = [
        (f"{title} {kind}", getattr(scores, method))
        for method, title in _METHODS.items()
        for kind, scores in (("", probed.pretrained), ("random", probed.random))
    ]
    names = list(probed.pretrained.knn.class_accuracies)
    width = max(len("balanced accuracy"), 2 + max(map(len, names)))
    heads = [title.strip() for title, _ in columns]
    lines.append(_row("", [*heads, "chance"], width))
    for title, mean, of_classes, chance in (
        ("balanced accuracy", "accuracy", "class_accuracies", probed.chance),
        ("AUROC", "auroc", "class_aurocs", 0.5),
    ):
        lines.append(_row(title, [*(getattr(one, mean) for _, one in columns), chance], width))
        for name in names:
            of_class = [getattr(one, of_classes)[name] for _, one in columns]
            lines.append(_row(f"  {name}", [*of_class, ""], width))
    lines += ["", *probed.notes] if probed.notes else []
    return "\n".join(lines)


def as_dict(probed: Probed) -> dict[str, Any]:
    """The same as plain values."""
    return dataclasses.asdict(probed)


def write_report(path: Path, settings: dict[str, Any], results: list[Probed]) -> None:
    """Write the scores as JSON, complete or not at all.

    Raises:
        OSError: If the file cannot be written.
    """
    content = {"settings": settings, "results": [as_dict(probed) for probed in results]}
    path.parent.mkdir(parents=True, exist_ok=True)
    with put_in_place(path, path.parent) as partial:
        partial.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")


def _row(title: str, cells: list[Any], width: int) -> str:
    shown = ["-" if cell is None else cell for cell in cells]
    texts = [f"{cell:.3f}" if isinstance(cell, float) else cell for cell in shown]
    return f"{title:<{width}}" + "".join(f"{text:>15}" for text in texts).rstrip()
