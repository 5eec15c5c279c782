"""Settings of an extraction, and the command line that fills them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import HfArgumentParser

from ..input_checks_mit import require_spacing
from ..saved_models import processor_changes

_CHOICES = {
    "device": ("auto", "cpu", "cuda"),
    "dtype": ("float32", "bfloat16"),
    "patches_dtype": ("float32", "float16"),
    "dimension": (None, "2d", "3d"),
}


def _setting(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass
class ExtractionSettings:
    """Everything that defines an extraction, apart from its inputs.

    Raises:
        ValueError: If a setting cannot be had.
    """

    model: str = field(metadata={"help": "folder or Hub name of a MiT, with its processor"})
    output: str = field(metadata={"help": "Parquet file to write, such as features.parquet"})

    # what is extracted
    patches: bool = _setting(False, "also keep the features of each patch")
    patches_dtype: str = _setting("float32", "type that patch features are kept in, or float16")
    overlap: float = _setting(0.0, "share of a window that the next covers again, 0 to below 1")
    spacing: list[float] | None = _setting(
        None, "depth, height, width in mm that volumes are resampled to; default: the processor's"
    )
    source_spacing: list[float] | None = _setting(
        None, "spacing in mm of the volumes' files, when their headers do not tell the truth"
    )
    processor: dict | str | None = _setting(
        None, """other settings of the processor, as JSON: '{"window": "lung"}'"""
    )

    # data sets
    dimension: str | None = _setting(None, "2d or 3d: what to take from data sets")
    split: str = _setting("train", "split of a data set")
    config_name: str | None = _setting(None, "configuration of a Hub data set that has several")
    column: str | None = _setting(None, "column of images, when a data set has several")
    streaming: bool = _setting(False, "read Hub data sets as a stream, without downloading them")

    # running
    batch_size: int = _setting(8, "inputs, or windows of a large one, that are computed at once")
    workers: int = _setting(2, "threads that read and prepare inputs; 0: none beside the main one")
    device: str = _setting("auto", "auto, cpu or cuda")
    dtype: str = _setting("float32", "type that the network computes in, or bfloat16")

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
        if not self.output or not self.model:
            raise ValueError("model and output must be given.")
        if not self.output.endswith(".parquet") and not Path(self.output).is_dir():
            raise ValueError(f"output is {self.output!r}; features are Parquet: name it *.parquet.")
        if isinstance(self.processor, str):
            self.processor = processor_changes(self.processor)
        for name in ("spacing", "source_spacing"):
            if getattr(self, name) is not None:
                setattr(self, name, list(require_spacing(name, getattr(self, name))))
        if self.spacing is not None and "spacing" in (self.processor or {}):
            raise ValueError("Give the spacing once: as spacing, or within processor.")

    def processor_overrides(self) -> dict[str, Any]:
        """Return the settings of the processor that differ from those saved with the model."""
        spacing = {} if self.spacing is None else {"spacing": self.spacing}
        return {**(self.processor or {}), **spacing}


def parse_settings(arguments: list[str] | None = None) -> tuple[list[str], ExtractionSettings]:
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
        ExtractionSettings,
        allow_abbrev=False,
        description="Extracts features of radiographs and volumes into a Parquet file.",
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
    return values.pop("inputs"), ExtractionSettings(**values)
