"""Scores as files: `results.json`, a csv with a row for each case, pictures."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from .. import __version__
from .scoring import Scores


def write_results(
    scores: Scores, folder: Path, about: dict[str, Any], stem: str = "results"
) -> Path:
    """Write scores into a folder: `results.json` and `cases.csv`.

    Args:
        scores: What was found.
        folder: It is made if it is not there.
        about: What the scores are of: the data set, the split, the model.
        stem: Other names: `STEM.json` and `STEM_cases.csv`.

    Returns:
        The path of the json file.

    Raises:
        OSError: If they cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / ("cases.csv" if stem == "results" else f"{stem}_cases.csv")
    names = list(dict.fromkeys(name for row in scores.rows for name in row))
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(scores.rows)
    path = folder / f"{stem}.json"
    content = {"unimiss_hf": __version__, **about, "scores": scores.summary}
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return path


def main_numbers(summary: dict[str, Any], is_segmentation: bool) -> dict[str, float]:
    """Pick the numbers that a line on a terminal shows, from a summary of scores."""
    if is_segmentation:
        dice = summary["dice"]
        shown = {f"Dice of {n}": row["mean"] for n, row in dice["per_class"].items()}
        numbers = {"mean Dice": dice["mean"], **shown}
    else:
        names = ("auroc", "average_precision", "accuracy", "f1", "mean_absolute_error", "r2")
        numbers = {name: summary.get(name) for name in names}
    return {name: value for name, value in numbers.items() if value is not None}


def comparison_table(columns: dict[str, dict[str, float]]) -> str:
    """Lay numbers out in columns, such as before and after training.

    Args:
        columns: title → name → number; a number that one column lacks is left empty.
    """
    names = list(dict.fromkeys(name for numbers in columns.values() for name in numbers))
    width = max((len(name) for name in names), default=0)
    lines = [" " * width + "".join(f"{title:>12}" for title in columns)]
    for name in names:
        cells = (
            f"{numbers[name]:>12.4f}" if name in numbers else " " * 12
            for numbers in columns.values()
        )
        lines.append(f"{name:<{width}}" + "".join(cells))
    return "\n".join(lines)
