"""Which sample goes into which shard, the same however often and however fast it is prepared."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..layouts.item import License, Problem, SourceItem
from ..prepared import PART_OF_DIMENSION
from .origins import Origin
from .report import ReportLine
from .settings import PreparationSettings


@dataclass(frozen=True)
class Sample:
    """One image or volume to prepare.

    Attributes:
        name: Unique among all: its origin's label, and its name there.
        origin: Its origin's label.
        source: Title of its data set.
        license: Its terms.
        item: Where it is read from.
    """

    name: str
    origin: str
    source: str
    license: License
    item: SourceItem


@dataclass(frozen=True)
class Shard:
    """The samples of one file.

    Attributes:
        part: "volumes" or "radiographs".
        split: Such as "train".
        index: Its number among the shards of its part and split.
        samples: In the order of its rows.
    """

    part: str
    split: str
    index: int
    samples: tuple[Sample, ...]

    @property
    def key(self) -> str:
        """What its files are called while a preparation is under way."""
        return f"{self.part}-{self.split}-{self.index:05d}"


@dataclass(frozen=True)
class Plan:
    """All that is to be prepared.

    Attributes:
        origins: The data sets.
        shards: What to write.
        lines: What is reported of files that are no samples.
    """

    origins: tuple[Origin, ...]
    shards: tuple[Shard, ...]
    lines: tuple[ReportLine, ...]

    @property
    def num_samples(self) -> int:
        """How many images and volumes there are."""
        return sum(len(shard.samples) for shard in self.shards)


def make_plan(
    origins: Sequence[Origin],
    settings: PreparationSettings,
    on_found: Callable[[], None] = lambda: None,
) -> Plan:
    """List all samples and deal them out to shards.

    Samples of one part and split are sorted by name, brought into an order drawn from the seed, and
    cut into shards of nearly equal numbers: as few as `samples_per_shard` allows, but not fewer
    than `min_shards`, as long as each has a sample.

    Args:
        origins: The data sets.
        settings: What to take, and how many samples a shard has.
        on_found: Called for each image that is found.

    Returns:
        The plan.

    Raises:
        ValueError: If there is nothing to prepare, two samples have the same name, or a folder
            cannot be understood.
        OSError: If a folder cannot be read.
        ImportError: If pydicom is missing, and DICOM files are among them.
    """
    samples: dict[str, Sample] = {}
    lines: list[ReportLine] = []
    for origin in origins:
        found = 0
        for content in origin.contents():
            if isinstance(content, Problem):
                lines.append(_line_of(content, origin))
                continue
            found += 1
            on_found()
            sample = _sample_of(content, origin, settings)
            if sample.name in samples:
                raise ValueError(
                    f"Two images are called {sample.name}: {samples[sample.name].item.files[0]} "
                    f"and {content.files[0]}. Rename one, or its folder."
                )
            if settings.dimension not in (None, content.dimension):
                reason = f"it is {content.dimension}, and {settings.dimension} was asked for"
                lines.append(ReportLine(origin.label, content.name, "", "passed over", reason))
            else:
                samples[sample.name] = sample
        if not found:
            raise ValueError(
                f"{origin.folder} holds neither images nor volumes: found "
                f"{origin.describe_files()}; wanted PNG, JPEG, TIFF, BMP, NIfTI, MGH, "
                "MetaImage, DICOM or .npy files, or a data set with a layout of its own."
            )
    if not samples:
        raise ValueError(
            f"There is nothing to prepare: no image among the {len(lines)} files is "
            f"{settings.dimension}."
        )
    return Plan(tuple(origins), tuple(_shards(samples.values(), settings)), tuple(lines))


def _sample_of(item: SourceItem, origin: Origin, settings: PreparationSettings) -> Sample:
    if settings.source_spacing is not None and item.dimension == "3d":
        item = replace(item, spacing=settings.source_spacing)
    terms = item.license or origin.license
    return Sample(f"{origin.label}/{item.name}", origin.label, origin.title, terms, item)


def _line_of(problem: Problem, origin: Origin) -> ReportLine:
    state = "failed" if problem.is_missing else "passed over"
    # The card is public, and need not tell where on a disk the folder is.
    reason = problem.reason.replace(f"{origin.folder}/", "")
    return ReportLine(origin.label, problem.name, "", state, " ".join(reason.split()))


def _shards(samples: Iterable[Sample], settings: PreparationSettings) -> list[Shard]:
    groups: dict[tuple[str, str], list[Sample]] = {}
    for sample in sorted(samples, key=lambda sample: sample.name):
        groups.setdefault((sample.item.dimension, sample.item.split), []).append(sample)
    shards = []
    for (dimension, split), members in sorted(groups.items()):
        order = np.random.default_rng(settings.seed).permutation(len(members))
        count = max(
            math.ceil(len(members) / settings.samples_of_shard(dimension)),
            min(settings.min_shards, len(members)),
        )
        for index, places in enumerate(np.array_split(order, count)):
            rows = tuple(members[place] for place in places)
            shards.append(Shard(PART_OF_DIMENSION[dimension], split, index, rows))
    return shards
