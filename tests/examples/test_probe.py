"""The example as a user calls it."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unimiss_hf import MiTImageProcessor, MiTModel

SCRIPT = Path(__file__).parents[2] / "examples" / "probe.py"


@pytest.fixture
def model(tmp_path, small_config) -> str:
    MiTModel(small_config).save_pretrained(tmp_path / "model")
    MiTImageProcessor(image_size={"height": 32, "width": 32}).save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


@pytest.fixture
def call(monkeypatch, capsys):
    """Run the script with arguments; returns its exit code, standard output, standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        return ended.value.code, *capsys.readouterr()

    return run


def test_organs_of_the_sample_are_probed_in_both_dimensions(call, tmp_path, model):
    output = tmp_path / "scores" / "probe.json"
    small = ["--patch_size", 4, 32, 32, "--patches_per_class", 6]
    code, told, mistakes = call("--model", model, "--output", output, *small)
    assert code == 0, mistakes
    assert "of the sample CT, 2D: 42 cases to learn from, 21 tested" in told
    assert "of the sample CT, 3D: 42 cases to learn from, 21 tested" in told
    assert "All patches are of one patient" in told
    assert told.endswith(f"Scores: {output}\n")
    written = json.loads(output.read_text())
    assert written["settings"]["model"] == model
    assert [result["dimension"] for result in written["results"]] == ["2d", "3d"]
    for result in written["results"]:
        assert result["chance"] == pytest.approx(1 / 7)
        for weights in ("pretrained", "random"):
            for method in ("knn", "linear"):
                scores = result[weights][method]
                assert 0 <= scores["accuracy"] <= 1
                assert scores["accuracy"] == pytest.approx(
                    np.mean(list(scores["class_accuracies"].values()))
                )
                assert len(scores["class_aurocs"]) == 7
    # The same settings give the same scores.
    call("--model", model, "--output", tmp_path / "again.json", *small)
    assert json.loads((tmp_path / "again.json").read_text())["results"] == written["results"]


def test_patches_that_overlap_are_told(call, tmp_path, model):
    output = tmp_path / "probe.json"
    small = ["--patch_size", 20, 32, 32, "--patches_per_class", 2]
    code, told, _ = call("--model", model, "--output", output, *small)
    assert code == 0
    assert "Patches of both reach up to 12 mm into one another." in told


def test_a_labelled_data_set_is_probed(call, tmp_path, model):
    random = np.random.default_rng(0)
    for split in ("train", "validation", "test"):
        for number, name in enumerate(("normal", "pneumonia", "covid")):
            folder = tmp_path / "chestxr" / split / name
            folder.mkdir(parents=True)
            for index in range(4):
                pixels = random.integers(0, 60, (40, 48), dtype=np.uint8)
                pixels[:, 12 * number : 12 * number + 24] += 150
                Image.fromarray(pixels).save(folder / f"{name}_{index}.png")
    output = tmp_path / "probe.json"
    data = ["--dataset", tmp_path / "chestxr", "--layout", "chestxr", "--max_cases", 20]
    code, told, mistakes = call("--model", model, "--output", output, *data)
    assert code == 0, mistakes
    assert "ChestXR, 2D: 20 cases to learn from, 12 tested" in told
    assert "Of 24 cases to learn from, 20 were drawn." in told
    (result,) = json.loads(output.read_text())["results"]
    assert result["chance"] == pytest.approx(1 / 3)
    for weights in ("pretrained", "random"):
        assert list(result[weights]["linear"]["class_aurocs"]) == ["normal", "pneumonia", "covid"]
    # An option of the data set: without the folder `test`, 12 images are left to learn from.
    code, told, _ = call(
        "--model",
        model,
        "--output",
        output,
        *data,
        "--dataset_options",
        '{"test_split": "validation"}',
    )
    assert code == 0
    assert "12 tested" in told and "12 cases to learn from" in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: --model"),
        (["--model", "./modle"], "error: There is no folder ./modle with a model."),
        (["--model", "m", "--layout", "chestxr"], "layout is of a data set, and no --dataset"),
        (["--model", "m", "--max_cases", "3"], "max_cases is of a data set"),
        (["--model", "m", "--patches_per_class", "1"], "patches_per_class is 1; it must be 2"),
        (["--model", "m", "--batch_size", "0"], "batch_size is 0; it must be 1 or more"),
        (["--model", "m", "--seed", "-1"], "seed is -1; it must be 0 or more"),
        (["--model", "m", "--device", "tpu"], "device is 'tpu'; it must be one of"),
        (["--model", "m", "--output", "scores.csv"], "scores are JSON: name it *.json"),
        (["--model", "m", "--dataset_options", "a=1"], "dataset_options is 'a=1', which is not"),
        (
            ["--model", "m", "--data", "folder"],
            "there is no option --data. Did you mean --dataset?",
        ),
    ],
)
def test_mistyped_commands_are_explained(call, arguments, message):
    code, _, mistakes = call(*arguments)
    assert code in (1, 2)
    assert message in mistakes
