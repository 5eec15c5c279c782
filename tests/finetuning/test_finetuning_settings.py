"""Settings of fine-tuning: what cannot be had is told in a sentence."""

import pytest

from unimiss_hf.finetuning import FinetuningSettings, parse_settings


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"epochs": 3, "max_steps": 4}, "either epochs or max_steps, got epochs=3 and max_steps=4"),
        ({"freeze": "decoder"}, r"freeze is 'decoder'; it must be one of \('none', 'encoder'"),
        ({"model_size": "huge"}, "model_size is 'huge'"),
        ({"resume": "always"}, "resume is 'always'"),
        (
            {"model": "a", "model_size": "tiny"},
            "either a model or a model_size, got 'a' and 'tiny'",
        ),
        ({"model_size": "tiny", "freeze": "encoder"}, "freeze is 'encoder', but a model_size has"),
        ({"best_metric": "dice"}, "best_metric and best_mode together, or neither"),
        ({"best_metric": "dice", "best_mode": "most"}, "best_mode is 'most'"),
        ({"fold": 1}, "fold is 1 and folds None"),
        ({"folds": 3, "fold": 3}, "fold is 3 and folds 3; a fold is 0 or more, and below folds"),
        ({"folds": 1}, "folds is 1; it must be 2 or more"),
        ({"batch_size": 0}, "batch_size is 0; it must be 1 or more"),
        ({"weight_decay": -0.1}, r"weight_decay is -0\.1; it must be 0 or more"),
        ({"label_fraction": 0.0}, r"label_fraction is 0\.0; it must be above 0 and at most 1"),
        ({"validation_fraction": 0.95}, r"validation_fraction is 0\.95; .*at most 0\.9"),
        ({"layer_decay": 1.5}, r"layer_decay is 1\.5"),
        ({"foreground_fraction": 1.1}, r"foreground_fraction is 1\.1; it must lie in \[0, 1\]"),
        ({"window_overlap": 1.0}, r"window_overlap is 1\.0; it must lie in \[0, 1\)"),
        ({"patch_size": [32]}, r"patch_size is \[32\]; wanted \(\[depth,\] height, width\)"),
        ({"window": [0, 32, 32]}, r"window is \[0, 32, 32\]"),
        ({"learning_rate": "fast"}, "learning_rate is 'fast'; it must be of type"),
        ({"processor": "spacing"}, "processor is 'spacing', which is not JSON .*Write it as"),
        ({"augmentation": "[1]"}, "augmentation is '\\[1\\]'; wanted settings by name"),
        ({"push_to_hub": "a b"}, "push_to_hub is 'a b'; a repository is called OWNER/NAME"),
    ],
)
def test_what_cannot_be_had(changes, told):
    with pytest.raises(ValueError, match=told):
        FinetuningSettings(**changes)


def test_a_hundred_epochs_unless_it_is_said():
    assert FinetuningSettings().epochs == 100
    assert FinetuningSettings(max_steps=5).epochs is None


def test_mappings_on_a_command_line():
    settings = parse_settings(
        [
            "--processor",
            '{"spacing": [1.5, 1, 1]}',
            "--report_to",
            "tensorboard",
            "--max_steps",
            "3",
        ]
    )
    assert settings.processor == {"spacing": [1.5, 1, 1]}
    assert settings.report_to == ["tensorboard"]


def test_options_win_over_a_recipe(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("max_steps: 9\nmodel_size: tiny\nbatch_size: 4\npatch_size: [4, 32, 32]\n")
    settings = parse_settings(
        ["--config", str(recipe), "--epochs", "2", "--model", "folder", "--batch_size", "8"]
    )
    assert (settings.epochs, settings.max_steps) == (2, None)
    assert (settings.model, settings.model_size) == ("folder", None)
    assert (settings.batch_size, settings.patch_size) == (8, [4, 32, 32])


def test_a_recipe_with_what_is_no_setting(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("batchsize: 4\n")
    with pytest.raises(ValueError, match=r"recipe\.yaml: \['batchsize'\] are no settings"):
        parse_settings(["--config", str(recipe)])


def test_what_may_change_when_a_run_goes_on():
    settings = FinetuningSettings(max_steps=5, learning_rate=0.1)
    other = settings.to_dict() | {"num_workers": 4, "output": "x", "dataset": "y", "bootstrap": 5}
    assert settings.differences(other) == {}
    assert settings.differences(other | {"seed": 3, "augment": False}) == {
        "seed": (3, 0),
        "augment": (False, True),
    }
    # A setting that an older run did not have stands for its default.
    del other["layer_decay"]
    assert settings.differences(other) == {}
