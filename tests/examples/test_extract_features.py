"""The example as a user calls it: in this process where it can be, as one of its own where not."""

import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas
import pytest
from PIL import Image

from unimiss_hf import MiTImageProcessor, MiTModel

SCRIPT = Path(__file__).parents[2] / "examples" / "extract_features.py"


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


def test_features_of_both_dimensions(call, tmp_path, images, volumes, model):
    output = tmp_path / "features.parquet"
    command = [images, volumes, "--model", model, "--output", output, "--patches"]
    code, told, _ = call(*command)
    assert code == 0
    assert told == f"Features: {output}  (12 of 12 inputs)\n"
    frame = pandas.read_parquet(output)
    assert sorted(frame["dimension"]) == ["2d"] * 8 + ["3d"] * 4
    code, told, _ = call(*command)
    assert code == 0
    assert told == f"Nothing new: {output} has the features of 12 of 12 inputs already.\n"


def test_bad_inputs_are_counted(call, tmp_path, images, model):
    (images / "0.png").write_bytes(b"nothing")
    output = tmp_path / "features.parquet"
    command = ["--model", model, "--output", output]
    code, told, _ = call(images, *command)
    assert code == 0
    errors = tmp_path / "features.errors.csv"
    assert told == (
        f"Bad inputs: 1, listed in {errors}; tried again next time.\n"
        f"Features: {output}  (7 of 8 inputs)\n"
    )
    output.unlink()
    code, told, mistakes = call(images / "0.png", *command)
    assert code == 1
    assert "error: none of 1 inputs gave features." in mistakes
    assert not output.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["images/77.png"], "error: There is no file or folder images/77.png"),
        (["images", "--model", "./modle"], "error: There is no folder ./modle with a model. Did"),
        (["images", "--batch_size", "0"], "error: batch_size is 0"),
        (["images", "--processor", '{"windows": 1}'], "error: There is no setting ['windows']"),
        (["images", "--output", "images"], "error: The output images is a folder"),
        (["images", "--batchsize", "2"], "no option --batchsize. Did you mean --batch_size?"),
        ([], "required: INPUT"),
    ],
)
def test_mistakes_are_told_in_a_sentence(
    call, tmp_path, images, model, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    code, _, mistakes = call("--model=model", "--output=features.parquet", *arguments)
    assert code != 0
    assert message in mistakes
    assert not list(tmp_path.glob("features*"))


def test_ctrl_c_stops_and_the_same_command_goes_on(call, tmp_path, model):
    """The first input is bad, so that it is seen on standard error when the run has begun."""
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "000.png").write_bytes(b"nothing")
    random = np.random.default_rng(0)
    for index in range(1, 400):
        pixels = random.integers(0, 255, (40, 40), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{index:03}.png")
    arguments = [tmp_path / "images", "--model", model, "--output", tmp_path / "features.parquet"]
    arguments += ["--batch_size", "1"]
    with subprocess.Popen(
        [sys.executable, str(SCRIPT), *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        for line in process.stderr:
            if line.startswith("bad: "):
                break
        process.send_signal(signal.SIGINT)
        told, mistakes = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Traceback" not in mistakes
    assert told.startswith("Stopped: ")
    assert told.endswith(" of 400 inputs have features.\nRun the same command again to continue.\n")
    before = int(told.split()[1])
    assert before < 399
    assert not (tmp_path / "features.parquet").exists()

    code, told, _ = call(*arguments)
    assert code == 0
    assert "(399 of 400 inputs)" in told
    assert pandas.read_parquet(tmp_path / "features.parquet")["name"].is_unique
