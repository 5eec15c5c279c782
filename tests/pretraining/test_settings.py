import re

import pytest
import yaml

from unimiss_hf.pretraining import PretrainingSettings, parse_settings
from unimiss_hf.training.recipes import read_recipe

RECIPES = ["recipes/pretrain_sample.yaml", "recipes/pretrain_small.yaml"]


@pytest.fixture
def recipe(tmp_path):
    def write(**values):
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(values))
        return str(path)

    return write


def test_options_win_over_the_recipe_and_the_recipe_over_defaults(recipe):
    config = recipe(batch_size_2d=7, epochs=3, dataset_2d=["a"])
    settings = parse_settings(["--config", config, "--epochs", "5", "--dataset_3d", "b", "c"])
    assert (settings.batch_size_2d, settings.epochs, settings.batch_size_3d) == (7, 5, 24)
    assert (settings.dataset_2d, settings.dataset_3d) == (["a"], ["b", "c"])
    assert settings.dimensions == ["2d", "3d"]


def test_numbers_may_be_written_as_text_in_yaml(tmp_path):
    # YAML 1.1 reads 8e-4, without a point, as text
    (tmp_path / "recipe.yaml").write_text("base_learning_rate: 8e-4\nweight_decay: 1\n")
    settings = parse_settings(["--config", str(tmp_path / "recipe.yaml")])
    assert (settings.base_learning_rate, settings.weight_decay) == (8e-4, 1.0)


def test_epochs_and_max_steps_take_each_others_place(recipe):
    assert PretrainingSettings().epochs == 200
    assert PretrainingSettings(max_steps=10).epochs is None
    config = recipe(epochs=3)
    assert parse_settings(["--config", config, "--max_steps", "7"]).epochs is None
    config = recipe(max_steps=3)
    settings = parse_settings(["--config", config, "--epochs=7"])
    assert (settings.epochs, settings.max_steps) == (7, None)
    with pytest.raises(ValueError, match="Give either epochs or max_steps"):
        PretrainingSettings(epochs=3, max_steps=3)


def test_a_stream_of_unknown_length_needs_the_length_of_an_epoch():
    settings = PretrainingSettings(dataset_2d=["a"], dataset_3d=["b"], steps_per_epoch_3d=5)
    with pytest.raises(ValueError, match="Give steps_per_epoch_2d"):
        settings.plan({"2d": None, "3d": None}, 1)
    plan = settings.plan({"2d": 24 * 7 + 3, "3d": None}, 1)
    assert plan.remaining(0) == {"2d": 100 * 7, "3d": 100 * 5}


def test_the_papers_schedule_at_eight_processes():
    settings = PretrainingSettings(dataset_2d=["a"])
    plan = settings.plan({"2d": 112_120}, 8)
    assert plan.total_steps == 200 * (112_120 // 192)
    peak = max(settings.schedules(plan, 8).at(step).learning_rate for step in range(5840, 5850))
    assert peak == pytest.approx(8e-4 * 192 / 256)


def test_settings_of_views_are_given_as_json_or_mapping():
    for value in ('{"noise_std": [0.0, 0.05]}', {"noise_std": [0.0, 0.05]}):
        assert PretrainingSettings(views_3d=value).volume_views().noise_std == (0.0, 0.05)
    assert PretrainingSettings(image_size=[96, 64]).image_views().size == (96, 64)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model_size": "huge"}, r"model_size is 'huge'.*small.*tiny"),
        ({"resume": "maybe"}, "resume is 'maybe'"),
        ({"batch_size_3d": 0}, "batch_size_3d is 0"),
        ({"checkpoint_every": 0}, "checkpoint_every is 0"),
        ({"epochs": 2.5}, r"epochs is 2\.5; it must be of type int"),
        ({"batch_size_2d": True}, "batch_size_2d is True"),
        ({"streaming": "yes"}, "streaming is 'yes'"),
        ({"views_2d": {"nois": 1}}, r"views_2d has no setting \['nois'\]; it has .*area"),
        ({"views_2d": "{not json"}, "views_2d"),
        ({"teacher_temperature": 0.0}, "teacher_temperature is 0"),
        ({"image_size": [224]}, "size"),
    ],
)
def test_what_cannot_be_is_told_by_name(changes, named):
    with pytest.raises(ValueError, match=named):
        PretrainingSettings(**changes)


def test_a_recipe_with_what_is_no_setting_is_refused(recipe, tmp_path):
    with pytest.raises(
        ValueError, match=r"recipe.yaml: \['batchsize'\] are no settings.*batch_size_2d"
    ):
        read_recipe(recipe(batchsize=3), PretrainingSettings)
    (tmp_path / "list.yaml").write_text("- a\n")
    with pytest.raises(ValueError, match="holds list; a mapping"):
        read_recipe(tmp_path / "list.yaml", PretrainingSettings)
    with pytest.raises(FileNotFoundError, match=r"no recipe .*missing.yaml. Found there: .*recipe"):
        read_recipe(tmp_path / "missing.yaml", PretrainingSettings)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--max_step=3"], r"no option --max_step\. Did you mean --max_steps\?"),
        (["--zzz"], r"no option --zzz\.$"),
        (["3d"], r"'3d' belongs to no option\.$"),
        (["--seed", "x"], r"--seed: invalid int value: 'x'$"),
    ],
)
def test_a_mistyped_option_is_told_in_two_lines(capsys, words, told):
    with pytest.raises(SystemExit):
        parse_settings(words)
    first, second = capsys.readouterr().err.splitlines()
    assert re.search(told, first)
    assert second.endswith("--help")


@pytest.mark.parametrize("path", RECIPES)
def test_recipes_are_valid(path):
    PretrainingSettings(**read_recipe(path, PretrainingSettings))


def test_the_small_recipe_is_the_papers():
    settings = PretrainingSettings(
        **read_recipe("recipes/pretrain_small.yaml", PretrainingSettings)
    )
    config = settings.model_config()
    assert config.depths == [2, 3, 4, 3] and config.num_prototypes == 65536
    assert (settings.epochs, settings.warmup_epochs, settings.batch_size_3d) == (200, 10, 24)
    assert settings.image_views().size == (224, 224)
    assert settings.volume_views().size == (16, 96, 96)


def test_only_harmless_settings_may_differ_in_a_continuation():
    settings = PretrainingSettings()
    assert settings.differences(settings.to_dict()) == {}
    other = {**settings.to_dict(), "checkpoint_every": 1, "seed": 5, "report_to": ["wandb"]}
    assert settings.differences(other) == {"seed": (5, 0)}


@pytest.mark.parametrize(
    ("words", "window"),
    [
        (["2047.5", "4095"], (2047.5, 4095)),
        ([2047.5, 4095], (2047.5, 4095)),
        (["minmax"], "minmax"),
        (None, None),
    ],
)
def test_grey_levels_are_a_level_and_a_width_or_a_name(words, window):
    assert PretrainingSettings(grey_window=words).grey_levels() == window


@pytest.mark.parametrize("words", [["lung"], ["1"], ["1", "0"], ["hounsfield"], ["1", "x"]])
def test_other_grey_levels_are_refused_at_once(words):
    with pytest.raises(ValueError, match="grey_window"):
        PretrainingSettings(grey_window=words)


def test_a_stride_beyond_the_volume_is_refused():
    assert PretrainingSettings(slice_stride=16).slice_stride == 16
    with pytest.raises(ValueError, match="slice_stride is 17, but volumes have 16 slices"):
        PretrainingSettings(slice_stride=17)
    with pytest.raises(ValueError, match="slice_stride is 0"):
        PretrainingSettings(slice_stride=0)
