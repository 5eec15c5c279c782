"""The picture that a model's page on the Hub offers to try the model on.

It is the first radiograph that `data.sample` renders from the sample CT, at 256 pixels: nobody's
training data but the sample's.
"""

from pathlib import Path
from typing import Any

EXAMPLE = "example_radiograph.png"
"""Its name in a repository."""


def widget_files() -> dict[str, Path]:
    """What a repository whose card has a widget needs: by name there, the file to put there."""
    return {EXAMPLE: Path(__file__).with_name("pictures") / EXAMPLE}


def shows_example(entry: dict[str, Any]) -> bool:
    """Whether an entry of a card's `widget` shows this picture, of whatever repository."""
    return str(entry.get("src", "")).endswith(EXAMPLE)


def widget_field(source: str = EXAMPLE) -> list[dict[str, Any]]:
    """The card's field `widget`, for models that take images; the Hub has none for volumes.

    Args:
        source: Where the picture is: its name in the repository, or an address.
    """
    return [{"src": source, "example_title": "Radiograph rendered from a chest CT"}]
