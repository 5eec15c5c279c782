"""Prepared data are found by dimension and are the same wherever they lie."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
from datasets import load_dataset

from loopback_hub import LoopbackHub, Repository
from prepared_folders import radiograph_row, served, tiny_folder, volume_row, write_prepared
from unimiss_hf.data.prepared_folders import (
    NOTE,
    PreparedFolder,
    PreparedShard,
    find_at_address,
    find_in_folder,
)
from unimiss_hf.data.reading import read_record
from unimiss_hf.data.sources import Source, open_source

CARD = """---
configs:
- config_name: volumes
  data_files: [{split: train, path: volumes/train-*.parquet}]
- config_name: radiographs
  data_files: [{split: train, path: radiographs/train-*.parquet}]
---
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("prepared"))


def described(source: Source) -> tuple:
    return source.num_samples, source.num_shards, source.spacing, source.content


def test_part_is_chosen_by_dimension(folder):
    volumes, radiographs = (open_source(folder, dimension) for dimension in ("3d", "2d"))
    assert (volumes.num_samples, volumes.num_shards, volumes.spacing) == (7, 3, (3, 1, 1))
    assert (radiographs.num_samples, radiographs.num_shards, radiographs.spacing) == (8, 2, None)
    assert volumes.records.num_shards == 3
    assert volumes.records.features == {"image": datasets.Nifti(decode=False)}
    assert radiographs.records.features == {"image": datasets.Image(decode=False)}
    assert [record["image"]["bytes"] for record in volumes.records] == [None] * 7
    assert [record["image"] for record in radiographs.records] == [
        radiograph_row(index)["image"] for index in range(8)
    ]
    assert volumes.content != radiographs.content
    assert radiographs.is_sequential and not volumes.is_sequential


