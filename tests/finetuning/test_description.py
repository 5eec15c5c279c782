"""What a fine-tuned model's folder says of its task."""

import json

import pytest
from accelerate import Accelerator

from unimiss_hf import MiTImageProcessor
from unimiss_hf.finetuning import EvaluationSettings, evaluate_model
from unimiss_hf.finetuning.description import TaskDescription, window_settings
from unimiss_hf.finetuning.task_data import open_task_data

NATIVE = MiTImageProcessor()


def describe(settings):
    return TaskDescription.of(settings, open_task_data(settings), NATIVE)


def test_there_and_back(settings, tmp_path):
    description = describe(settings(folds=3, fold=1, split_seed=7))
    description.save(tmp_path)
    assert TaskDescription.load(tmp_path) == description
    assert description.split == {
        "label_fraction": 1.0,
        "folds": 3,
        "fold": 1,
        "validation_fraction": 0.2,
        "test_fraction": 0.2,
        "split_seed": 7,
    }


def test_options_of_the_reader_are_kept_but_for_paths(of_images, tmp_path):
    options = {"test_split": "validation", "lists": str(tmp_path)}
    run = of_images(layout_options={"test_split": "validation"})
    task = open_task_data(run)
    described = TaskDescription.of(of_images(layout_options=options), task, NATIVE)
    assert described.layout_options == {"test_split": "validation"}
    assert described.withheld == ["lists"]


def test_withheld_paths_are_asked_for(tmp_path, chests):
    TaskDescription(
        "chestxr", {"test_split": "validation"}, "classification", {}, None, 0.5, ["lists"]
    ).save(tmp_path)
    evaluation = EvaluationSettings(model=str(tmp_path), dataset=str(chests))
    told = r"trained with the options \['lists'\] .*were not saved.*give them again in --layout_opt"
    with pytest.raises(ValueError, match=told):
        evaluate_model(evaluation, Accelerator())


def test_the_window_is_what_the_network_was_trained_on(settings, of_images):
    assert window_settings(settings(), 3, NATIVE).window == (4, 32, 32)
    assert window_settings(settings(window=[8, 48, 48]), 3, NATIVE).window == (8, 48, 48)
    sized = MiTImageProcessor(image_size={"height": 64, "width": 48})
    assert window_settings(of_images(), 2, sized).window == (64, 48)
    whole = MiTImageProcessor(image_size=None)
    assert window_settings(of_images(), 2, whole).window is None


def test_no_description_or_another(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no finetuning\.json"):
        TaskDescription.load(tmp_path)
    for content in ("no json", json.dumps({"layout": "nnunet", "speed": 3})):
        (tmp_path / "finetuning.json").write_text(content)
        with pytest.raises(ValueError, match=r"finetuning\.json does not describe a task"):
            TaskDescription.load(tmp_path)
