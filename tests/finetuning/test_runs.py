"""Whole runs: before and after, and one for each fold."""

import csv
import json
import shutil
import statistics
from pathlib import Path

import pytest
from accelerate import Accelerator

from unimiss_hf.finetuning import EvaluationSettings, evaluate_model, run_finetuning
from unimiss_hf.finetuning.runs import aggregate
from unimiss_hf.finetuning.task_data import open_task_data
from unimiss_hf.hub.results_in_cards import with_results


def read(path: Path):
    return json.loads(path.read_text())


def test_mean_and_deviation_worked_by_hand():
    found = aggregate({"fold 0": {"a": 1.0, "b": 3.0}, "fold 1": {"a": 2.0}, "fold 2": {"a": 6.0}})
    # squares of the distances from 3: 4 + 1 + 9, over 2
    assert found["a"]["mean"] == 3 and found["a"]["std"] == pytest.approx(7**0.5)
    assert found["a"]["folds"] == {"fold 0": 1.0, "fold 1": 2.0, "fold 2": 6.0}
    assert found["b"] == {"mean": 3.0, "std": None, "folds": {"fold 0": 3.0}}


def test_scores_before_and_after_training(finished):
    _, outcome = finished
    output = outcome.result.output
    before = read(output / "results_before_training.json")["scores"]
    after = read(output / "results.json")["scores"]
    assert before["cases"] == after["cases"] == 2
    assert outcome.numbers["before"]["mean Dice"] == before["dice"]["mean"]
    assert outcome.numbers["after"]["mean Dice"] == after["dice"]["mean"]
    assert before["dice"] != after["dice"]
    rows = list(csv.DictReader((output / "cases.csv").open()))
    assert [(row["case"], row["class"]) for row in rows] == [
        (f"imagesTs/case_0{number}", name) for number in (6, 7) for name in ("liver", "tumour")
    ]


def test_scoring_before_does_not_change_the_training(finished, settings):
    run, outcome = finished
    alone = run_finetuning(
        settings(max_steps=4, validate_every=2, evaluate=False, learning_rate=run.learning_rate)
    )
    losses = [
        [json.loads(line)["loss"] for line in (result.output / "log.jsonl").open()]
        for result in (outcome.result, alone.result)
    ]
    assert losses[0] == losses[1]
    assert alone.numbers == {} and not (alone.result.output / "results.json").exists()


def test_every_fold_is_run_and_what_is_finished_stays(settings):
    run = settings(folds=3, max_steps=1, validate_every=1)
    told = []
    outcome = run_finetuning(run, tell=told.append)
    output = Path(run.output)
    assert [text for text in told if text.startswith("Fold")] == [
        f"Fold {fold} of 3." for fold in range(3)
    ]
    folders = [output / f"fold-{fold}" for fold in range(3)]
    values = [read(folder / "results.json")["scores"]["dice"]["mean"] for folder in folders]
    results = read(output / "results.json")
    assert (results["folds"], results["task"], results["data"]["part"]) == (
        3,
        "segmentation",
        "test",
    )
    assert "| mean Dice | " in with_results("# Mine\n", results, "name")
    summary = results["scores"]["mean Dice"]
    assert summary["mean"] == pytest.approx(statistics.mean(values))
    assert summary["std"] == pytest.approx(statistics.stdev(values))
    assert outcome.numbers["mean"]["mean Dice"] == summary["mean"]
    tested = [
        {row["case"] for row in csv.DictReader((folder / "cases.csv").open())} for folder in folders
    ]
    # The official test split is in no fold: 6 patients, 2 in each.
    assert sorted(name for names in tested for name in names) == [
        f"imagesTr/case_0{number}" for number in range(6)
    ]

    logs = [(folder / "log.jsonl").read_bytes() for folder in folders]
    shutil.rmtree(folders[2])
    again = run_finetuning(run)
    assert again.result.finished
    assert [(folder / "log.jsonl").read_bytes() for folder in folders[:2]] == logs[:2]
    assert read(output / "results.json")["scores"]["mean Dice"] == summary


def test_one_fold_alone_is_scored_again_on_its_own_cases(settings, organs):
    run = settings(folds=3, fold=1, split_seed=7, max_steps=1, validate_every=1)
    output = run_finetuning(run).result.output
    assert output.name == "run"
    again = EvaluationSettings(
        str(output / "model"), str(organs), str(output / "again"), bootstrap=20, figures=False
    )
    evaluation = evaluate_model(again, Accelerator())
    assert [case.name for case in evaluation.cases] == [
        case.name for case in open_task_data(run).split.test
    ]
    assert (
        json.loads(json.dumps(evaluation.scores.summary)) == read(output / "results.json")["scores"]
    )


def test_pictures_of_a_segmentation(settings):
    run = settings(max_steps=1, validate_every=1, figures=True)
    files = [path for path in run_finetuning(run).files if path.suffix == ".png"]
    assert files[0].name == "curves.png"
    assert {path.name for path in files[1:]} == {
        f"imagesTs_case_0{number}.png" for number in (6, 7)
    }
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in files)


def test_pictures_of_a_classification(of_images):
    run = of_images(max_steps=1, validate_every=1, figures=True)
    files = [path for path in run_finetuning(run).files if path.suffix == ".png"]
    assert [path.name for path in files] == ["curves.png", "roc.png", "confusion.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in files)
