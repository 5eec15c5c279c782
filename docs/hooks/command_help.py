"""What a command says with `--help`, where a page says `<!-- help COMMAND -->`."""

import contextlib
import importlib
import importlib.util
import io
import os
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

_ROOT = Path(__file__).parents[2]
_MARK = re.compile(r"^<!-- help (.+) -->$", re.MULTILINE)
_WIDTH = "88"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace each mark by the help of a command.

    Args:
        markdown: A page's text.

    Raises:
        ValueError: If a command does not print a help.
    """
    return _MARK.sub(lambda mark: f"```text\n{help_of(mark[1])}\n```", markdown)


def help_of(command: str) -> str:
    """Return what a command prints with `--help`, without starting a process.

    Args:
        command: As it is typed: `python -m MODULE [WORD]`, or `python FILE` within the project.

    Raises:
        ValueError: If it is another kind of command, or prints no help.
    """
    words = shlex.split(command)
    if words[:2] == ["python", "-m"] and len(words) > 2:
        program, rest, main = words[2], words[3:], _main_of_module(words[2])
    elif words[:1] == ["python"] and len(words) > 1:
        program, rest, main = words[1], words[2:], _main_of_file(_ROOT / words[1])
    else:
        raise ValueError(f"{command!r} is not `python -m MODULE` or `python FILE`.")
    printed = io.StringIO()
    with (
        patch.object(sys, "argv", [program, *rest, "--help"]),
        patch.dict(os.environ, {"COLUMNS": _WIDTH, "NO_COLOR": "1"}),
        contextlib.redirect_stdout(printed),
        contextlib.suppress(SystemExit),
    ):
        main()
    text = printed.getvalue().strip()
    if not text.startswith("usage:"):
        raise ValueError(f"{command} --help printed no help, but {text[:80]!r}.")
    return text


def _main_of_module(name: str) -> Callable[[], Any]:
    specification = importlib.util.find_spec(name)
    if specification is not None and specification.submodule_search_locations is not None:
        name = f"{name}.__main__"
    return importlib.import_module(name).main


def _main_of_file(path: Path) -> Callable[[], Any]:
    # Under a name of its own: examples/evaluate.py must not hide the library of that name.
    specification = importlib.util.spec_from_file_location(f"command_{path.stem}", path)
    if specification is None or not path.is_file():
        raise ValueError(f"There is no program {path}.")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.main
