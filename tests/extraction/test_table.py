"""The table of features is whole or not there, goes on after a kill, and mixes nothing."""

import json
from pathlib import Path

import numpy as np
import pandas
import pyarrow
import pyarrow.parquet
import pytest
from datasets import load_dataset

from unimiss_hf.extraction import table as table_module
from unimiss_hf.extraction.table import METADATA_KEY, FeatureRow, FeatureTable

SETTINGS = {
    "model": "owner/model",
    "commit": "1",
    "package_version": "0.1.0",
    "weights": "abc",
    "processor": {"window": "lung", "spacing": [3.0, 1.0, 1.0]},
    "patches": False,
    "patches_dtype": None,
}
WITH_PATCHES = {**SETTINGS, "patches": True, "patches_dtype": "float32"}


@pytest.fixture
def output(tmp_path) -> Path:
    return tmp_path / "deep" / "features.parquet"


def row(name: str, patches: bool = False) -> FeatureRow:
    value = float(len(name))
    grid = np.arange(24, dtype=np.float32).reshape(4, 1, 2, 3) + value if patches else None
    return FeatureRow(name, (5, 40, 44), np.full(4, value, np.float32), grid)


def add(output: Path, names: str, finish: bool = True, settings=SETTINGS) -> set[str]:
    """Write rows of one letter each; returns the names found at the beginning."""
    with FeatureTable(output) as table:
        table.begin(settings, num_channels=4)
        found = set(table.names)
        for name in names:
            table.add(row(name, settings["patches"]))
        if finish:
            table.finish()
    return found


def names_in(output: Path) -> str:
    return "".join(pyarrow.parquet.read_table(output)["name"].to_pylist())


