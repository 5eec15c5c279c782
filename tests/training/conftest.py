"""Programs in processes of their own, which can be killed."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen]]:
    """Start programs that use one module; what still runs at the end of the test is killed.

    The module is run from its file, which imports no more than it needs: a program of this kind
    starts at once, where the whole package takes seconds.
    """
    processes = []

    def start_program(module: ModuleType, program: str, *arguments: object) -> subprocess.Popen:
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                f"import runpy; globals().update(runpy.run_path({module.__file__!r}))\n{program}",
                *map(str, arguments),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield start_program
    for process in processes:
        process.kill()
        process.communicate()
