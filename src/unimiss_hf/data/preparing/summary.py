"""What a finished preparation says of itself, in `prepared.json` and on the card."""

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..layouts.item import License
from ..prepared import FORMAT_VERSION
from ..prepared_folders import PreparedShard
from .output_folder import places_of
from .planning import Plan
from .report import ReportLine
from .settings import PreparationSettings
from .shard_writing import ShardRecord


@dataclass(frozen=True)
class SourceSummary:
    """One data set that went in.

    Attributes:
        label: What the names of its samples begin with.
        title: What people call it.
        layout: The name of its layout; "folder" if it has none.
        homepage: Where it is downloaded; "" if not known.
        licenses: The terms of its samples.
        citation: The publication to cite; "" if not known.
        num_prepared: Samples that are in.
        num_failed: Images that could not be prepared, or were missing.
    """

    label: str
    title: str
    layout: str
    homepage: str
    licenses: tuple[License, ...]
    citation: str
    num_prepared: int
    num_failed: int


@dataclass(frozen=True)
class Summary:
    """A finished preparation.

    Attributes:
        settings: How it was prepared.
        sources: What went in.
        parts: The files, by part ("volumes", "radiographs") and split.
        lines: The report.
    """

    settings: PreparationSettings
    sources: tuple[SourceSummary, ...]
    parts: dict[str, dict[str, list[PreparedShard]]]
    lines: tuple[ReportLine, ...]

    @property
    def num_failed(self) -> int:
        """Images that could not be prepared, or were missing."""
        return sum(line.state == "failed" for line in self.lines)

    def num_samples(self, part: str) -> int:
        """Rows of a part."""
        splits = self.parts.get(part, {}).values()
        return sum(file.num_samples for files in splits for file in files)

    def num_bytes(self, part: str) -> int:
        """Size of a part's files."""
        splits = self.parts.get(part, {}).values()
        return sum(file.num_bytes for files in splits for file in files)

    def to_json(self) -> str:
        """The text of `prepared.json`."""
        parts = {
            part: {split: [asdict(file) for file in files] for split, files in splits.items()}
            for part, splits in self.parts.items()
        }
        content: dict[str, Any] = {
            "format_version": FORMAT_VERSION,
            "spacing": list(self.settings.spacing),
            "parts": parts,
            "settings": self.settings.content(),
            "sources": [asdict(source) for source in self.sources],
        }
        return json.dumps(content, indent=1) + "\n"


def summarise(
    plan: Plan,
    settings: PreparationSettings,
    records: Collection[ShardRecord],
    lines: Sequence[ReportLine],
) -> Summary:
    """Count what a finished preparation has prepared.

    Args:
        plan: What was to be prepared.
        settings: How.
        records: Of all shards.
        lines: The report.
    """
    places, parts = places_of(records), {}
    for record in sorted(records, key=lambda record: record.key):
        if record.num_samples:
            file = PreparedShard(places[record.key], record.num_samples, record.num_bytes)
            parts.setdefault(record.part, {}).setdefault(record.split, []).append(file)
    states = Counter((line.source, line.state) for line in lines)
    licenses: dict[str, set[License]] = defaultdict(set)
    for shard in plan.shards:
        for sample in shard.samples:
            licenses[sample.origin].add(sample.license)
    sources = [
        SourceSummary(
            label=origin.label,
            title=origin.title,
            layout=origin.layout.name,
            homepage=origin.layout.homepage,
            licenses=tuple(sorted(licenses[origin.label], key=lambda terms: terms.name)),
            citation=origin.layout.citation,
            num_prepared=states[origin.label, "prepared"],
            num_failed=states[origin.label, "failed"],
        )
        for origin in plan.origins
    ]
    return Summary(settings, tuple(sources), parts, tuple(lines))
