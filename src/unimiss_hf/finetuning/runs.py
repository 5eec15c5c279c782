"""Whole runs: training, scores of the best checkpoint, figures; one run, or one for each fold."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator

from .. import __version__
from ..data.whole_files import put_in_place
from ..hub.results_in_cards import with_results
from .curves import draw_curves
from .evaluation import EvaluationSettings, evaluate_model
from .figures import draw_scores
from .loop import Finetuner, RunResult
from .results import main_numbers, write_results
from .scoring import ScoringSettings, score_cases
from .settings import FinetuningSettings

_BEFORE = "results_before_training"


@dataclass(frozen=True)
class Outcome:
    """What a run, or all folds of one, have left.

    Attributes:
        result: how the run ended; of folds, how the last one did.
        numbers: title → name → number, to be shown: the scores, and those before training.
        files: what was written, to be named.
        is_main_process: whether this process is the one that tells of it.
    """

    result: RunResult
    is_main_process: bool
    numbers: dict[str, dict[str, float]] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)


def run_finetuning(
    settings: FinetuningSettings,
    accelerator: Accelerator | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> Outcome:
    """Run fine-tuning to its end: train, score the best checkpoint on the test split, draw.

    With `folds` and no `fold`, every fold is run into a folder of its own, and `results.json` holds
    the mean over them. Stopped at any time, it goes on where it was; what is finished stays.

    Args:
        settings: Settings of the run.
        accelerator: The processes; by default what `accelerate launch` says.
        tell: Takes sentences on what goes on behind training, on the main process.

    Raises:
        ValueError, OSError, NonFiniteLossError: As [`Finetuner`] and [`evaluate_model`] do.
    """
    accelerator = accelerator or Accelerator(
        log_with=settings.report_to or None, project_dir=settings.output
    )
    if not accelerator.is_main_process:
        tell = _say_nothing
    try:
        if settings.folds is None or settings.fold is not None:
            return _run_one(settings, accelerator, tell)
        return _run_folds(settings, accelerator, tell)
    finally:
        accelerator.end_training()


def _say_nothing(text: str) -> None:
    """Another process tells the same."""


def _run_one(
    settings: FinetuningSettings, accelerator: Accelerator, tell: Callable[[str], None]
) -> Outcome:
    finetuner = Finetuner(settings, accelerator)
    output = Path(settings.output)
    if settings.score_before and finetuner.state.step == 0:
        _score_before(finetuner, output, tell)
    result = finetuner.run()
    if not result.finished:
        return Outcome(result, accelerator.is_main_process)
    files: list[Path] = []
    numbers: dict[str, dict[str, float]] = {}
    before = output / f"{_BEFORE}.json"
    is_segmentation = finetuner.task.is_segmentation
    if before.is_file():
        numbers["before"] = main_numbers(json.loads(before.read_text())["scores"], is_segmentation)
    if settings.figures and accelerator.is_main_process:
        files.append(draw_curves(output / "log.jsonl", output / "curves.png", finetuner.metric))
    if settings.evaluate:
        evaluation = evaluate_model(_of_the_end(settings, result.model), accelerator, tell)
        numbers["after"] = main_numbers(evaluation.scores.summary, is_segmentation)
        if accelerator.is_main_process:
            results = write_results(evaluation.scores, output, evaluation.about)
            files.append(results)
            put_scores_into_card(results, result.model / "README.md", settings, tell)
            if settings.figures:
                files += draw_scores(evaluation, output / "figures")
    accelerator.wait_for_everyone()
    return Outcome(result, accelerator.is_main_process, numbers, files)


def put_scores_into_card(
    results: Path, card: Path, settings: FinetuningSettings, tell: Callable[[str], None]
) -> None:
    """Put scores into the card of a finished model; one that cannot take them stays, and is told.

    Args:
        results: The run's `results.json`.
        card: The model's `README.md`; nothing is done if there is none.
        settings: Of the run.
        tell: Takes a sentence for the user.

    Raises:
        OSError: If the card cannot be written.
    """
    if not card.is_file():
        return
    name = (settings.push_to_hub or Path(settings.output).resolve().name).rpartition("/")[2]
    try:
        text = card.read_bytes().decode()
        text = with_results(text, json.loads(results.read_text(encoding="utf-8")), name)
    except ValueError as error:
        tell(f"Warning: the scores are not in {card}: {error}")
        return
    with put_in_place(card, card.parent) as partial:
        partial.write_bytes(text.encode())


def _score_before(finetuner: Finetuner, output: Path, tell: Callable[[str], None]) -> None:
    settings, task, accelerator = finetuner.settings, finetuner.task, finetuner.accelerator
    tell(f"Scoring {len(task.split.test)} test cases before training.")
    scoring = ScoringSettings(
        finetuner.windows, specificity=settings.specificity, bootstrap=0, surfaces=False
    )
    scores = score_cases(
        finetuner.state.model,
        finetuner.processor,
        task.data,
        task.split.test,
        task.is_segmentation,
        scoring,
        accelerator,
    )
    if accelerator.is_main_process:
        write_results(scores, output, {"about": "the test split before training"}, _BEFORE)


def _of_the_end(settings: FinetuningSettings, model: Path) -> EvaluationSettings:
    return EvaluationSettings(
        model=str(model),
        dataset=settings.dataset,
        output=settings.output,
        layout=settings.layout,
        layout_options=settings.layout_options,
        window_batch_size=settings.window_batch_size,
        mirror=settings.mirror,
        surface_tolerance=settings.surface_tolerance,
        specificity=settings.specificity,
        bootstrap=settings.bootstrap,
        figures=settings.figures,
    )


def _run_folds(
    settings: FinetuningSettings, accelerator: Accelerator, tell: Callable[[str], None]
) -> Outcome:
    output = Path(settings.output)
    cache = settings.cache_folder or str(output / "prepared")
    columns: dict[str, dict[str, float]] = {}
    files: list[Path] = []
    for fold in range(settings.folds):
        tell(f"Fold {fold} of {settings.folds}.")
        of_fold = dataclasses.replace(
            settings, fold=fold, output=str(output / f"fold-{fold}"), cache_folder=cache
        )
        outcome = _run_one(of_fold, accelerator, tell)
        accelerator.free_memory()  # else it holds the models of all folds
        if not outcome.result.finished:
            return outcome
        files += outcome.files
        if "after" in outcome.numbers:
            columns[f"fold {fold}"] = outcome.numbers["after"]
    if columns:
        summary = aggregate(columns)
        columns |= {"mean": {name: row["mean"] for name, row in summary.items()}}
        spread = {name: row["std"] for name, row in summary.items() if row["std"] is not None}
        columns |= {"std": spread}
        path = output / "results.json"
        if accelerator.is_main_process:
            about = _about_all(output / f"fold-{settings.folds - 1}" / "results.json")
            content = {
                "unimiss_hf": __version__,
                **about,
                "folds": settings.folds,
                "scores": summary,
            }
            with put_in_place(path, output) as partial:
                partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        files.append(path)
    return Outcome(outcome.result, accelerator.is_main_process, columns, files)


def _about_all(results: Path) -> dict[str, Any]:
    """What the results of one fold say that is true of all."""
    about = json.loads(results.read_text(encoding="utf-8"))
    data = {name: about["data"][name] for name in ("layout", "title", "options", "part")}
    return {"data": data, "task": about["task"], "dimension": about["dimension"]}


def aggregate(columns: dict[str, dict[str, float]]) -> dict[str, dict[str, Any]]:
    """Take mean and standard deviation (of the sample) of each number over folds.

    Args:
        columns: fold → name → number.

    Returns:
        name → "mean", "std" (`None` over one fold), "folds": the numbers that they are of, with the
        fold's name; a number that a fold lacks is not counted as anything.
    """
    names = list(dict.fromkeys(name for numbers in columns.values() for name in numbers))
    summary = {}
    for name in names:
        found = {fold: numbers[name] for fold, numbers in columns.items() if name in numbers}
        values = list(found.values())
        summary[name] = {
            "mean": float(np.mean(values)),
            "std": float(np.std(values, ddof=1)) if len(values) > 1 else None,
            "folds": found,
        }
    return summary
