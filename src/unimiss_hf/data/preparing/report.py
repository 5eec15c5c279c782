"""The report of a preparation: what became of each image, volume and other file."""

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass

_COLUMNS = ("source", "name", "split", "state", "reason", "warnings")


@dataclass(frozen=True)
class ReportLine:
    """What became of one image, volume or other file.

    Attributes:
        source: Label of its data set.
        name: Its name there: a path below the data set's folder, most often.
        split: Its split; "" if it is no sample.
        state: "prepared", "failed", "passed over", or "waiting" if the preparation was stopped.
        reason: Why it failed or was passed over.
        warnings: What is odd about it, such as a header that looks like a placeholder.
    """

    source: str
    name: str
    split: str
    state: str
    reason: str = ""
    warnings: tuple[str, ...] = ()


def report_text(lines: Iterable[ReportLine]) -> str:
    """Write lines as CSV, sorted by source and name."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for line in sorted(lines, key=lambda line: (line.source, line.name)):
        words = (line.source, line.name, line.split, line.state, line.reason)
        writer.writerow([*words, " | ".join(line.warnings)])
    return text.getvalue()
