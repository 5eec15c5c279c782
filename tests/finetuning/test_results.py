"""Scores as files and as columns on a terminal."""

import csv
import json

import pytest

from unimiss_hf.finetuning import comparison_table, main_numbers, write_results
from unimiss_hf.finetuning.scoring import Scores

ROWS = [{"case": "a", "dice": 0.5}, {"case": "b", "dice": None, "hausdorff95": 3.0}]


def test_a_folder_gets_a_summary_and_a_row_for_each_case(tmp_path):
    path = write_results(Scores({"cases": 2}, ROWS), tmp_path / "new", {"task": "segmentation"})
    assert path == tmp_path / "new" / "results.json"
    written = json.loads(path.read_text())
    assert (written["task"], written["scores"]) == ("segmentation", {"cases": 2})
    rows = list(csv.DictReader((tmp_path / "new" / "cases.csv").open()))
    assert rows == [
        {"case": "a", "dice": "0.5", "hausdorff95": ""},
        {"case": "b", "dice": "", "hausdorff95": "3.0"},
    ]


def test_other_names(tmp_path):
    write_results(Scores({}, ROWS), tmp_path, {}, "before")
    assert {path.name for path in tmp_path.iterdir()} == {"before.json", "before_cases.csv"}


def test_no_number_that_json_has_not(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_results(Scores({"dice": float("nan")}, ROWS), tmp_path, {})


def test_main_numbers():
    dice = {"mean": 0.5, "per_class": {"liver": {"mean": 0.5}, "tumour": {"mean": None}}}
    assert main_numbers({"dice": dice}, True) == {"mean Dice": 0.5, "Dice of liver": 0.5}
    assert main_numbers({"auroc": 0.9, "f1": None, "cases": 3}, False) == {"auroc": 0.9}


def test_columns():
    table = comparison_table({"before": {"auroc": 0.5, "f1": 0.25}, "after": {"auroc": 0.75}})
    assert table.splitlines() == [
        "           before       after",
        "auroc      0.5000      0.7500",
        "f1         0.2500            ",
    ]


def test_no_numbers_make_an_empty_table():
    assert comparison_table({"after": {}}).split() == ["after"]
