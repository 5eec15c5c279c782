"""Settings of a run: a dataclass, filled from a YAML recipe and the command line."""

import argparse
import dataclasses
import itertools
import json
import sys
import types
import typing
from collections.abc import Collection, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import yaml
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from transformers import HfArgumentParser

from ..input_checks_mit import did_you_mean, near_names

Settings = TypeVar("Settings")


def setting(default: Any, text: str) -> Any:
    """Make a dataclass field with a default and its help; lists and mappings are copied."""
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: type(default)(default), metadata={"help": text})
    return field(default=default, metadata={"help": text})


def check_types(settings: Any) -> None:
    """Compare each value with its annotation; an integer given for a float becomes one.

    Args:
        settings: A dataclass instance; its fields may be changed.

    Raises:
        ValueError: If a value is of another type.
    """
    wanted_types = typing.get_type_hints(type(settings))
    for entry in dataclasses.fields(settings):
        value, wanted = getattr(settings, entry.name), wanted_types[entry.name]
        options = typing.get_args(wanted) if isinstance(wanted, types.UnionType) else (wanted,)
        if float in options and isinstance(value, int) and not isinstance(value, bool):
            setattr(settings, entry.name, float(value))
            continue
        classes = tuple(typing.get_origin(option) or option for option in options)
        if not isinstance(value, classes) or (isinstance(value, bool) and bool not in classes):
            raise ValueError(f"{entry.name} is {value!r}; it must be of type {wanted}.")


def check_at_least(settings: Any, least: float, names: Collection[str]) -> None:
    """Refuse settings below a number; `None` passes.

    Raises:
        ValueError: If one is; it is named.
    """
    for name in names:
        value = getattr(settings, name)
        if value is not None and value < least:
            raise ValueError(f"{name} is {value}; it must be {least} or more.")


def check_repository(name: str) -> None:
    """Refuse a `push_to_hub` that is no name of a repository.

    Raises:
        ValueError: If it is not OWNER/NAME.
    """
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise ValueError(
            f"push_to_hub is {name!r}; a repository is called OWNER/NAME. {error}"
        ) from error


def json_mapping(name: str, text: str, example: str) -> dict[str, Any]:
    """Read a setting that is given as JSON on a command line.

    Raises:
        ValueError: If it is not JSON, or not a mapping.
    """
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{name} is {text!r}, which is not JSON ({error}). Write it as '{example}'."
        ) from error
    if not isinstance(values, dict):
        raise ValueError(f"{name} is {text!r}; wanted settings by name: '{example}'.")
    return values


def differences(
    settings: Any, other: dict[str, Any], changeable: Collection[str]
) -> dict[str, tuple[Any, Any]]:
    """List what would make a continuation another run: `{name: (other's, ours)}`.

    Args:
        settings: A dataclass instance whose fields all have defaults, which stand for those that
            `other` lacks.
        other: Settings of the run that is continued.
        changeable: Names of settings that do not change what is computed.
    """
    ours, defaults = dataclasses.asdict(settings), dataclasses.asdict(type(settings)())
    theirs = {name: other.get(name, defaults[name]) for name in ours}
    return {
        name: (theirs[name], value)
        for name, value in ours.items()
        if name not in changeable and theirs[name] != value
    }


