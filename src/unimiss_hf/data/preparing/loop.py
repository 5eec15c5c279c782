"""The run of a preparation: plan, shards in many processes, everything in its place."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...training.signals import StopRequest
from ..prepared_folders import NOTE
from ..progress_line import ProgressLine
from ..whole_files import explained_writes
from .card import make_card
from .origins import Origin, find_origins
from .output_folder import CARD, HOW_TO_GO_ON, REPORT, OutputFolder
from .planning import Plan, Shard, make_plan
from .report import ReportLine, report_text
from .settings import PreparationSettings
from .shard_writing import Outcome, ShardRecord
from .summary import summarise
from .workers import SampleDone, ShardDone, ShardLost, get_ready, write_shards

# A hundred thousand failures would bury everything else; all are in the report.
_MOST_SHOWN = 10


@dataclass(frozen=True)
class PreparationResult:
    """How a preparation ended.

    Attributes:
        output: The folder.
        stopped_by: The name of the signal that stopped it; `None` if everything was dealt with.
        num_prepared: How many samples are in complete shards.
        num_failed: How many images could not be prepared, or were missing, so far.
        num_images: How many images and volumes there are, with those.
        num_new: How many samples this run dealt with.
        num_shards: How many files were written, by all runs.
        source_bytes: Size of the files that samples were read from.
        output_bytes: Size of the shards.
        seconds: What this run took, without the search for files.
        report: The list of what became of each file.
        causes: Some of the failures, as `name: reason`.
    """

    output: Path
    stopped_by: str | None
    num_prepared: int
    num_failed: int
    num_images: int
    num_new: int
    num_shards: int
    source_bytes: int
    output_bytes: int
    seconds: float
    report: Path
    causes: tuple[str, ...]


def prepare(
    words: Sequence[str | Path], output: str | Path, settings: PreparationSettings
) -> PreparationResult:
    """Make one data set in shards of folders and files of images, or go on with it.

    Each volume is reoriented to RAS+, resampled and stored as int16 HU; each radiograph is stored
    as PNG. What cannot be read is in `report.csv` with its reason. The files that are written do
    not depend on the number of processes, nor on how often the preparation was stopped. SIGINT and
    SIGTERM end it at once; shards that are complete stay, and the same call goes on.

    Args:
        words: Folders and image files, see `find_origins`.
        output: The folder to write.
        settings: Everything else.

    Returns:
        How it ended.

    Raises:
        OSError: If a source is not there, or the output cannot be written.
        ValueError: If a source or setting cannot be had, there is nothing to prepare, or the output
            was begun with others.
        ImportError: If a package that a kind of file needs is missing.
        RuntimeError: If processes cannot be started.
    """
    output = Path(output).expanduser()
    origins = find_origins(words, settings)
    _forbid_nesting(origins, output)
    with OutputFolder(output) as folder:
        get_ready()
        with ProgressLine(None, unit="image") as search:
            search.say("Looking for images")
            plan = make_plan(origins, settings, search.done)
        records = folder.begin(plan, settings)
        missing = [shard for shard in plan.shards if shard.key not in records]
        began = time.monotonic()
        if folder.is_complete and not missing:
            return _result(folder, plan, records, (), None, 0.0)
        stopped_by = _write_missing(missing, plan, settings, folder, records)
        unfinished = [shard for shard in plan.shards if shard.key not in records]
        lines = _report_lines(plan, records)
        folder.write(output / REPORT, report_text(lines))
        if not unfinished:
            _require_any(records.values(), lines, output)
            summary = summarise(plan, settings, records.values(), lines)
            title = output.resolve().name
            texts = {CARD: make_card(summary, title), NOTE: summary.to_json()}
            folder.finish(records.values(), texts)
        seconds = time.monotonic() - began
        return _result(folder, plan, records, missing, stopped_by, seconds)


def _write_missing(
    missing: Sequence[Shard],
    plan: Plan,
    settings: PreparationSettings,
    folder: OutputFolder,
    records: dict[str, ShardRecord],
) -> str | None:
    """Write shards, add their records, and return the name of the signal that stopped it."""
    before = sum(len(record.outcomes) for record in records.values())
    with (
        StopRequest(announce=False) as stop,
        ProgressLine(plan.num_samples, before, unit="image") as line,
    ):
        if records:
            line.say(f"Going on: {before} of {plan.num_samples} images are done")
        progress = _Progress(line, sum(record.num_failed for record in records.values()))
        events = write_shards(
            missing, settings, folder.hidden, folder.partial, lambda: stop.requested
        )
        try:
            with explained_writes(str(folder.path), HOW_TO_GO_ON):
                for event in events:
                    progress.note(event)
                    if isinstance(event, ShardDone):
                        records[event.record.key] = event.record
        finally:
            events.close()
    return stop.signal_name


class _Progress:
    """What is shown while shards are written."""

    def __init__(self, line: ProgressLine, num_failed: int):
        self._line = line
        self._failed = num_failed
        self._shown = 0
        self._under_way: dict[str, list[Outcome]] = {}

    def note(self, event: SampleDone | ShardDone | ShardLost) -> None:
        if isinstance(event, ShardDone):
            self._under_way.pop(event.record.key, None)
        elif isinstance(event, ShardLost):
            again = self._under_way.pop(event.key, [])
            self._failed -= sum(outcome.state == "failed" for outcome in again)
            self._line.done(-len(again), self._note())
            self._line.say(f"{event.name or event.key}: {event.reason}; its shard is begun again")
        else:
            self._under_way.setdefault(event.key, []).append(event.outcome)
            if event.outcome.state == "failed":
                self._failed += 1
                self._show(event.outcome)
            self._line.done(note=self._note())

    def _note(self) -> str:
        return f"{self._failed} failed" if self._failed else ""

    def _show(self, outcome: Outcome) -> None:
        self._shown += 1
        if self._shown <= _MOST_SHOWN:
            self._line.say(f"failed: {outcome.name}: {outcome.reason}")
        if self._shown == _MOST_SHOWN:
            self._line.say(f"Further failures are told in {REPORT} only")


def _forbid_nesting(origins: Iterable[Origin], output: Path) -> None:
    real = output.resolve()
    for origin in origins:
        folder = origin.folder.resolve()
        if not origin.files and (folder == real or folder in real.parents):
            raise ValueError(
                f"OUT, {output}, is or lies in the SOURCE {origin.folder}, whose images it would "
                "mix with. Give an OUT beside it."
            )
        if real in folder.parents or (origin.files and folder == real):
            raise ValueError(
                f"The SOURCE {origin.folder} lies in OUT, {output}. Give an OUT beside it."
            )


def _require_any(records: Iterable[ShardRecord], lines: Iterable[ReportLine], output: Path) -> None:
    if any(record.num_samples for record in records):
        return
    bad = [line for line in lines if line.state == "failed"]
    raise ValueError(
        f"None of {len(bad)} images could be prepared. The first: {bad[0].name}: {bad[0].reason} "
        f"All are in {output / REPORT}. Put this right and run again with --retry_failed."
    )


def _report_lines(plan: Plan, records: dict[str, ShardRecord]) -> list[ReportLine]:
    lines = list(plan.lines)
    for shard in plan.shards:
        record = records.get(shard.key)
        outcomes = {outcome.name: outcome for outcome in record.outcomes} if record else {}
        for sample in shard.samples:
            outcome = outcomes.get(sample.name, Outcome(sample.name, "waiting"))
            lines.append(
                ReportLine(
                    sample.origin,
                    sample.item.name,
                    shard.split,
                    outcome.state,
                    outcome.reason,
                    outcome.warnings,
                )
            )
    return lines


def _result(
    folder: OutputFolder,
    plan: Plan,
    records: dict[str, ShardRecord],
    missing: Sequence[Shard],
    stopped_by: str | None,
    seconds: float,
) -> PreparationResult:
    outcomes = [outcome for record in records.values() for outcome in record.outcomes]
    bad = [f"{o.name}: {o.reason}" for o in outcomes if o.state == "failed"]
    absent = [f"{line.name}: {line.reason}" for line in plan.lines if line.state == "failed"]
    done = [records[shard.key] for shard in missing if shard.key in records]
    return PreparationResult(
        output=folder.path,
        stopped_by=None if folder.is_complete else stopped_by,
        num_prepared=sum(record.num_samples for record in records.values()),
        num_failed=len(bad) + len(absent),
        num_images=plan.num_samples + len(absent),
        num_new=sum(len(record.outcomes) for record in done),
        num_shards=sum(record.num_samples > 0 for record in records.values()),
        source_bytes=sum(outcome.source_bytes for outcome in outcomes),
        output_bytes=sum(record.num_bytes for record in records.values()),
        seconds=seconds,
        report=folder.path / REPORT,
        causes=tuple([*bad, *absent][:_MOST_SHOWN]),
    )
