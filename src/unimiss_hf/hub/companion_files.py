"""The files that go with every model: licence, endpoint, and the picture of its card's widget."""

import importlib.metadata
from pathlib import Path

from .card_fields import read_fields
from .endpoint_files import ENDPOINT_FILES, ENDPOINT_FOLDER
from .widget import shows_example, widget_files


def companion_files(card_text: str) -> dict[str, Path]:
    """List what a repository needs beside a model, by the names there.

    Args:
        card_text: The model's card, which may show a picture to try the model on.

    Raises:
        ValueError: If the card's metadata are not as they should be.
        FileNotFoundError: If the package lacks its licence.
    """
    files = {name: ENDPOINT_FOLDER / name for name in ENDPOINT_FILES}
    files["LICENSE"] = _package_license()
    shown = read_fields(card_text).get("widget") or []
    if any(map(shows_example, shown)):
        files |= widget_files()
    return files


def _package_license() -> Path:
    """The licence of the code that travels with a model."""
    installed = importlib.metadata.distribution("unimiss_hf").files or []
    paths = [Path(file.locate()) for file in installed if file.match("licenses/LICENSE")]
    if not paths or not paths[0].is_file():
        raise FileNotFoundError("unimiss_hf was installed without its LICENSE. Install it again.")
    return paths[0]


__all__ = ["companion_files"]
