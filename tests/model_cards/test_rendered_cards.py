"""The cards in `model_cards`: a program writes them, and the Hub takes them."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.repocard import metadata_load

from card_validation import card_errors

FOLDER = Path(__file__).parents[2] / "model_cards"
PROGRAM = FOLDER / "render.py"
CARDS = sorted(FOLDER.glob("*.md"))
RESULTS = {
    "task": "classification",
    "data": {"layout": "chestxr", "title": "ChestXR", "part": "test"},
    "scores": {"accuracy": 0.5, "auroc": 0.75, "cases": 4},
}


@pytest.fixture(scope="module")
def render():
    """The program as a module, which is imported once for all tests."""
    spec = importlib.util.spec_from_file_location("render_model_cards", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def test_cards_are_what_the_program_writes():
    command = [sys.executable, str(PROGRAM), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_is_one_for_every_recipe_and_size():
    recipes = (FOLDER.parent / "recipes").glob("finetune_*.yaml")
    wanted = {path.stem.removeprefix("finetune_").replace("_", "-") for path in recipes}
    found = {path.stem.removeprefix("unimiss-mit-") for path in CARDS}
    assert found == wanted | {"tiny", "small", "plus"}


@pytest.mark.parametrize("card", CARDS, ids=lambda path: path.stem)
def test_the_hub_takes_a_card(card):
    text = card.read_text(encoding="utf-8")
    assert card_errors(text) == []
    metadata = metadata_load(card)
    assert metadata == yaml.safe_load(text.split("---\n")[1])
    assert ModelCard(text).data.to_dict() == metadata
    for heading in ("Intended use", "What not to use it for", "Training data and licence"):
        assert f"## {heading}\n" in text
    assert "## Environmental figures\n" in text and "xie2022unimiss" in text
    # what was not filled in, or cannot be shown
    assert not re.search(r"\{\{|\{%|\bNone \||undefined", text)


def test_what_does_not_exist_is_not_opened():
    text = (FOLDER / "unimiss-mit-plus.md").read_text(encoding="utf-8")
    assert "It is planned." in text
    assert "```python" not in text and "library_name" not in text


def test_stale_missing_and_foreign_cards_are_named(render, tmp_path, capsys):
    assert render(["--folder", str(tmp_path)]) == 0
    (tmp_path / "unimiss-mit-btcv.md").write_text("changed")
    (tmp_path / "unimiss-mit-nlst.md").unlink()
    (tmp_path / "nobodys.md").write_text("new")
    assert render(["--check", "--folder", str(tmp_path)]) == 1
    named = re.findall(r"([\w-]+)\.md is stale", capsys.readouterr().out)
    assert named == ["nobodys", "unimiss-mit-btcv", "unimiss-mit-nlst"]


def test_scores_of_a_run_go_into_its_card_alone(render, tmp_path):
    (tmp_path / "results.json").write_text(json.dumps(RESULTS))
    pair = f"unimiss-mit-chestxr={tmp_path / 'results.json'}"
    assert render(["--folder", str(tmp_path / "cards"), "--results", pair]) == 0
    assert render(["--folder", str(tmp_path / "without")]) == 0
    written, without = (
        {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / name).glob("*.md")}
        for name in ("cards", "without")
    )
    text = written["unimiss-mit-chestxr.md"]
    assert card_errors(text) == []
    assert {found.metric_value for found in ModelCard(text).data.eval_results} == {0.5, 0.75}
    changed = {name for name, text in written.items() if without[name] != text}
    assert changed == {"unimiss-mit-chestxr.md"}


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("unimiss-mit-chestxr", "wanted NAME=FILE"),
        ("nobody={file}", "no recipe of fine-tuning for nobody"),
        ("unimiss-mit-chestxr={folder}/none.json", "No such file"),
        ("unimiss-mit-chestxr={file}", "is not JSON"),
    ],
)
def test_results_that_cannot_be_had_are_told(render, tmp_path, capsys, pair, message):
    file = tmp_path / "results.json"
    file.write_text("{" if "JSON" in message else json.dumps(RESULTS))
    pair = pair.format(file=file, folder=tmp_path)
    with pytest.raises(SystemExit):
        render(["--folder", str(tmp_path / "cards"), "--results", pair])
    assert message in capsys.readouterr().err
    assert not (tmp_path / "cards").exists()