class ShortErrorParser(HfArgumentParser):
    """Tells what is wrong without a page of all options before it.

    A misspelt option is told with those whose names resemble it, and before one that is missing
    because of it.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        self._options: list[str] = []
        self._inputs: list[str] = []
        super().__init__(*args, **kwargs)

    def add_argument(self, *args: Any, **kwargs: Any) -> argparse.Action:
        """Note the names of an option, which misspelt ones are compared with."""
        action = super().add_argument(*args, **kwargs)
        self._options += action.option_strings
        if not action.option_strings:
            self._inputs.append(action.dest)
        return action

    def parse_args(
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """Read every word, as `argparse` does."""
        words = sys.argv[1:] if args is None else list(args)
        for word in itertools.takewhile(lambda word: word != "--", words):
            name = word.split("=")[0]
            if name.startswith("--") and " " not in name and name not in self._options:
                self.error(self._unknown_word(word))
        values, unknown = self.parse_known_args(words, namespace)
        if unknown:
            self.error(self._unknown_word(unknown[0]))
        return values

    def error(self, message: str) -> NoReturn:
        """Print the message in a line, and exit with 2."""
        self.exit(2, f"{self.prog}: error: {message}\nAll options: {self.prog} --help\n")

    def _unknown_word(self, word: str) -> str:
        if not word.startswith("-"):
            advice = f" Put all {self._inputs[0]} side by side." if self._inputs else ""
            return f"{word!r} belongs to no option.{advice}"
        name = word.split("=")[0]
        # Every option with underscores has a second name, with hyphens.
        names = [option for option in self._options if "-" not in option.removeprefix("--")]
        return f"there is no option {name}.{did_you_mean(near_names(name, names))}"


def parse_inputs_and_options(
    settings_class: type[Settings],
    description: str,
    inputs: str,
    arguments: Sequence[str] | None = None,
) -> tuple[list[str], Settings]:
    """Read inputs and settings from a command line: `INPUT [INPUT ...]`, every setting an option.

    Args:
        settings_class: A dataclass whose fields have a help, see [`setting`].
        description: What the program does, for its help.
        inputs: What an input may be, for its help.
        arguments: The words behind the program's name; those of the process by default.

    Returns:
        The inputs, of which there is one at least, and the settings.

    Raises:
        ValueError: If a setting cannot be had.
        SystemExit: If an option is unknown or missing, with a message of how it is spelt.
    """
    parser = ShortErrorParser(settings_class, allow_abbrev=False, description=description)
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help=inputs)
    values = vars(parser.parse_args(arguments))
    return values.pop("inputs"), settings_class(**values)


def parse_recipe_and_options(
    settings_class: type[Settings],
    description: str,
    arguments: Sequence[str] | None = None,
    instead: dict[str, str] | None = None,
) -> Settings:
    """Read settings from a command line: `--config FILE` names a recipe, every setting an option.

    Args:
        settings_class: A dataclass whose fields are made by [`setting`].
        description: What the program does, for its help.
        arguments: The words behind the program's name; those of the process by default.
        instead: Options that take the place of a recipe's setting of another name.

    Raises:
        ValueError: If the recipe holds what is not a setting, or a value that cannot be.
        FileNotFoundError: If there is no such recipe.
        SystemExit: If an option is unknown, with a message of how it is spelt.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    parser = ShortErrorParser(settings_class, allow_abbrev=False, description=description)
    parser.add_argument("--config", help="YAML recipe; other options win over it")
    recipe_parser = HfArgumentParser([], add_help=False, allow_abbrev=False)
    recipe_parser.add_argument("--config")
    config, _ = recipe_parser.parse_known_args(words)
    if config.config:
        recipe = read_recipe(config.config, settings_class)
        for given, replaced in (instead or {}).items():
            if any(word.split("=")[0] == f"--{given}" for word in words):
                recipe.pop(replaced, None)
        parser.set_defaults(**recipe)
    values = vars(parser.parse_args(words))
    del values["config"]
    return settings_class(**values)


def read_recipe(path: str | Path, settings_class: type) -> dict[str, Any]:
    """Read a YAML recipe and check that it holds settings only.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a mapping of settings.
    """
    path = Path(path)
    if not path.is_file():
        near = sorted(str(found) for found in path.parent.glob("*.yaml"))
        raise FileNotFoundError(f"There is no recipe {path}. Found there: {near or 'none'}.")
    recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(recipe, dict):
        raise ValueError(f"{path} holds {type(recipe).__name__}; a mapping of settings is needed.")
    known = [entry.name for entry in dataclasses.fields(settings_class)]
    unknown = sorted(set(recipe) - set(known))
    if unknown:
        raise ValueError(f"{path}: {unknown} are no settings. Settings are: {', '.join(known)}.")
    return recipe
