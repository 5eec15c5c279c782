"""Batches of prepared data resume exactly, and shards that are too few are told."""

import itertools
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from datasets import Dataset, Nifti

from prepared_folders import (
    SPACING,
    radiograph_row,
    served,
    tiny_folder,
    volume_row,
    voxels_of,
    write_prepared,
)
from unimiss_hf.data.loader import make_loader
from unimiss_hf.data.prepared import encode_volume
from unimiss_hf.data.reading import Region
from unimiss_hf.data.sources import Source, open_source
from unimiss_hf.data.stream import SampleStream
from unimiss_hf.data.stream_settings import StreamSettings

SETTINGS = {
    "3d": {"window": (6, 16, 16), "minimum": (4, 8, 8), "crops_per_volume": 2},
    "2d": {"window": (8, 8)},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("prepared"))


def stream_of(source: Source, rank: int = 0, world_size: int = 1, **changes) -> SampleStream:
    settings = StreamSettings(**{"shuffle_buffer": 3, **SETTINGS[source.dimension], **changes})
    return SampleStream(source, settings, rank=rank, world_size=world_size)


def take(stream, count: int) -> list[dict]:
    return list(itertools.islice(iter(stream), count))


def assert_same(left: list[dict], right: list[dict]) -> None:
    assert [sample["name"] for sample in left] == [sample["name"] for sample in right]
    for one, other in zip(left, right, strict=True):
        for key in ("image", "extent", "seed"):
            assert torch.equal(one[key], other[key]), key


