"""Processes may die: what they were at is told, and everything else is done."""

import os
import resource
import signal
from collections import Counter
from pathlib import Path

import pytest

from unimiss_hf.data.layouts.item import License, SourceItem, load_item
from unimiss_hf.data.preparing.planning import Sample, Shard
from unimiss_hf.data.preparing.workers import SampleDone, ShardDone, ShardLost, write_shards


def killed(item: SourceItem):
    os.kill(os.getpid(), signal.SIGKILL)


def killed_once(item: SourceItem):
    mark = item.files[0].with_suffix(".mark")
    if not mark.exists():
        mark.touch()
        os._exit(3)
    return load_item(item)


def full_disk(item: SourceItem):
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
    return load_item(item)


def told_to_stop(item: SourceItem):
    # As a batch system and Ctrl-C do, which reach every process.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(os.getpid(), number)
    return load_item(item)


@pytest.fixture
def place(tmp_path) -> tuple[Path, Path]:
    for name in ("out", "out/partial"):
        (tmp_path / name).mkdir()
    return tmp_path / "out", tmp_path / "out" / "partial"


def shards_of(films, loads=None) -> list[Shard]:
    """Three shards of two films each, of which some are read in another way."""
    paths = sorted(films.rglob("*.png"))
    samples = [
        Sample(
            path.name,
            "set",
            "Set",
            License("cc0-1.0", "CC0", ""),
            SourceItem(path.name, "2d", (path,), load=(loads or {}).get(index, load_item)),
        )
        for index, path in enumerate(paths)
    ]
    return [
        Shard("radiographs", "train", index, tuple(samples[2 * index : 2 * index + 2]))
        for index in range(3)
    ]


def outcomes_of(events) -> dict[str, tuple[str, str]]:
    records = [event.record for event in events if isinstance(event, ShardDone)]
    return {o.name: (o.state, o.reason) for record in records for o in record.outcomes}


@pytest.mark.parametrize("workers", [1, 2])
def test_all_shards_are_written(films, place, make_settings, workers):
    settings = make_settings(workers=workers)
    events = list(write_shards(shards_of(films), settings, *place, lambda: False))
    assert Counter(map(type, events)) == {SampleDone: 6, ShardDone: 3}
    assert {state for state, _ in outcomes_of(events).values()} == {"prepared"}
    assert len(list(place[0].glob("*.parquet"))) == len(list(place[0].glob("*.json"))) == 3
    assert list(place[1].iterdir()) == []


def test_a_process_that_is_killed_costs_one_sample(films, place, make_settings):
    shards = shards_of(films, {1: killed, 2: killed_once, 4: told_to_stop})
    events = list(write_shards(shards, make_settings(workers=2), *place, lambda: False))
    lost = Counter((event.name, event.key) for event in events if isinstance(event, ShardLost))
    first, second = shards[0].key, shards[1].key
    # What signals ask for is for the main process to do.
    assert lost == {("1.png", first): 2, ("2.png", second): 1}
    outcomes = outcomes_of(events)
    assert outcomes.pop("1.png") == (
        "failed",
        "the process that read it was killed by SIGKILL (out of memory? give fewer workers)",
    )
    assert {state for state, _ in outcomes.values()} == {"prepared"}
    assert len(outcomes) == 5
    reasons = {event.reason for event in events if isinstance(event, ShardLost)}
    assert "the process that read it ended with exit code 3" in reasons


def test_a_disk_that_is_full_ends_it(films, place, make_settings):
    shards = shards_of(films, {2: full_disk})
    events = []
    with pytest.raises(OSError, match=r"File too large|writing"):
        for event in write_shards(shards, make_settings(), *place, lambda: False):
            events.append(event)
    assert list(outcomes_of(events)) == ["0.png", "1.png"]
    assert [path.stem for path in place[0].glob("*.parquet")] == [shards[0].key]


def test_it_stops_when_asked(films, place, make_settings):
    events = []
    for event in write_shards(shards_of(films), make_settings(), *place, lambda: bool(events)):
        events.append(event)
    assert 1 <= len(events) < 9
