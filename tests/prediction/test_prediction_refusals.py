"""What cannot be predicted is refused before anything is computed."""

import shutil

import filelock
import numpy as np
import pytest
from PIL import Image

from unimiss_hf import MiTForSemanticSegmentation, MiTModel
from unimiss_hf.prediction import PredictionSettings, parse_settings, run_prediction
from unimiss_hf.prediction.network import load_network
from unimiss_hf.prediction.outputs import file_names, stem_of


def test_a_model_without_a_head_is_refused(images, make_settings, models, tmp_path):
    with pytest.raises(ValueError, match="holds MiTForPreTraining, which has no head for a task"):
        run_prediction([str(images)], make_settings("pretraining"))
    assert not (tmp_path / "out").exists()
    shutil.copytree(models["pretraining"], tmp_path / "encoder")
    MiTModel.from_pretrained(models["pretraining"]).save_pretrained(tmp_path / "encoder")
    with pytest.raises(ValueError, match="holds MiTModel, which has no head"):
        load_network(make_settings(model=str(tmp_path / "encoder")))


def test_weights_that_are_missing_are_told(make_settings, models, tmp_path):
    """A config that says what the weights are not."""
    for wanted, kind, lacking in (
        ("segmentation", "pretraining", "segmenter"),
        ("classification", "pretraining", "classifier"),
        ("segmentation", "overlapping", "segmenter.classifier"),
    ):
        folder = tmp_path / f"{wanted} {kind}"
        shutil.copytree(models[wanted], folder)
        shutil.copy(models[kind] / "model.safetensors", folder)
        with pytest.raises(ValueError, match=f"predictions would be random.*{lacking}"):
            load_network(make_settings(model=str(folder)))


def test_auxiliary_heads_are_not_needed(make_settings, models, tmp_path):
    model = MiTForSemanticSegmentation.from_pretrained(models["segmentation"])
    shutil.copytree(models["segmentation"], tmp_path / "published")
    model.drop_auxiliary_heads().save_pretrained(tmp_path / "published")
    for folder in (models["segmentation"], tmp_path / "published"):
        network = load_network(make_settings(model=str(folder)))
        assert network.task == "segmentation"
        assert network.model.auxiliary_heads is None
        assert not network.model.training


def test_two_inputs_with_the_same_files_are_refused(images, make_settings, tmp_path):
    shutil.copytree(images, tmp_path / "more")
    with pytest.raises(
        ValueError, match=r"of .*0\.png and .*0\.png would be the same files, 0\.\*"
    ):
        run_prediction([str(images), str(tmp_path / "more")], make_settings())
    # within the folder that holds both, their paths differ
    for folder in (images, tmp_path / "more"):
        shutil.move(folder, tmp_path / "both" / folder.name)
    assert run_prediction([str(tmp_path / "both")], make_settings()).num_predicted == 16
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(tmp_path / "both" / "images" / "1.tif")
    with pytest.raises(ValueError, match=r"images/1\.(png|tif) and .*images/1\.(png|tif)"):
        run_prediction([str(tmp_path / "both")], make_settings())


def test_no_file_of_the_users_is_replaced(images, make_settings, tmp_path):
    before = {path.name: path.read_bytes() for path in images.iterdir()}
    for word in (images, images / "0.png"):
        named = "lies in the folder of inputs" if word == images else "is not empty"
        with pytest.raises(ValueError, match=named):
            run_prediction([str(word)], make_settings(output=str(images)))
    with pytest.raises(ValueError, match="lies in the folder of inputs"):
        run_prediction([str(images)], make_settings(output=str(images / "predictions")))
    assert before == {path.name: path.read_bytes() for path in images.iterdir()}
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is a file; wanted the name of a folder"):
        run_prediction([str(images)], make_settings(output=str(tmp_path / "file")))


def test_two_processes_do_not_write_at_once(images, make_settings, tmp_path):
    (tmp_path / "out").mkdir()
    with (
        filelock.FileLock(tmp_path / "out" / ".lock"),
        pytest.raises(BlockingIOError, match="Another process writes to"),
    ):
        run_prediction([str(images)], make_settings())


def test_a_folder_that_cannot_be_written_is_told(images, make_settings, tmp_path):
    run_prediction([str(images / "0.png")], make_settings())
    (tmp_path / "out" / "1.png").mkdir()
    with pytest.raises(OSError, match=r"Cannot write .*out: .* What was written before remains"):
        run_prediction([str(images)], make_settings())


@pytest.mark.parametrize(
    ("place", "stem"),
    [
        ("patient/ct.nii.gz", "patient/ct"),
        ("ct.NII", "ct"),
        ("film.png", "film"),
        ("film.jpeg", "film"),
        ("IM1.dcm", "IM1"),
        ("a.npy", "a"),
        ("1.2.840.10008", "1.2.840.10008"),
        ("series", "series"),
        ("set_train/3", "set_train/3"),
        ("a;b.png", "a_b"),
        (".png", ".png"),
    ],
)
def test_stems(place, stem):
    assert stem_of(place) == stem


def test_classes_have_names_of_files_of_their_own():
    names = ["left lung", "a/b", "a b", "Heart", "heart", "Läsion", "+"]
    assert file_names(names) == [
        "left_lung",
        "a_b_1",
        "a_b_2",
        "Heart_3",
        "heart_4",
        "Läsion",
        "class",
    ]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"overlap": 1.0}, "overlap is 1.0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"workers": -1}, "workers is -1"),
        ({"device": "gpu"}, "device is 'gpu'; it must be auto or cpu or cuda"),
        ({"mirror": [0, 0]}, r"mirror is \[0, 0\]; wanted different axes"),
        ({"mirror": [3]}, r"mirror is \[3\]"),
        ({"output": ""}, "model and output must be given"),
        ({"processor": "[1]"}, "wanted settings by name"),
        ({"processor": "{"}, "which is not JSON"),
        ({"source_spacing": [1.0, 2.0]}, "source_spacing"),
    ],
)
def test_settings_that_cannot_be_had_are_told(changes, named):
    with pytest.raises(ValueError, match=named):
        PredictionSettings(**{"model": "m", "output": "o", **changes})


def test_the_words_of_a_command():
    words, settings = parse_settings(
        [
            *("a.png", "b", "--model", "m", "--output", "o", "--probabilities"),
            *("--mirror", "2", "0", "--overlap", "0.25", "--processor", '{"window": "lung"}'),
        ]
    )
    assert words == ["a.png", "b"]
    expected = PredictionSettings(
        model="m",
        output="o",
        probabilities=True,
        mirror=[0, 2],
        overlap=0.25,
        processor={"window": "lung"},
    )
    assert settings == expected
