"""A shard is complete or not there, and tells what became of each of its samples."""

import json
import resource
import warnings
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from datasets import Features

from unimiss_hf.data.layouts.item import License, SourceItem
from unimiss_hf.data.prepared import RADIOGRAPH_FEATURES, VOLUME_FEATURES
from unimiss_hf.data.preparing.planning import Sample, Shard
from unimiss_hf.data.preparing.shard_writing import ShardRecord, write_shard
from unimiss_hf.image_reading_mit import load_radiograph, load_volume


def sample(path: Path, dimension="2d", **fields) -> Sample:
    item = SourceItem(path.name, dimension, (path,), **fields)
    return Sample(f"set/{path.name}", "set", "Set", License("cc0-1.0", "CC0", ""), item)


def warned(item: SourceItem):
    warnings.warn(f"{item.files[0]} is odd", stacklevel=1)
    return load_radiograph(item.files[0])


def out_of_memory(item: SourceItem):
    raise MemoryError


@pytest.fixture
def places(tmp_path) -> tuple[Path, Path]:
    for name in ("out", "partial"):
        (tmp_path / name).mkdir()
    return tmp_path / "out", tmp_path / "partial"


def shard_of(samples, part="radiographs") -> Shard:
    return Shard(part, "train", 7, tuple(samples))


@pytest.mark.parametrize(
    ("part", "features", "rows"),
    [("radiographs", RADIOGRAPH_FEATURES, 32), ("volumes", VOLUME_FEATURES, 1)],
)
def test_rows_have_their_features_and_stand_in_small_groups(
    films, scans, places, make_settings, part, features, rows
):
    folder, dimension = (scans, "3d") if part == "volumes" else (films, "2d")
    paths = sorted(path for path in folder.iterdir() if path.is_file())
    shard = shard_of([sample(path, dimension) for path in paths] * 10, part)
    record = write_shard(shard, make_settings(), *places)
    path = places[0] / f"{part}-train-00007.parquet"
    assert (record.num_samples, record.num_bytes) == (10 * len(paths), path.stat().st_size)
    with pyarrow.parquet.ParquetFile(path) as file:
        assert Features.from_arrow_schema(file.schema_arrow) == features
        groups = [file.metadata.row_group(i) for i in range(file.num_row_groups)]
        assert {group.column(0).compression for group in groups} == {"UNCOMPRESSED"}
        assert [group.num_rows for group in groups[:-1]] == [rows] * (len(groups) - 1)
        assert file.read(["name"])["name"].to_pylist() == [s.name for s in shard.samples]


def test_what_fails_is_told_and_the_others_are_stored(films, places, make_settings):
    (films / "0.png").write_bytes(b"damaged")
    samples = [
        sample(films / "0.png"),
        sample(films / "1.png", load=warned),
        sample(films / "2.png", load=out_of_memory),
        sample(films / "3.png"),
        sample(films / "gone.png"),
    ]
    begun, done = [], []
    lost = {samples[3].name: "the process was killed"}
    record = write_shard(
        shard_of(samples), make_settings(), *places, lost, begun.append, done.append
    )
    names = [one.name for one in samples]
    assert begun == names
    assert tuple(done) == record.outcomes
    outcomes = {outcome.name: outcome for outcome in record.outcomes}
    states = [outcomes[name].state for name in names]
    assert states == ["failed", "prepared", "failed", "failed", "failed"]
    assert outcomes["set/1.png"].warnings == ("1.png is odd",)
    assert outcomes["set/1.png"].source_bytes == (films / "1.png").stat().st_size
    assert outcomes["set/2.png"].reason == "MemoryError"
    assert outcomes["set/3.png"].reason == "the process was killed"
    assert outcomes["set/gone.png"].reason.startswith("[Errno 2] No such file")
    assert record.num_failed == 4
    assert str(films) not in json.dumps([outcome.reason for outcome in record.outcomes])
    assert ShardRecord.load(places[0] / "radiographs-train-00007.json") == record


def test_without_rows_there_is_no_file(films, places, make_settings):
    samples = [sample(films / "gone.png"), sample(films / "0.png", "2d", load=out_of_memory)]
    record = write_shard(shard_of(samples), make_settings(), *places)
    assert (record.num_samples, record.num_bytes) == (0, 0)
    assert [path.name for path in places[0].iterdir()] == ["radiographs-train-00007.json"]


def test_what_is_interrupted_leaves_nothing(scans, places, make_settings):
    def interrupt(name):
        if name == "set/3.nii.gz":
            raise KeyboardInterrupt

    shard = shard_of([sample(scans / f"{index}.nii.gz", "3d") for index in range(5)], "volumes")
    with pytest.raises(KeyboardInterrupt):
        write_shard(shard, make_settings(), *places, on_begun=interrupt)
    assert [list(place.iterdir()) for place in places] == [[], []]


def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path, places, make_settings):
    voxels = np.random.default_rng(0).integers(-1000, 1000, (8, 64, 64), dtype=np.int16)
    np.save(tmp_path / "a.npy", voxels)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    shard = shard_of([sample(tmp_path / "a.npy", "3d", load=load_noise)] * 3, "volumes")
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError, match=r"File too large|write"):
            write_shard(shard, make_settings(), *places)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [list(place.iterdir()) for place in places] == [[], []]
    assert write_shard(shard, make_settings(), *places).num_samples == 3


def load_noise(item: SourceItem):
    return load_volume(item.files[0], (3, 1, 1))


def test_the_same_samples_give_the_same_bytes(scans, places, make_settings):
    shard = shard_of([sample(scans / f"{index}.nii.gz", "3d") for index in range(5)], "volumes")
    contents = []
    for _ in range(2):
        write_shard(shard, make_settings(), *places)
        contents.append([path.read_bytes() for path in sorted(places[0].iterdir())])
    assert contents[0] == contents[1]