class TestFeatureTable:
    def test_others_open_the_file(self, output, tmp_path):
        add(output, "ab", settings=WITH_PATCHES)
        frame = pandas.read_parquet(output)
        assert list(frame.columns) == [
            "name",
            "dimension",
            "shape",
            "pooled",
            "patches",
            "patch_shape",
        ]
        assert frame["name"].tolist() == ["a", "b"]
        assert frame["dimension"].tolist() == ["3d", "3d"]
        first = frame.iloc[0]
        assert first["shape"].tolist() == [5, 40, 44]
        assert first["pooled"].dtype == np.float32
        np.testing.assert_array_equal(
            first["patches"].reshape(first["patch_shape"]), row("a", True).patches
        )
        opened = load_dataset("parquet", data_files=str(output), split="train")
        assert opened.features["pooled"].length == 4
        assert opened[1]["pooled"] == [1.0] * 4

    def test_patches_may_be_halved(self, output):
        add(output, "a", settings={**WITH_PATCHES, "patches_dtype": "float16"})
        schema = pyarrow.parquet.read_schema(output)
        assert schema.field("patches").type == pyarrow.list_(pyarrow.float16())
        np.testing.assert_array_equal(
            pandas.read_parquet(output)["patches"][0], row("a", True).patches.ravel()
        )

    def test_the_file_says_what_it_was_made_with(self, output):
        add(output, "a")
        metadata = json.loads(pyarrow.parquet.read_schema(output).metadata[METADATA_KEY])
        assert metadata == {"format_version": 1, **SETTINGS}

    def test_a_run_goes_on_where_another_stopped(self, output):
        assert add(output, "ab", finish=False) == set()
        assert not output.exists()
        assert add(output, "c", finish=False) == {"a", "b"}
        assert add(output, "d") == {"a", "b", "c"}
        assert names_in(output) == "abcd"
        assert [path.name for path in output.parent.iterdir()] == ["features.parquet"]

    def test_a_finished_file_is_added_to(self, output):
        add(output, "ab")
        before = output.stat().st_mtime_ns
        assert add(output, "") == {"a", "b"}
        assert output.stat().st_mtime_ns == before
        assert add(output, "c", finish=False) == {"a", "b"}
        assert names_in(output) == "ab"
        add(output, "")
        assert names_in(output) == "abc"

    def test_an_error_keeps_what_was_done(self, output):
        with pytest.raises(KeyboardInterrupt), FeatureTable(output) as table:
            table.begin(SETTINGS, num_channels=4)
            table.add(row("a"))
            raise KeyboardInterrupt
        assert add(output, "b") == {"a"}

    def test_a_kill_behind_the_rename_doubles_nothing(self, output):
        add(output, "ab", finish=False)
        parts = {path.name: path.read_bytes() for path in parts_of(output)}
        add(output, "")
        folder = output.with_name("features.parquet.parts")
        folder.mkdir()
        for name, content in parts.items():
            (folder / name).write_bytes(content)
        (folder / ".features.parquet.partial").write_bytes(b"half")
        assert add(output, "c") == {"a", "b"}
        assert names_in(output) == "abc"
        assert not folder.exists()

    def test_a_damaged_part_is_extracted_anew(self, output, caplog):
        add(output, "ab", finish=False)
        add(output, "c", finish=False)
        part = parts_of(output)[0]
        part.write_bytes(part.read_bytes()[:-20])
        assert add(output, "ab") == {"c"}
        assert "part-000000.parquet is damaged" in caplog.text
        assert sorted(names_in(output)) == ["a", "b", "c"]

    def test_parts_are_written_now_and_then(self, output, monkeypatch):
        monkeypatch.setattr(table_module, "_PART_ROWS", 3)
        with FeatureTable(output) as table:
            table.begin(SETTINGS, num_channels=4)
            for name, parts in zip("abcdefg", (0, 0, 1, 1, 1, 2, 2), strict=True):
                table.add(row(name))
                assert len(parts_of(output)) == parts
            monkeypatch.setattr(table_module, "_PART_BYTES", 30)
            table.add(row("h"))
            assert len(parts_of(output)) == 3
            monkeypatch.setattr(table_module, "_PART_SECONDS", 0)
            table.add(row("i"))
            assert len(parts_of(output)) == 4
            table.finish()
        assert names_in(output) == "abcdefghi"

    def test_small_parts_become_groups_worth_reading(self, output, monkeypatch):
        monkeypatch.setattr(table_module, "_GROUP_ROWS", 4)
        for name in "abcdefghi":
            add(output, name, finish=False)
        add(output, "")
        metadata = pyarrow.parquet.read_metadata(output)
        assert [metadata.row_group(index).num_rows for index in range(3)] == [4, 4, 1]

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"weights": "x", "model": "other"}, r"model 'owner/model' \(now 'other'\)"),
            ({"weights": "x"}, "other weights of the model 'owner/model'"),
            (
                {"processor": {"window": "bone", "spacing": [3.0, 1.0, 1.0]}},
                r"processor window 'lung' \(now 'bone'\)",
            ),
            ({"patches": True, "patches_dtype": "float32"}, r"patches False \(now True\)"),
        ],
    )
    @pytest.mark.parametrize("finish", [False, True], ids=["parts", "output"])
    def test_other_settings_are_refused_by_name(self, output, change, message, finish):
        add(output, "ab", finish)
        with pytest.raises(ValueError, match=message) as caught:
            add(output, "c", settings={**SETTINGS, **change})
        assert str(output if finish else output.with_name("features.parquet.parts")) in str(
            caught.value
        )
        assert add(output, "") == {"a", "b"}
        assert names_in(output) == "ab"

    def test_other_names_of_the_same_weights_are_taken(self, output):
        add(output, "ab", finish=False)
        renamed = {**SETTINGS, "model": "copy", "commit": None, "package_version": "2"}
        assert add(output, "c", settings=renamed) == {"a", "b"}
        metadata = json.loads(pyarrow.parquet.read_schema(output).metadata[METADATA_KEY])
        assert metadata["model"] == "copy"

    @pytest.mark.parametrize("content", ["text", "other table", "other format"])
    def test_a_foreign_file_is_left_alone(self, output, content):
        output.parent.mkdir()
        if content == "text":
            output.write_text("notes")
        elif content == "other table":
            pyarrow.parquet.write_table(pyarrow.table({"name": ["a"]}), output)
        else:
            schema = pyarrow.schema(
                [("name", pyarrow.string())], {METADATA_KEY: json.dumps({"format_version": 9})}
            )
            pyarrow.parquet.write_table(pyarrow.table({"name": ["a"]}, schema=schema), output)
        before = output.read_bytes()
        with pytest.raises(ValueError, match=r"not written by an extraction|has format 9"):
            add(output, "a")
        assert output.read_bytes() == before

    def test_a_folder_is_no_output(self, tmp_path):
        with pytest.raises(ValueError, match="is a folder"):
            FeatureTable(tmp_path)

    def test_two_runs_do_not_mix(self, output):
        with FeatureTable(output), pytest.raises(OSError, match="Another process writes to"):
            add(output, "a")
        add(output, "a")
        assert names_in(output) == "a"

    def test_a_name_is_written_once(self, output):
        with pytest.raises(ValueError, match=r"a is in .* twice"):
            add(output, "aa")

    def test_a_full_disk_is_told(self, output):
        add(output, "a", finish=False)
        folder = output.with_name("features.parquet.parts")
        with (
            pytest.raises(OSError, match=r"Cannot write .*No space left on device.*run again"),
            FeatureTable(output) as table,
        ):
            table.begin(SETTINGS, num_channels=4)
            table.add(row("b"))
            (folder / ".part-000001.parquet.partial").symlink_to("/dev/full")
            table.write_rows()
        # the disk has room again when the table is closed
        assert add(output, "c") == {"a", "b"}
        assert names_in(output) == "abc"

    def test_a_place_that_cannot_be_written_to_is_told(self, tmp_path):
        (tmp_path / "file").touch()
        with (
            pytest.raises(OSError, match=r"Cannot write .*features\.parquet or its parts"),
            FeatureTable(tmp_path / "file" / "features.parquet"),
        ):
            pass


def parts_of(output: Path) -> list[Path]:
    return sorted(output.with_name("features.parquet.parts").glob("part-*.parquet"))
