"""Programs that answer lines of JSON, in processes whose environment names a Hub."""

import json
import os
import subprocess
import sys
from types import ModuleType
from typing import Any

from loopback_hub import TOKEN


def ask(program: ModuleType, requests: list[Any], environment: dict[str, str]) -> list[dict]:
    """Have a program answer requests, and see that it prints the token nowhere."""
    result = subprocess.run(
        [sys.executable, program.__file__],
        input="".join(json.dumps(request) + "\n" for request in requests),
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert TOKEN not in result.stdout + result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]
