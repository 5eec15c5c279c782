"""The example as a user calls it, rightly and wrongly."""

import json
import runpy
import sys
from pathlib import Path

import pytest

import finetuning_miniatures
from unimiss_hf.finetuning import FinetuningSettings, run_finetuning

SCRIPT = Path(__file__).parents[2] / "examples" / "evaluate.py"


@pytest.fixture(scope="module")
def chests(tmp_path_factory) -> Path:
    return finetuning_miniatures.findings(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def run(tmp_path_factory, chests) -> Path:
    """The folder of a finished run, scored."""
    folder = tmp_path_factory.mktemp("evaluate")
    settings = FinetuningSettings(
        output=str(folder / "run"),
        model=str(finetuning_miniatures.pretrained(folder / "pretrained")),
        dataset=str(chests),
        max_steps=2,
        validate_every=2,
        batch_size=3,
        bootstrap=20,
        figures=False,
    )
    return run_finetuning(settings).result.output


@pytest.fixture
def call(monkeypatch, capfd):
    """Run the script with arguments; returns its exit code, standard output, standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        return ended.value.code, *capfd.readouterr()

    return run


def scores_of(path: Path) -> dict:
    return json.loads(path.read_text())["scores"]


def test_the_numbers_of_the_run_come_back(call, tmp_path, run, chests):
    words = ["--model", run / "model", "--dataset", chests, "--output", tmp_path / "scores"]
    code, told, _ = call(*words, "--bootstrap", 20)
    assert code == 0
    assert scores_of(tmp_path / "scores" / "results.json") == scores_of(run / "results.json")
    assert told.split()[:2] == ["test", "auroc"]
    for name in ("results.json", "figures/roc.png", "figures/confusion.png"):
        assert f"Written: {tmp_path / 'scores' / name}\n" in told
    assert (tmp_path / "scores" / "cases.csv").read_text() == (run / "cases.csv").read_text()


def test_all_cases(call, tmp_path, run, chests):
    words = ["--model", run / "model", "--dataset", chests, "--output", tmp_path / "scores"]
    code, told, _ = call(*words, "--part", "all", "--no_figures", "--bootstrap", 0)
    assert code == 0
    assert told.split()[0] == "all"
    # 3 + 2 + 2 of each of three classes
    assert scores_of(tmp_path / "scores" / "results.json")["cases"] == 21


@pytest.mark.parametrize(
    ("changes", "told", "exit_code"),
    [
        (["--parts", "all"], "there is no option --parts. Did you mean --part", 2),
        (["--part", "every"], "part is 'every'; it must be one of train, validation, test, all", 1),
        (["--dataset", "{data}s"], "There is no folder", 1),
        (["--dataset", "{run}"], "does not look like ChestXR", 1),
        (["--model", "{run}/modell"], "Did you mean", 1),
        (["--model", "{run}"], "has no finetuning.json", 1),
        (["--mirror", "1"], "mirror is [1], but only segmentations are averaged", 1),
    ],
)
def test_mistakes_are_told_in_a_sentence(call, tmp_path, run, chests, changes, told, exit_code):
    words = ["--model", run / "model", "--dataset", chests, "--output", tmp_path / "scores"]
    given = [word.replace("{run}", str(run)).replace("{data}", str(chests)) for word in changes]
    code, _, error = call(*words, *given, "--no_figures")
    assert code == exit_code
    assert "Traceback" not in error
    lines = [line for line in error.splitlines() if "error: " in line]
    assert len(lines) == 1 and told in lines[0]