def test_a_copy_has_the_same_content_and_another_preparation_has_not(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    fewer = write_prepared(tmp_path / "other", [[volume_row(0)], [volume_row(1)], [volume_row(2)]])
    contents = [open_source(f, "3d").content for f in (folder, tmp_path / "copy", fewer)]
    assert contents[0] == contents[1] != contents[2]


@pytest.mark.parametrize("dimension", ["2d", "3d"])
@pytest.mark.parametrize("streaming", [True, False])
def test_behind_an_address(folder, dimension, streaming, monkeypatch):
    # The datasets library downloads nothing while the Hub is switched off, as it is in tests.
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    local = open_source(folder, dimension)
    with served(folder) as server:
        for address in (server.address, f"{server.address}/"):
            remote = open_source(address, dimension, streaming=streaming)
            assert described(remote) == described(local)
        if not streaming:
            server.failures = 10**6
        if dimension == "2d" or not streaming:
            assert len(list(remote.records)) == local.num_samples
        assert all("://" not in r["image"]["path"] or streaming for r in remote.records)


def test_download_that_the_library_forbids_is_explained(folder):
    with (
        served(folder) as server,
        pytest.raises(ConnectionError, match=r"HF_HUB_OFFLINE.*streaming=True"),
    ):
        open_source(server.address, "3d", streaming=False)


def test_addresses_of_shards(folder):
    names = [f"volumes/train-{index:05}-of-00003.parquet" for index in range(3)]
    with served(folder) as server:
        addresses = [f"{server.address}/{name}" for name in names]
        source = open_source(addresses, "3d", streaming=True)
        assert described(source) == (None, 3, None, None)
        records = [record["image"] for record in source.records]
        assert records == [volume_row(index)["volume"] for index in range(7)]
        assert open_source(addresses[0], "3d", streaming=True).num_shards == 1
        with pytest.raises(ValueError, match=r"prepared\.json.*Parquet, Arrow or tar"):
            open_source(f"{server.address}/volumes", "3d")
        with pytest.raises(ValueError, match=r"prepared\.json.*Parquet, Arrow or tar"):
            open_source([server.address, addresses[0]], "3d")


def test_server_that_is_not_there():
    with pytest.raises(ConnectionError, match=r"127\.0\.0\.1:9/nothing.*Check the address"):
        find_at_address("http://127.0.0.1:9/nothing")


def test_the_library_loads_a_part(folder, tmp_path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "README.md").write_text(CARD)
    for streaming in (False, True):
        rows = load_dataset(str(tmp_path), "volumes", split="train", streaming=streaming)
        assert [row["name"] for row in rows] == [f"lidc/{index}" for index in range(7)]


def test_saved_and_given_datasets(folder, tmp_path):
    files = [str(file) for file in sorted(folder.glob("volumes/*.parquet"))]
    rows = load_dataset("parquet", data_files=files, split="train")
    rows.save_to_disk(tmp_path / "saved")
    for spec in (tmp_path / "saved", rows, folder / "volumes", files):
        records = [record["image"] for record in open_source(spec, "3d").records]
        assert records == [volume_row(index)["volume"] for index in range(7)]


def test_split_and_part_that_are_not_there(folder, tmp_path):
    with pytest.raises(ValueError, match=r"no split 'test' of volumes, but train\. Name one"):
        open_source(folder, "3d", split="test")
    films = write_prepared(tmp_path, radiographs=[[radiograph_row(0)]], split="test")
    assert open_source(films, "2d", split="test").num_samples == 1
    with pytest.raises(ValueError, match=r"no volumes: .* radiographs alone\..*prepare volumes"):
        open_source(films, "3d", split="test")
    with pytest.raises(ValueError, match=r"column 'volume'; got column='image'"):
        open_source(folder, "3d", column="image")
    assert open_source(folder, "3d", column="volume").num_samples == 7


def test_copy_that_is_not_whole(tmp_path):
    tiny_folder(tmp_path)
    shards = sorted(tmp_path.glob("volumes/*.parquet"))
    shards[1].write_bytes(shards[1].read_bytes()[:-5])
    with pytest.raises(FileNotFoundError, match=r"train-00001.*bytes.*no whole copy"):
        open_source(tmp_path, "3d")
    shards[1].unlink()
    with pytest.raises(FileNotFoundError, match=r"train-00001.*is missing"):
        open_source(tmp_path, "3d")
    assert open_source(tmp_path, "2d").num_samples == 8


@pytest.mark.parametrize(
    ("note", "message"),
    [
        ("{", "damaged"),
        ("[]", "damaged"),
        ({"format_version": 2}, "version 2, and this version of unimiss_hf reads 1"),
        ({"format_version": 1, "parts": {}}, "'spacing'"),
        ({"format_version": 1, "spacing": [3, 1], "parts": {}}, "3 positive mm"),
        ({"format_version": 1, "spacing": [3, 1, 1], "parts": ["volumes"]}, "damaged"),
        (
            {"format_version": 1, "spacing": [3, 1, 1], "parts": {"volumes": {"train": [{}]}}},
            "'file'",
        ),
    ],
)
def test_damaged_notes_are_named(tmp_path, note, message):
    (tmp_path / NOTE).write_text(note if isinstance(note, str) else json.dumps(note))
    with pytest.raises(ValueError, match=message) as caught:
        find_in_folder(tmp_path)
    assert str(tmp_path) in str(caught.value)


# Leaves each stream before its end, as a run does, which must not keep a process from ending.
PROGRAM = """
import datasets, huggingface_hub, json, sys
from unimiss_hf.data.reading import read_record
from unimiss_hf.data.sources import open_source

print(json.dumps("blosc2" in sys.modules))
for name, dimension, streaming, offline in json.loads(sys.argv[1]):
    # What HF_HUB_OFFLINE sets, which is read once.
    datasets.config.HF_HUB_OFFLINE = huggingface_hub.constants.HF_HUB_OFFLINE = offline
    try:
        source = open_source(name, dimension, streaming=streaming)
        first = [next(iter(source.records.shard(source.num_shards, n))) for n in (0, 1)]
        means = [float(read_record(record, dimension)[:].mean()) for record in first]
        said = [source.num_samples, source.num_shards, source.content, means]
    except (OSError, ValueError) as error:
        said = f"{type(error).__name__}: {error}"
    print(json.dumps(said))
"""


def first_means(source: Source) -> list[float]:
    shards = (source.records.shard(source.num_shards, number) for number in (0, 1))
    records = (next(iter(shard)) for shard in shards)
    return [float(read_record(record, source.dimension)[:].mean()) for record in records]


def run_program(asked: list, environment: dict[str, str]) -> list:
    command = [sys.executable, "-c", PROGRAM, json.dumps(asked)]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_on_the_hub(folder, tmp_path):
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")}
    files["README.md"] = CARD.encode()
    bare = {name: content for name, content in files.items() if name != NOTE}
    means = {dimension: first_means(open_source(folder, dimension)) for dimension in ("3d", "2d")}
    with LoopbackHub() as hub:
        for name, content in (("owner/prepared", files), ("owner/bare", bare)):
            hub.repositories["datasets", name] = Repository({})
            hub.repositories["datasets", name].add("Upload", content)
        environment = {**os.environ, **hub.environment, "HF_HOME": str(tmp_path)}
        asked = [
            (name, dimension, streaming, False)
            for name, streaming in (
                ("owner/prepared", True),
                ("owner/prepared", False),
                ("owner/bare", True),
            )
            for dimension in ("3d", "2d")
        ]
        others = [
            ("owner/nothing", "3d", True, False),
            ("owner/prepared", "3d", False, True),
        ]
        is_imported, *said = run_program([*asked, *others], environment)
    assert not is_imported
    for (name, dimension, *_), found in zip(asked, said, strict=False):
        local = open_source(folder, dimension)
        known = name == "owner/prepared"
        assert found == [
            local.num_samples if known else None,
            local.num_shards,
            local.content if known else None,
            means[dimension],
        ]
    unknown, offline = said[len(asked) :]
    assert unknown.startswith("FileNotFoundError: 'owner/nothing' is neither")
    assert "private" in unknown
    assert offline == said[0]


def test_several_splits_are_one_part():
    shards = {split: (PreparedShard(f"{split}.parquet", 4, 9),) for split in ("train", "test")}
    folder = PreparedFolder("set", "https://host/set", (3, 1, 1), {"radiographs": shards})
    both = folder.part("2d", "train+test")
    assert both.num_samples == 8
    assert both.addresses == tuple(f"https://host/set/{name}.parquet" for name in shards)
    assert folder.part("2d", "test+test").num_samples == 4
    with pytest.raises(
        ValueError, match=r"no split 'tset' of radiographs, but test, .*\. Did you mean test\?"
    ):
        folder.part("2d", "train+tset")