def of_seed(extent: Sequence[int], seed: int) -> Region:
    """A part of the window whose size and place depend on the seed."""
    start = [seed // 3**axis % 2 for axis in range(3)]
    return start, [n - s - seed // 7 % 3 for n, s in zip(extent, start, strict=True)]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_batches_of_regions_are_as_large_as_the_largest(folder, num_workers):
    source = open_source(folder, "3d")
    settings = StreamSettings(**SETTINGS["3d"])
    samples = take(SampleStream(source, settings), 12)
    loader = make_loader(SampleStream(source, settings, region=of_seed), 4, num_workers)
    batches = take(loader, 3)
    assert len({batch["image"].shape for batch in batches}) > 1
    for number, sample in enumerate(samples):
        batch, row = batches[number // 4], number % 4
        start, length = of_seed(sample["extent"].tolist(), int(sample["seed"]))
        assert batch["name"][row] == sample["name"]
        assert batch["start"][row].tolist() == start
        assert torch.equal(batch["extent"][row], sample["extent"])
        part, image = sample["image"][0], batch["image"][row, 0] / 1024
        part = part[tuple(slice(s, s + n) for s, n in zip(start, length, strict=True))]
        assert torch.equal(image[tuple(map(slice, length))], part)
        assert image.abs().sum() == image[tuple(map(slice, length))].abs().sum()
    assert batches[0]["image"].dtype == torch.int16


def test_prepared_volumes_and_files_may_be_in_one_batch():
    image = nibabel.Nifti1Image(voxels_of(0).transpose(), np.diag([1, 1, 3, 1]))
    contents = [encode_volume(voxels_of(0), SPACING), image.to_bytes()]
    records = [
        {"bytes": content, "path": name} for name, content in zip("ab", contents, strict=True)
    ]
    data = Dataset.from_dict({"image": records}).cast_column("image", Nifti(decode=False))
    settings = StreamSettings(window=(9, 20, 21), minimum=(4, 8, 8))
    stream = SampleStream(
        open_source(data, "3d"), settings, region=lambda extent, _: ((0, 0, 0), extent)
    )
    [batch] = take(make_loader(stream, 2), 1)
    assert sorted(batch["name"]) == ["a", "b"]
    assert batch["image"].dtype == torch.float32
    assert torch.equal(*batch["image"])


@pytest.mark.parametrize("dimension", ["2d", "3d"])
def test_samples_are_the_same_in_the_same_order_wherever_they_lie(folder, tmp_path, dimension):
    local = open_source(folder, dimension)
    samples = take(stream_of(local), 40)
    assert len({sample["name"] for sample in samples}) == local.num_samples
    assert_same(take(stream_of(open_source(folder, dimension, streaming=True)), 40), samples)
    part = {"2d": "radiographs", "3d": "volumes"}[dimension]
    with served(folder) as server:
        remote = open_source(server.address, dimension, streaming=True)
        assert_same(take(stream_of(remote), 40), samples)
        files = [f"{server.address}/{file.relative_to(folder)}" for file in shards(folder, part)]
        # Plain shards are streams of bytes: a volume among them is read whole, and cut the same.
        assert_same(take(stream_of(open_source(files, dimension, streaming=True)), 40), samples)
        # What one copy stopped at, another goes on with.
        stopped = stream_of(remote)
        take(stopped, 11)
    resumed = stream_of(local)
    resumed.load_state_dict(stopped.state_dict())
    assert_same(take(resumed, 29), samples[11:])


def shards(folder: Path, part: str) -> list[Path]:
    return sorted((folder / part).iterdir())


def test_saved_data_set_gives_the_same_samples(tmp_path):
    """It has a shard for each of few records."""
    rows = [volume_row(index) for index in range(4)]
    folder = write_prepared(tmp_path / "prepared", [[row] for row in rows])
    Dataset.from_list(rows).save_to_disk(tmp_path / "saved")
    saved = open_source(tmp_path / "saved", "3d")
    assert_same(take(stream_of(saved), 20), take(stream_of(open_source(folder, "3d")), 20))


@pytest.mark.parametrize("dimension", ["2d", "3d"])
@pytest.mark.parametrize("world_size", [1, 2])
def test_prepared_streams_resume_exactly_everywhere(folder, dimension, world_size):
    """Two processes share out three shards singly, and two shards as wholes."""
    source, count = open_source(folder, dimension), 34
    for rank in range(world_size):
        whole = take(stream_of(source, rank, world_size), count)
        running = stream_of(source, rank, world_size)
        states = [running.state_dict()]
        for _ in itertools.islice(running, count - 4):
            states.append(json.loads(json.dumps(running.state_dict())))
        for position, state in enumerate(states):
            resumed = stream_of(source, rank, world_size)
            resumed.load_state_dict(state)
            assert_same(take(resumed, 3), whole[position : position + 3])


@pytest.mark.parametrize("dimension", ["2d", "3d"])
def test_processes_share_prepared_data(folder, dimension):
    source = open_source(folder, dimension)
    crops = stream_of(source).settings.crops_per_volume
    names = []
    for rank in range(2):
        stream = stream_of(source, rank, 2)
        for sample in stream:
            if stream.state_dict()["progress"]["epoch"] == 1:
                break
            names.append(sample["name"])
    assert {name: names.count(name) for name in names} == {
        f"lidc/{index}": crops for index in range(source.num_samples)
    }


@pytest.mark.parametrize("where", ["here", "behind an address"])
def test_loaders_with_workers_resume_exactly(folder, where):
    with served(folder) as server:
        source = open_source(
            folder if where == "here" else server.address, "3d", streaming=where != "here"
        )

        def loader():
            return make_loader(stream_of(source), 2, num_workers=2)

        whole = list(itertools.islice(loader(), 12))
        stopped = loader()
        list(itertools.islice(stopped, 5))
        resumed = loader()
        resumed.load_state_dict(stopped.state_dict())
        assert_same(list(itertools.islice(resumed, 7)), whole[5:])
        # readers that still wait for a server which has gone try again for a minute
        del stopped, resumed


def test_resuming_reads_what_comes_and_not_what_was(folder):
    with served(folder) as server:
        source = open_source(server.address, "3d", streaming=True)
        first = stream_of(source)
        take(first, 2 * 5)
        state, read = first.state_dict(), server.bytes_sent
        resumed = stream_of(source)
        resumed.load_state_dict(state)
        take(resumed, 2)
        assert 0 < server.bytes_sent - read < read / 3


def test_state_of_other_data_is_refused(folder, tmp_path):
    parts = ((0, 1, 2), (3, 4), (5, 6))
    noisy = encode_volume(voxels_of(7, (12, 20, 21)), SPACING)
    rows = [[volume_row(n, noisy if n == 6 else None) for n in part] for part in parts]
    other = write_prepared(tmp_path, rows)
    state = stream_of(open_source(folder, "3d")).state_dict()
    changed = open_source(other, "3d")
    assert (changed.num_samples, changed.num_shards) == (7, 3)
    with pytest.raises(ValueError, match="content"):
        stream_of(changed).load_state_dict(state)


def test_spacing_is_compared_before_anything_is_read(folder):
    source = open_source(folder, "3d")
    with pytest.raises(ValueError, match=r"prepared.*\(3.0, 1.0, 1.0\) mm.*--spacing 2 1 1"):
        stream_of(source, spacing=(2, 1, 1))
    with pytest.raises(ValueError, match=r"source_spacing=\(2, 1, 1\) comes too late"):
        stream_of(source, source_spacing=(2, 1, 1))
    assert len(take(stream_of(source, spacing=None), 3)) == 3


def test_damage_that_a_window_meets_is_counted_and_resumed(tmp_path):
    rows = [volume_row(index) for index in range(24)]
    rows[3] = volume_row(3, b"no")
    rows[7] = volume_row(7, rows[7]["volume"]["bytes"][:-30])
    source = open_source(write_prepared(tmp_path, [rows[:12], rows[12:]]), "3d")
    whole = take(stream_of(source, max_bad_fraction=0.2), 70)
    assert {f"lidc/{n}" for n in range(24)} - {s["name"] for s in whole} == {"lidc/3", "lidc/7"}
    assert whole[43]["bad_records"] == 2
    stopped = stream_of(source, max_bad_fraction=0.2)
    for position in range(0, 60, 5):
        resumed = stream_of(source, max_bad_fraction=0.2)
        resumed.load_state_dict(stopped.state_dict())
        assert_same(take(resumed, 5), whole[position : position + 5])
        take(stopped, 5)


def warnings_of(source: Source, caplog, rank: int, world_size: int, workers: int) -> list[str]:
    caplog.clear()
    with caplog.at_level(logging.WARNING, "unimiss_hf"):
        make_loader(stream_of(source, rank, world_size), 1, workers)
    return [record.getMessage() for record in caplog.records]


def test_too_few_shards_are_told_once(folder, caplog):
    radiographs, volumes = open_source(folder, "2d"), open_source(folder, "3d")
    (message,) = warnings_of(radiographs, caplog, 0, 2, 2)
    assert str(folder) in message
    assert "2 shards for 4 readers (2 processes x 2 workers)" in message
    assert "goes through all data" in message
    assert "4 shards" in message
    (message,) = warnings_of(volumes, caplog, 0, 2, 2)
    assert "3 shards for 4 readers" in message
    assert "opens every shard" in message
    assert not warnings_of(radiographs, caplog, 1, 2, 2)
    assert not warnings_of(radiographs, caplog, 0, 1, 2)
    # Three shards for two volumes' readers cost nothing, as rows are opened where they lie.
    assert not warnings_of(volumes, caplog, 0, 2, 1)


def test_plain_streams_are_advised_not_to_stream(caplog):
    rows = Dataset.from_list([radiograph_row(index)["image"] for index in range(6)])
    stream = open_source(Dataset.to_iterable_dataset(rows, 3), "2d", column="bytes")
    (message,) = warnings_of(stream, caplog, 0, 1, 2)
    assert "3 shards for 2 readers" in message
    assert "do not stream" in message
    assert not warnings_of(open_source(rows, "2d", column="bytes"), caplog, 0, 2, 2)
