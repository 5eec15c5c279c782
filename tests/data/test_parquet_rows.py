"""Rows of Parquet files come back whatever their layout, from disks and over HTTP."""

import logging
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prepared_folders import served
from unimiss_hf.data import parquet_rows
from unimiss_hf.data.parquet_rows import (
    StreamingError,
    read_features,
    read_row,
    row_address,
    split_row_address,
    stream_rows,
)

# The second is larger than a page of Parquet, the last is empty.
CONTENTS = [b"first", bytes(range(256)) * 5000, b"2nd" * 300_000, b"x" * 600, b""]
SCHEMA = pa.schema(
    {"volume": pa.struct({"bytes": pa.binary(), "path": pa.string()}), "name": pa.string()}
)
LAYOUTS = {
    "as prepared": {"row_group_size": 1, "compression": "none", "use_dictionary": False},
    "checksums": {
        "row_group_size": 1,
        "compression": "none",
        "use_dictionary": False,
        "write_page_checksum": True,
    },
    "statistics": {"row_group_size": 1, "compression": "none", "data_page_version": "2.0"},
    "several rows a group": {"row_group_size": 2, "compression": "none"},
    "compressed": {"row_group_size": 1, "compression": "snappy"},
    "library's own": {},
}


def write(path: Path, **layout) -> str:
    rows = [
        {"volume": {"bytes": content, "path": f"ct {index}"}, "name": str(index)}
        for index, content in enumerate(CONTENTS)
    ]
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), path, **layout)
    return str(path)


def rows_of(file: str) -> list[tuple[str, bytes]]:
    pairs = (read_row(file, row, "volume") for row in range(len(CONTENTS)))
    return [(path, content.to_pybytes()) for path, content in pairs]


ROWS = [(f"ct {index}", content) for index, content in enumerate(CONTENTS)]
RECORDS = [{"image": {"bytes": content, "path": path}} for path, content in ROWS]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_rows(tmp_path, layout):
    file = write(tmp_path / "a.parquet", **LAYOUTS[layout])
    assert rows_of(file) == ROWS
    assert list(stream_rows([file, file], "volume")) == RECORDS * 2
    with served(tmp_path) as server:
        remote = f"{server.address}/a.parquet"
        assert rows_of(remote) == ROWS
        assert list(stream_rows([remote], "volume")) == RECORDS


def test_prepared_rows_are_mapped_and_not_copied(tmp_path):
    prepared = write(tmp_path / "a.parquet", **LAYOUTS["as prepared"])
    other = write(tmp_path / "b.parquet", **LAYOUTS["compressed"])
    for file, copies in ((prepared, 1), (other, 2)):
        for row in range(3):
            twice = [read_row(file, row, "volume")[1] for _ in range(2)]
            assert len({content.address for content in twice}) == copies
            assert twice[0] == twice[1] == CONTENTS[row]


def test_columns_of_bytes_and_of_paths(tmp_path):
    table = pa.table({"nii": pa.array([b"1", b"2"]), "file": pa.array(["a.png", "b.png"])})
    pq.write_table(table, tmp_path / "a.parquet")
    file = str(tmp_path / "a.parquet")
    assert read_features(file).keys() == {"nii", "file"}
    assert read_features(file)["nii"] == datasets.Value("binary")
    assert list(stream_rows([file], "nii")) == [{"image": b"1"}, {"image": b"2"}]
    assert list(stream_rows([file], "file")) == [{"image": "a.png"}, {"image": "b.png"}]


def test_what_is_wrong_is_named(tmp_path):
    file = write(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"a\.parquet.*5 rows, but not row 5"):
        read_row(file, 5, "volume")
    with pytest.raises(ValueError, match=r"a\.parquet.*no column 'image'.*'volume', 'name'"):
        read_row(file, 0, "image")
    with pytest.raises(FileNotFoundError, match=r"gone\.parquet"):
        read_row(str(tmp_path / "gone.parquet"), 0, "volume")
    empty = pa.Table.from_pylist([{"volume": {"bytes": None, "path": "far.nii"}}], SCHEMA)
    pq.write_table(empty, tmp_path / "empty.parquet")
    with pytest.raises(ValueError, match="row 0 has no bytes in the column 'volume'"):
        read_row(str(tmp_path / "empty.parquet"), 0, "volume")
    whole = Path(write(tmp_path / "whole.parquet", **LAYOUTS["as prepared"])).read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[:-9])
    (tmp_path / "damaged.parquet").write_bytes(whole[:4] + bytes(500) + whole[504:])
    with pytest.raises(ValueError, match=r"cut\.parquet cannot be read as Parquet"):
        list(stream_rows([str(tmp_path / "cut.parquet")], "volume"))
    with pytest.raises(OSError, match=r"damaged\.parquet cannot be read"):
        list(stream_rows([str(tmp_path / "damaged.parquet")], "volume"))


@pytest.mark.parametrize(
    "file", ["/data/a b.parquet", "hf://datasets/o/n@1a/v/0.parquet", "#row=2"]
)
def test_addresses_of_rows(file):
    assert split_row_address(row_address(file, 12)) == (file, 12)
    assert split_row_address(file) is None


def test_network_that_fails_for_a_moment_is_waited_for(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(parquet_rows, "_PAUSES", (0, 0))
    file = write(tmp_path / "a.parquet", **LAYOUTS["as prepared"])
    with served(tmp_path) as server, caplog.at_level(logging.WARNING, "unimiss_hf"):
        remote = f"{server.address}/{Path(file).name}"
        stream = stream_rows([remote], "volume")
        next(stream)
        server.failures = 2
        assert [*stream, *stream_rows([remote], "volume")] == RECORDS[1:] + RECORDS
        assert len(caplog.records) == 2
        assert remote in caplog.text
        server.failures = 3
        with pytest.raises(StreamingError, match=r"a\.parquet.*in 3 attempts: 503.*checkpoint"):
            read_row(remote, 1, "volume")
    with pytest.raises(StreamingError, match=r"a\.parquet.*in 3 attempts"):
        read_row(remote, 1, "volume")


def test_what_waiting_cannot_help_is_not_waited_for(tmp_path, caplog):
    write(tmp_path / "a.parquet")
    with served(tmp_path) as server, pytest.raises(StreamingError, match=r"gone\.parquet"):
        read_row(f"{server.address}/gone.parquet", 0, "volume")
    # HF_HUB_OFFLINE is set in tests.
    with pytest.raises(StreamingError, match=r"a\.parquet could not be read: .*offline"):
        read_row("hf://datasets/owner/name@1234/a.parquet", 0, "volume")
    assert not caplog.records


def test_server_without_ranges_is_told(tmp_path):
    write(tmp_path / "a.parquet")
    with (
        served(tmp_path, ranges=False) as server,
        pytest.raises(StreamingError, match=r"a\.parquet cannot be streamed.*streaming=False"),
    ):
        read_row(f"{server.address}/a.parquet", 1, "volume")
