"""Settings of a preparation."""

import os
from dataclasses import dataclass, field, fields
from typing import Any

from ...input_checks_mit import require_spacing

# A prepared chest CT has about 12 MB, a prepared radiograph about half a MB: some 400 MB a shard.
_SAMPLES_PER_SHARD = {"3d": 32, "2d": 1024}


def _content(default: Any, text: str, **options: Any) -> Any:
    """A setting that decides what is written, and so must not change from run to run."""
    return field(default=default, metadata={"help": text, "content": True, **options})


def _running(default: Any, text: str, **options: Any) -> Any:
    return field(default=default, metadata={"help": text, "content": False, **options})


@dataclass
class PreparationSettings:
    """Everything that defines a preparation, apart from its sources.

    A field's metadata say how it is an option of a command: `help`, and what else argparse takes.

    Raises:
        ValueError: If a setting cannot be had.
    """

    dimension: str | None = _content(
        None, "prepare only radiographs (2d) or volumes (3d) (default: both)", choices=["2d", "3d"]
    )
    layout: str | None = _content(
        None,
        "name of the data set that each SOURCE is; folder for none in particular (default: told by "
        "its folders and file names)",
        metavar="NAME",
    )
    spacing: tuple[float, ...] = _content(
        (3.0, 1.0, 1.0),
        "depth, height, width in mm that volumes are resampled to (default: 3 1 1)",
        type=float,
        nargs=3,
        metavar="MM",
    )
    source_spacing: tuple[float, ...] | None = _content(
        None,
        "true spacing in mm of the volumes' files, when their headers do not tell it",
        type=float,
        nargs=3,
        metavar="MM",
    )
    max_image_side: int = _content(
        1024,
        "most pixels of a radiograph's longer side; larger ones are shrunk, antialiased; 0 keeps "
        "all (default: 1024)",
        type=int,
    )
    license: str = _content(
        "unknown",
        "licence of sources that are no named data set, as the Hub writes it: cc-by-4.0, ... "
        "(default: unknown)",
    )
    samples_per_shard: int | None = _content(
        None,
        f"most samples of a file (default: {_SAMPLES_PER_SHARD['3d']} volumes, "
        f"{_SAMPLES_PER_SHARD['2d']} radiographs)",
        type=int,
    )
    min_shards: int = _content(
        64,
        "least number of files, if there are as many samples: training reads as many files at once "
        "as it has processes times workers (default: 64)",
        type=int,
    )
    seed: int = _content(0, "seed of the order of samples (default: 0)", type=int)

    workers: int | None = _running(
        None,
        "processes that read and convert; each takes about 2 GB for a CT of 512x512x600 voxels "
        "(default: one for each core)",
        type=int,
    )
    max_bad_fraction: float = _running(
        0.05,
        "end with an error if more than this share of all images failed; what was prepared stays "
        "(default: 0.05)",
        type=float,
    )
    retry_failed: bool = _running(
        False, "try again what failed before, in OUT", action="store_true"
    )
    overwrite: bool = _running(
        False, "delete what was prepared in OUT before, and begin anew", action="store_true"
    )

    def __post_init__(self):
        for name, least in (
            ("max_image_side", 0),
            ("samples_per_shard", 1),
            ("min_shards", 1),
            ("seed", 0),
            ("workers", 1),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} is {value}; it must be {least} or more.")
        if self.dimension not in (None, "2d", "3d"):
            raise ValueError(f"dimension is {self.dimension!r}; it must be 2d or 3d.")
        if not 0 <= self.max_bad_fraction <= 1:
            raise ValueError(
                f"max_bad_fraction is {self.max_bad_fraction}; it must be from 0 to 1."
            )
        if not self.license.strip():
            raise ValueError("license is empty; name one, such as cc-by-4.0, or unknown.")
        if self.retry_failed and self.overwrite:
            raise ValueError("Give retry_failed or overwrite, not both.")
        for name in ("spacing", "source_spacing"):
            if getattr(self, name) is not None:
                lengths = require_spacing(name, getattr(self, name))
                setattr(self, name, tuple(float(length) for length in lengths))

    def content(self) -> dict[str, Any]:
        """Return the settings that decide what is written, as plain JSON values."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.metadata["content"]}
        return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}

    def changed_content(self) -> dict[str, Any]:
        """Return those of `content` that are not the default."""
        usual = PreparationSettings().content()
        return {name: v for name, v in self.content().items() if v != usual[name]}

    def num_workers(self) -> int:
        """Return how many processes convert."""
        if self.workers is not None:
            return self.workers
        # Batch systems and containers often lend a process fewer cores than the machine has.
        affinity = getattr(os, "sched_getaffinity", None)
        return len(affinity(0)) if affinity else os.cpu_count() or 1

    def samples_of_shard(self, dimension: str) -> int:
        """Return the most samples of a shard of volumes ("3d") or radiographs ("2d")."""
        return self.samples_per_shard or _SAMPLES_PER_SHARD[dimension]
