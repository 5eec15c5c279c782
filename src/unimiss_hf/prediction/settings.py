"""Settings of predictions, and the command line that fills them."""

from dataclasses import dataclass, field
from typing import Any

from transformers import HfArgumentParser

from ..input_checks_mit import require_spacing
from ..saved_models import processor_changes

_CHOICES = {"device": ("auto", "cpu", "cuda"), "dimension": (None, "2d", "3d")}


def _setting(default: Any, text: str) -> Any:
    if isinstance(default, list):
        return field(default_factory=list, metadata={"help": text})
    return field(default=default, metadata={"help": text})


@dataclass
class PredictionSettings:
    """Everything that defines predictions, apart from their inputs.

    Raises:
        ValueError: If a setting cannot be had.
    """

    model: str = field(metadata={"help": "folder or Hub name of a fine-tuned MiT"})
    output: str = field(metadata={"help": "folder to write to"})

    # what is predicted
    probabilities: bool = _setting(
        False, "segmentation: also keep each class's probabilities (classification always has them)"
    )
    overlap: float = _setting(0.5, "share of a window that the next covers again, 0 to below 1")
    mirror: list[int] = _setting(
        [],
        "segmentation: axes, 0 being the first of ([depth,] height, width), along which windows "
        "are mirrored too, and predictions averaged",
    )
    source_spacing: list[float] | None = _setting(
        None, "spacing in mm of the volumes' files, when their headers do not tell the truth"
    )
    processor: dict | str | None = _setting(
        None, """settings of the processor that differ, as JSON: '{"spacing": [3, 1, 1]}'"""
    )

    # data sets
    dimension: str | None = _setting(None, "2d or 3d: what to take from data sets")
    split: str = _setting("train", "split of a data set")
    config_name: str | None = _setting(None, "configuration of a Hub data set that has several")
    column: str | None = _setting(None, "column of images, when a data set has several")
    streaming: bool = _setting(False, "read Hub data sets as a stream, without downloading them")

    # running
    batch_size: int = _setting(4, "inputs, or windows of one, that are computed at once")
    workers: int = _setting(1, "threads that read and prepare inputs; 0: none beside the main one")
    device: str = _setting("auto", "auto, cpu or cuda")

    def __post_init__(self):
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                wanted = " or ".join(str(choice) for choice in choices if choice is not None)
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be {wanted}.")
        for name, least in (("batch_size", 1), ("workers", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be {least} or more.")
        if not 0 <= self.overlap < 1:
            raise ValueError(f"overlap is {self.overlap}; it must be 0 or more, and below 1.")
        self.mirror = sorted(self.mirror)
        if len(set(self.mirror)) < len(self.mirror) or not {0, 1, 2}.issuperset(self.mirror):
            raise ValueError(f"mirror is {self.mirror}; wanted different axes among 0, 1 and 2.")
        if not self.output or not self.model:
            raise ValueError("model and output must be given.")
        if isinstance(self.processor, str):
            self.processor = processor_changes(self.processor)
        if self.source_spacing is not None:
            self.source_spacing = list(require_spacing("source_spacing", self.source_spacing))


def parse_settings(arguments: list[str] | None = None) -> tuple[list[str], PredictionSettings]:
    """Read inputs and settings from a command line.

    Args:
        arguments: The words behind the program's name; those of the process by default.

    Returns:
        The inputs, and the settings.

    Raises:
        ValueError: If a setting cannot be had.
        SystemExit: If an option is unknown or missing, with a message of how it is spelt.
    """
    parser = HfArgumentParser(
        PredictionSettings,
        allow_abbrev=False,
        description="Segments or classifies radiographs and volumes with a fine-tuned model.",
    )
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="an image or volume; a folder of them, at any depth (DICOM slices of one series in "
        "one folder are one volume); a .txt file with one of these a line; a data set: the name of "
        "one on the Hub, or a local folder or file of Parquet, Arrow or tar (with --dimension)",
    )
    values = vars(parser.parse_args(arguments))
    return values.pop("inputs"), PredictionSettings(**values)
