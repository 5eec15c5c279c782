"""Settings of predictions, and the command line that fills them."""

from dataclasses import dataclass, field

from ..data.inputs import INPUT_HELP
from ..input_checks_mit import require_spacing
from ..training.recipes import check_at_least, json_mapping, parse_inputs_and_options, setting

_CHOICES = {"device": ("auto", "cpu", "cuda"), "dimension": (None, "2d", "3d")}


@dataclass
class PredictionSettings:
    """Everything that defines predictions, apart from their inputs.

    Raises:
        ValueError: If a setting cannot be had.
    """

    model: str = field(metadata={"help": "folder or owner/name[@revision] of a fine-tuned MiT"})
    output: str = field(metadata={"help": "folder to write to"})

    # what is predicted
    probabilities: bool = setting(
        False, "segmentation: also keep each class's probabilities (classification always has them)"
    )
    overlap: float = setting(0.5, "share of a window that the next covers again, 0 to below 1")
    mirror: list[int] = setting(
        [],
        "segmentation: axes, 0 being the first of ([depth,] height, width), along which windows "
        "are mirrored too, and predictions averaged",
    )
    source_spacing: list[float] | None = setting(
        None, "spacing in mm of the volumes' files, when their headers do not tell the truth"
    )
    processor: dict | str | None = setting(
        None, """settings of the processor that differ, as JSON: '{"spacing": [3, 1, 1]}'"""
    )

    # data sets
    dimension: str | None = setting(None, "2d or 3d: what to take from data sets")
    split: str = setting("train", "split of a data set")
    config_name: str | None = setting(None, "configuration of a Hub data set that has several")
    column: str | None = setting(None, "column of images, when a data set has several")
    streaming: bool = setting(False, "read Hub data sets as a stream, without downloading them")

    # running
    batch_size: int = setting(4, "inputs, or windows of one, that are computed at once")
    workers: int = setting(1, "threads that read and prepare inputs; 0: none beside the main one")
    device: str = setting("auto", "auto, cpu or cuda")

    def __post_init__(self):
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                wanted = " or ".join(str(choice) for choice in choices if choice is not None)
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be {wanted}.")
        check_at_least(self, 1, ("batch_size",))
        check_at_least(self, 0, ("workers",))
        if not 0 <= self.overlap < 1:
            raise ValueError(f"overlap is {self.overlap}; it must be 0 or more, and below 1.")
        self.mirror = sorted(self.mirror)
        if len(set(self.mirror)) < len(self.mirror) or not {0, 1, 2}.issuperset(self.mirror):
            raise ValueError(f"mirror is {self.mirror}; wanted different axes among 0, 1 and 2.")
        if not self.output or not self.model:
            raise ValueError("model and output must be given.")
        if isinstance(self.processor, str):
            self.processor = json_mapping("processor", self.processor, '{"window": "lung"}')
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
    return parse_inputs_and_options(
        PredictionSettings,
        "Segments or classifies radiographs and volumes with a fine-tuned model.",
        INPUT_HELP,
        arguments,
    )
