"""`dataset.json`, in which the Decathlon and nnU-Net write what their folders hold."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...input_checks_mit import did_you_mean, near_names

FILE = "dataset.json"


def read_description(root: Path, keys: Sequence[str], title: str, hint: str = "") -> dict[str, Any]:
    """Read a folder's `dataset.json`.

    Args:
        root: the data set's folder.
        keys: what it must have.
        title: what messages call its kind.
        hint: the end of the message about a key that it has not.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is no JSON, or has not all keys; the message names those it has.
    """
    path = root / FILE
    if not path.is_file():
        raise FileNotFoundError(f"There is no {path}, which says what {title} is. Download it.")
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}. Download it again.") from error
    missing = [key for key in keys if not isinstance(content, dict) or key not in content]
    if missing:
        has = ", ".join(content) if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"{path} has no {', '.join(missing)}; it has {has or 'nothing'}.{hint}")
    return content


def is_described(root: Path, keys: Sequence[str]) -> bool:
    """Whether a folder's `dataset.json` has these keys."""
    try:
        read_description(root, keys, "it")
    except (OSError, ValueError):
        return False
    return True


def choose_channel(channel: object, names: Mapping[str, str], title: str) -> str:
    """Tell which channel of images is wanted.

    Args:
        channel: its number or its name; `None` if none was asked for.
        names: of all channels, by their number.
        title: what messages call the data set.

    Returns:
        Its number, a key of `names`.

    Raises:
        ValueError: if there is no such channel, or none was asked for where there are several.
    """
    listing = ", ".join(f"{number} ({name})" for number, name in names.items())
    if channel is None:
        if len(names) == 1:
            return next(iter(names))
        raise ValueError(
            f"{title} has {len(names)} channels, and the network takes one: set the option "
            f"channel to one of {listing}."
        )
    wanted = str(channel)
    if wanted in names:
        return wanted
    for number, name in names.items():
        if name.casefold() == wanted.casefold():
            return number
    near = did_you_mean(near_names(wanted, names.values(), 0.6))
    raise ValueError(f"channel of {title} is {channel!r}; there are {listing}.{near}")
