"""Settings of a probe, and the command line that fills them."""

from dataclasses import dataclass, field
from typing import Any

from ..training.recipes import (
    ShortErrorParser,
    check_at_least,
    check_types,
    json_mapping,
    setting,
)

DEVICES = ("auto", "cpu", "cuda")


@dataclass
class ProbeSettings:
    """Everything that defines a probe.

    Raises:
        ValueError: If a setting cannot be had.
    """

    model: str = field(metadata={"help": "folder or owner/name[@revision] of a MiT"})
    output: str = setting("probe.json", "file for the scores")

    # data
    dataset: str | None = setting(
        None,
        "folder of a labelled data set for classification; default: patches of the sample CT, "
        "whose class is the organ at their centre",
    )
    layout: str | None = setting(None, "which data set that is; default: found by its names")
    dataset_options: dict | str | None = setting(None, "options of the data set, as JSON")
    max_cases: int | None = setting(
        None, "cases of each part of a data set at most, drawn at random; default: all"
    )
    patches_per_class: int = setting(
        64, "patches of the sample CT to learn from, of each class; half as many are tested"
    )
    patch_size: list[int] = setting([16, 96, 96], "depth, height, width of a patch in voxels")
    spacing: list[float] = setting([3.0, 1.0, 1.0], "spacing of the patches' voxels, mm")

    # running
    seed: int = setting(0, "seed of the choice of patches or cases, and of the random weights")
    batch_size: int = setting(16, "patches, or windows of a large image, computed at once")
    device: str = setting("auto", "auto, cpu or cuda")

    def __post_init__(self) -> None:
        if isinstance(self.dataset_options, str):
            self.dataset_options = json_mapping(
                "dataset_options", self.dataset_options, '{"test_split": "validation"}'
            )
        check_types(self)
        check_at_least(self, 1, ("batch_size", "max_cases"))
        check_at_least(self, 2, ("patches_per_class",))
        check_at_least(self, 0, ("seed",))
        if self.device not in DEVICES:
            raise ValueError(f"device is {self.device!r}; it must be one of {DEVICES}.")
        if not self.output.endswith(".json"):
            raise ValueError(f"output is {self.output!r}; scores are JSON: name it *.json.")
        if self.dataset is None:
            for name in ("layout", "dataset_options", "max_cases"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} is of a data set, and no --dataset is given.")


def parse_settings(arguments: list[str] | None = None) -> ProbeSettings:
    """Read settings from a command line.

    Args:
        arguments: The words behind the program's name; those of the process by default.

    Raises:
        ValueError: If a setting cannot be had.
        SystemExit: If an option is unknown or missing, with a message of how it is spelt.
    """
    parser = ShortErrorParser(
        ProbeSettings,
        allow_abbrev=False,
        description="Measures what frozen features of a MiT know, by nearest neighbours and a "
        "linear classifier.",
    )
    values: dict[str, Any] = vars(parser.parse_args(arguments))
    return ProbeSettings(**values)
