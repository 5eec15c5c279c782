"""What makes a model's folder serve as an Inference Endpoint: its handler, and what that needs."""

import shutil
from pathlib import Path

ENDPOINT_FOLDER = Path(__file__).with_name("endpoint")
"""Where they are in the package."""
ENDPOINT_FILES = ("handler.py", "requirements.txt")
"""The files that are copied beside a model."""


def add_endpoint(folder: Path) -> None:
    """Copy `handler.py` and `requirements.txt` into a model's folder.

    Args:
        folder: It holds `config.json`, which names the model's class.

    Raises:
        FileNotFoundError: If the folder holds no model.
        OSError: If the files cannot be written.
    """
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder} holds no model: it has no config.json. Save it first.")
    for name in ENDPOINT_FILES:
        shutil.copyfile(ENDPOINT_FOLDER / name, folder / name)
