"""The example as a user calls it."""

import runpy
import sys
from pathlib import Path

import nibabel
import pytest

from unimiss_hf import MiTForPreTraining, MiTForSemanticSegmentation, MiTImageProcessor

SCRIPT = Path(__file__).parents[2] / "examples" / "predict.py"


@pytest.fixture
def model(tmp_path, small_config) -> str:
    small_config.id2label = {0: "background", 1: "heart"}
    for name, model_class in (
        ("model", MiTForSemanticSegmentation),
        ("start", MiTForPreTraining),
    ):
        model_class(small_config).save_pretrained(tmp_path / name)
        MiTImageProcessor(image_size={"height": 32, "width": 32}).save_pretrained(tmp_path / name)
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


def test_radiographs_and_volumes(call, tmp_path, images, volumes, model):
    (tmp_path / "data").mkdir()
    for folder in (images, volumes):
        folder.rename(tmp_path / "data" / folder.name)
    out = tmp_path / "out"
    command = [tmp_path / "data", "--model", model, "--output", out]
    code, told, _ = call(*command)
    assert code == 0
    assert told == f"Predictions: {out / 'predictions.csv'}  (12 of 12 inputs, 12 new)\n"
    assert nibabel.load(out / "volumes" / "3.nii.gz").shape == (44, 40, 6)
    code, told, _ = call(*command)
    assert code == 0
    assert told == f"Predictions: {out / 'predictions.csv'}  (12 of 12 inputs, nothing new)\n"


def test_bad_inputs_end_with_an_error(call, tmp_path, images, model):
    (images / "0.png").write_bytes(b"nothing")
    out = tmp_path / "out"
    code, told, mistakes = call(images, "--model", model, "--output", out)
    assert code == 1
    assert told == f"Predictions: {out / 'predictions.csv'}  (7 of 8 inputs, 7 new)\n"
    assert f"error: 1 inputs gave no prediction, listed in {out / 'errors.csv'}" in mistakes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["images/77.png"], "error: There is no file or folder images/77.png"),
        (["images", "--model", "./modle"], "error: There is no folder ./modle with a model. Did"),
        (["images", "--model", "start"], "error: start holds MiTForPreTraining, which has no head"),
        (["images", "--batch_size", "0"], "error: batch_size is 0"),
        (["images", "--processor", '{"windows": 1}'], "error: There is no setting ['windows']"),
        (["images", "--output", "images"], "error: The output images lies in the folder of inputs"),
        (["images", "--batchsize", "2"], "no option --batchsize. Did you mean --batch_size?"),
        ([], "required: INPUT"),
    ],
)
def test_mistakes_are_told_in_a_sentence(
    call, tmp_path, images, model, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    code, _, mistakes = call("--model=model", "--output=out", *arguments)
    assert code != 0
    assert message in mistakes
    assert not (tmp_path / "out").exists()
