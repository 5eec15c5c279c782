"""Settings from a YAML recipe and the words of a command."""

from dataclasses import dataclass, field

import pytest

from unimiss_hf.training.recipes import (
    check_at_least,
    check_repository,
    check_types,
    differences,
    json_mapping,
    parse_inputs_and_options,
    parse_recipe_and_options,
    read_recipe,
    setting,
)


@dataclass
class Settings:
    rate: float = setting(0.1, "learning rate")
    steps: int | None = setting(None, "steps")
    epochs: int | None = setting(2, "epochs, instead")
    sizes: list[int] = setting([4, 8], "sizes")
    options: dict | str | None = setting(None, "options, as JSON")
    fast: bool = setting(True, "whether it is fast")

    def __post_init__(self):
        check_types(self)


def parse(*words, **options):
    return parse_recipe_and_options(Settings, "Tries settings.", words, **options)


def test_defaults_are_each_settings_own():
    first, second = Settings(), Settings()
    first.sizes.append(16)
    assert second.sizes == [4, 8]


def test_an_integer_for_a_float_becomes_one():
    assert type(Settings(rate=1).rate) is float


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"rate": "high"}, "rate is 'high'; it must be of type"),
        ({"rate": True}, "rate is True"),
        ({"steps": 1.5}, r"steps is 1\.5"),
        ({"sizes": 4}, "sizes is 4"),
        ({"fast": 1}, "fast is 1"),
    ],
)
def test_values_of_another_type(values, told):
    with pytest.raises(ValueError, match=told):
        Settings(**values)


def test_numbers_that_are_too_small():
    check_at_least(Settings(), 1, ("epochs", "steps"))
    with pytest.raises(ValueError, match="epochs is 0; it must be 1 or more"):
        check_at_least(Settings(epochs=0), 1, ("steps", "epochs"))


@pytest.mark.parametrize("name", ["two words", "a/b/c", "own/na--me"])
def test_names_that_are_no_repository(name):
    check_repository("owner/name")
    with pytest.raises(ValueError, match=f"push_to_hub is '{name}'; .* OWNER/NAME"):
        check_repository(name)


def test_json_on_a_command_line():
    assert json_mapping("options", '{"a": [1, 2]}', "{}") == {"a": [1, 2]}
    assert json_mapping("options", "{}", '{"b": 2}') == {}
    with pytest.raises(
        ValueError, match=r"options is '\{a: 1\}', which is not JSON .* as '\{\"b\""
    ):
        json_mapping("options", "{a: 1}", '{"b": 2}')
    with pytest.raises(ValueError, match=r"options is '\[1\]'; wanted settings by name"):
        json_mapping("options", "[1]", "{}")


def test_settings_that_differ():
    settings = Settings(rate=0.5, epochs=3)
    other = {"rate": 0.1, "epochs": 3, "sizes": [4], "fast": False}
    assert differences(settings, other, {"fast"}) == {"rate": (0.1, 0.5), "sizes": ([4], [4, 8])}
    # What the other does not say stands for the default.
    assert differences(settings, {}, set()) == {"rate": (0.1, 0.5), "epochs": (2, 3)}


def test_options_win_over_the_recipe_and_the_recipe_over_defaults(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("rate: 0.2\nsizes: [1, 2, 3]\nfast: false\n")
    found = parse("--config", str(recipe), "--rate", "0.3")
    assert (found.rate, found.sizes, found.fast, found.epochs) == (0.3, [1, 2, 3], False, 2)


@pytest.mark.parametrize("words", [["--steps", "5"], ["--steps=5"]])
def test_an_option_takes_the_place_of_another_name(tmp_path, words):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("epochs: 7\nrate: 0.2\n")
    found = parse("--config", str(recipe), *words, instead={"steps": "epochs"})
    # The recipe's is gone; the default stays.
    assert (found.steps, found.epochs, found.rate) == (5, 2, 0.2)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--rates", "1"], "error: there is no option --rates. Did you mean --rate"),
        (["--rate", "high"], "invalid float value: 'high'"),
        (["stray"], "'stray' belongs to no option"),
        (["--step", "3"], "there is no option --step. Did you mean --steps"),
    ],
)
def test_mistakes_end_in_a_line_and_with_2(capsys, words, told):
    with pytest.raises(SystemExit) as ended:
        parse(*words)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert told in error
    assert len(error.splitlines()) == 2 and "All options" in error


def test_recipes_that_cannot_be_read(tmp_path):
    (tmp_path / "tiny.yaml").write_text("rate: 0.1\n")
    with pytest.raises(FileNotFoundError, match=r"There is no recipe .*Found there: .*tiny\.yaml"):
        read_recipe(tmp_path / "tyni.yaml", Settings)
    (tmp_path / "list.yaml").write_text("- rate\n")
    with pytest.raises(ValueError, match=r"list\.yaml holds list; a mapping of settings"):
        read_recipe(tmp_path / "list.yaml", Settings)
    (tmp_path / "other.yaml").write_text("rate: 0.1\nspeed: 3\n")
    with pytest.raises(
        ValueError, match=r"\['speed'\] are no settings\. Settings are: rate, steps"
    ):
        read_recipe(tmp_path / "other.yaml", Settings)


@dataclass
class SettingsOfInputs:
    model: str = field(metadata={"help": "model"})
    batch_size: int = setting(4, "inputs at once")
    progress: bool = setting(True, "whether progress is told")


def parse_inputs(*words):
    return parse_inputs_and_options(SettingsOfInputs, "Tries inputs.", "a file", words)


@pytest.mark.parametrize(
    "words",
    [
        ["a.png", "b=1.png", "--model", "m", "--batch_size", "8"],
        ["--model=m", "--batch-size=8", "a.png", "b=1.png"],
        ["--batch_size", "8", "--model", "m", "--", "a.png", "b=1.png"],
    ],
)
def test_inputs_stand_before_or_behind_options(words):
    inputs, settings = parse_inputs(*words)
    assert inputs == ["a.png", "b=1.png"]
    assert settings == SettingsOfInputs("m", batch_size=8)


def test_an_input_may_begin_like_an_option_behind_two_hyphens():
    assert parse_inputs("--model", "m", "--", "--a.png") == (["--a.png"], SettingsOfInputs("m"))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["a.png"], "the following arguments are required: --model"),
        (["--model", "m"], "the following arguments are required: INPUT"),
        # The slip is told, and not that the model is missing because of it.
        (["a.png", "--modle", "m"], "there is no option --modle. Did you mean --model?"),
        (["--batchsize=3", "a.png"], "there is no option --batchsize. Did you mean --batch_size?"),
        (["a.png", "--no_progres", "--model", "m"], "Did you mean --no_progress, --progress?"),
        (["a.png", "--model", "m", "-x"], "there is no option -x."),
        (["a.png", "--model", "m", "b=1.png"], "'b=1.png' belongs to no option. Put all inputs"),
    ],
)
def test_mistakes_beside_inputs_end_in_a_line_and_with_2(capsys, words, told):
    with pytest.raises(SystemExit) as ended:
        parse_inputs(*words)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert told in error
    assert len(error.splitlines()) == 2 and "All options" in error


def test_help_tells_inputs_and_options(capsys):
    with pytest.raises(SystemExit) as ended:
        parse_inputs("--help")
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert all(text in told for text in ("Tries inputs.", "INPUT", "a file", "inputs at once"))
