"""Settings of an extraction, and the command line that fills them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..data.inputs import INPUT_HELP
from ..input_checks_mit import require_spacing
from ..training.recipes import check_at_least, json_mapping, parse_inputs_and_options, setting

_CHOICES = {
    "device": ("auto", "cpu", "cuda"),
    "dtype": ("float32", "bfloat16"),
    "patches_dtype": ("float32", "float16"),
    "dimension": (None, "2d", "3d"),
}


@dataclass
class ExtractionSettings:
    """Everything that defines an extraction, apart from its inputs.

    Raises:
        ValueError: If a setting cannot be had.
    """

    model: str = field(
        metadata={"help": "folder or owner/name[@revision] of a MiT, with its processor"}
    )
    output: str = field(metadata={"help": "Parquet file to write, such as features.parquet"})

    # what is extracted
    patches: bool = setting(False, "also keep the features of each patch")
    patches_dtype: str = setting("float32", "type that patch features are kept in, or float16")
    overlap: float = setting(0.0, "share of a window that the next covers again, 0 to below 1")
    spacing: list[float] | None = setting(
        None, "depth, height, width in mm that volumes are resampled to; default: the processor's"
    )
    source_spacing: list[float] | None = setting(
        None, "spacing in mm of the volumes' files, when their headers do not tell the truth"
    )
    processor: dict | str | None = setting(
        None, """other settings of the processor, as JSON: '{"window": "lung"}'"""
    )

    # data sets
    dimension: str | None = setting(None, "2d or 3d: what to take from data sets")
    split: str = setting("train", "split of a data set")
    config_name: str | None = setting(None, "configuration of a Hub data set that has several")
    column: str | None = setting(None, "column of images, when a data set has several")
    streaming: bool = setting(False, "read Hub data sets as a stream, without downloading them")

    # running
    batch_size: int = setting(8, "inputs, or windows of a large one, that are computed at once")
    workers: int = setting(2, "threads that read and prepare inputs; 0: none beside the main one")
    device: str = setting("auto", "auto, cpu or cuda")
    dtype: str = setting("float32", "type that the network computes in, or bfloat16")

    def __post_init__(self):
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                wanted = " or ".join(str(choice) for choice in choices if choice is not None)
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be {wanted}.")
        check_at_least(self, 1, ("batch_size",))
        check_at_least(self, 0, ("workers",))
        if not 0 <= self.overlap < 1:
            raise ValueError(f"overlap is {self.overlap}; it must be 0 or more, and below 1.")
        if not self.output or not self.model:
            raise ValueError("model and output must be given.")
        if not self.output.endswith(".parquet") and not Path(self.output).is_dir():
            raise ValueError(f"output is {self.output!r}; features are Parquet: name it *.parquet.")
        if isinstance(self.processor, str):
            self.processor = json_mapping("processor", self.processor, '{"window": "lung"}')
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
    return parse_inputs_and_options(
        ExtractionSettings,
        "Extracts features of radiographs and volumes into a Parquet file.",
        INPUT_HELP,
        arguments,
    )
