"""What a conversion did."""

from dataclasses import dataclass
from pathlib import Path

from .renaming import list_names


@dataclass(frozen=True)
class ConversionReport:
    """What was converted, from which file, and which weights matched.

    Args:
        checkpoint: The official file.
        folder: The folder that was written.
        sha256: Checksum of the official file, in hexadecimal digits.
        branch: "teacher" or "student"; `None` if the file held one network only.
        epoch: The epochs of pretraining that the file records, or `None`.
        size: "tiny" or "small".
        encoder_parameters: Number of parameters of the encoder.
        decoder_parameters: Number of parameters of the U-decoder.
        head_parameters: Number of parameters of the projection head.
        num_prototypes: Number of prototypes of the projection head.
        matched: Our names of the weights taken from the file.
        missing: Our names of the projection head's weights that the file has none for. They are
            new, randomly initialised.
        unexpected: The file's keys that the network has no place for. They are left out.
        converted: How many weights were of each other type than float32, such as
            `{"float16": 207}`.
    """

    checkpoint: Path
    folder: Path
    sha256: str
    branch: str | None
    epoch: int | None
    size: str
    encoder_parameters: int
    decoder_parameters: int
    head_parameters: int
    num_prototypes: int
    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    converted: dict[str, int]

    @property
    def head(self) -> str:
        """Whether the projection head is the file's: "kept", "new" or "partly new"."""
        if not self.missing:
            return "kept"
        has_some = any(name.startswith("projection_head.") for name in self.matched)
        return "partly new" if has_some else "new"

    def lines(self) -> list[str]:
        """Write the report as the command prints it."""
        backbone = self.encoder_parameters + self.decoder_parameters
        lines = [
            f"Checkpoint: {self.checkpoint.name}, {self.branch or 'one network'}, "
            f"{'epoch not recorded' if self.epoch is None else f'epoch {self.epoch}'}, "
            f"sha256 {self.sha256}",
            f"MiT-{self.size}: {backbone / 1e6:.2f} M parameters, and "
            f"{self.head_parameters / 1e6:.2f} M in the projection head with "
            f"{self.num_prototypes:,} prototypes",
            f"Weights: {len(self.matched)} matched, {len(self.missing)} missing, "
            f"{len(self.unexpected)} unexpected",
        ]
        if self.missing:
            lines.append(
                f"Warning: the projection head is {self.head}, randomly initialised where it is "
                f"missing. Features are the file's; pretraining would not continue from its head."
            )
            lines.append(f"Missing: {list_names(self.missing)}")
        if self.unexpected:
            lines.append(f"Left out: {list_names(self.unexpected)}")
        lines += [
            f"Converted from {kind} to float32: {count} weights"
            for kind, count in self.converted.items()
        ]
        return [*lines, f"Model: {self.folder}  (AutoModel.from_pretrained opens it)"]
