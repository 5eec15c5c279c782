"""What the Space is started with: options of a command line, or variables of the environment."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

RANDOM = "random"
"""In place of an encoder: MiT-tiny with random weights, which the page says."""

_MODELS = {
    "encoder": f'of features and neighbours; "{RANDOM}" for random weights',
    "segmenter_2d": "segments radiographs",
    "segmenter_3d": "segments volumes",
    "classifier_2d": "classifies radiographs",
    "classifier_3d": "classifies volumes",
}
_PREFIX = "UNIMISS_"


@dataclass(frozen=True)
class Settings:
    """What the Space is started with.

    Attributes:
        encoder: A model's folder or its name on the Hub, owner/name or owner/name@revision.
        segmenter_2d, segmenter_3d, classifier_2d, classifier_3d: Likewise; each may be missing.
        samples: Folders with sample images; those that are missing are passed over.
        host: The address to listen on; 127.0.0.1 is this machine alone.
        port: The port.
    """

    encoder: str
    segmenter_2d: str | None
    segmenter_3d: str | None
    classifier_2d: str | None
    classifier_3d: str | None
    samples: tuple[Path, ...]
    host: str
    port: int


def parse_settings(
    arguments: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ
) -> Settings:
    """Read the settings; an option counts more than a variable.

    Args:
        arguments: Of the command line; those of the program by default.
        environment: `UNIMISS_ENCODER`, `UNIMISS_SEGMENTER_2D` and so on; `UNIMISS_SAMPLES` with
            folders joined as in PATH.
    """
    parser = argparse.ArgumentParser(
        prog="app.py", description="Starts the page that shows what a MiT sees in your images."
    )
    for name, what in _MODELS.items():
        default = environment.get(_PREFIX + name.upper()) or None
        parser.add_argument(
            "--" + name.replace("_", "-"),
            default=default,
            required=name == "encoder" and default is None,
            metavar="FOLDER_OR_NAME",
            help=f"{what} (or {_PREFIX}{name.upper()})",
        )
    here = str(Path(__file__).parents[1] / "samples")
    samples = environment.get(_PREFIX + "SAMPLES", here).split(os.pathsep)
    parser.add_argument("--samples", nargs="*", default=samples, help="folders with sample images")
    # A Space of the Hub is reached from outside its container.
    host = "0.0.0.0" if "SPACE_ID" in environment else "127.0.0.1"
    parser.add_argument("--host", default=host)
    parser.add_argument("--port", type=int, default=7860)
    values = vars(parser.parse_args(arguments))
    return Settings(**{**values, "samples": tuple(map(Path, values["samples"]))})
