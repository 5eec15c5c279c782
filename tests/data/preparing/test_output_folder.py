"""What an earlier run left is gone on with, and nothing else is touched."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from folder_contents import files_below
from unimiss_hf.data.preparing.origins import find_origins
from unimiss_hf.data.preparing.output_folder import OutputFolder
from unimiss_hf.data.preparing.planning import make_plan
from unimiss_hf.data.preparing.shard_writing import write_shard


@pytest.fixture
def output(tmp_path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def plan_of(films):
    """Make the plan of the films: three shards of two, unless settings say otherwise."""

    def make(settings):
        return make_plan(find_origins([films], settings), settings)

    return make


@pytest.fixture
def run(output, plan_of, make_settings):
    """Do as a run does: as many shards as wanted, and, with all, everything in its place."""

    def act(most=3, **changes) -> list[str]:
        settings = make_settings(**{"min_shards": 1, **changes})
        plan, written = plan_of(settings), []
        with OutputFolder(output) as folder:
            records = folder.begin(plan, settings)
            for shard in plan.shards:
                if shard.key not in records and len(written) < most:
                    records[shard.key] = write_shard(shard, settings, folder.hidden, folder.partial)
                    written.append(shard.key)
            if len(records) == len(plan.shards):
                folder.finish(records.values(), {"README.md": "card", "prepared.json": "{}"})
        return written

    return act


SHARDS = [f"radiographs/train-{index:05d}-of-00003.parquet" for index in range(3)]


def test_nothing_can_be_opened_before_all_is_there(output, run):
    assert len(run(most=2)) == 2
    assert [path.name for path in output.iterdir()] == [".preparation"]
    assert len(run()) == 1
    visible = [name for name in files_below(output) if not name.startswith(".")]
    assert visible == ["README.md", "prepared.json", *SHARDS]
    assert run() == []


def test_what_is_missing_or_damaged_is_made_again(output, run):
    run()
    before = files_below(output)
    (output / SHARDS[0]).unlink()
    (output / SHARDS[1]).write_bytes(b"damaged")
    (output / ".preparation" / "radiographs-train-00002.json").write_text("{")
    assert len(run()) == 3
    assert files_below(output) == before
    (output / SHARDS[2]).unlink()
    assert run() == ["radiographs-train-00002"]
    assert files_below(output) == before


def test_a_kill_while_files_are_put_in_their_places_is_made_good(output, run):
    run()
    before = files_below(output)
    # As it is after two of three files were moved.
    (output / "prepared.json").unlink()
    (output / SHARDS[2]).rename(output / ".preparation" / "radiographs-train-00002.parquet")
    assert run() == []
    assert files_below(output) == before


def test_shards_with_failures_are_tried_again_when_asked(output, run, films):
    good = (films / "0.png").read_bytes()
    (films / "0.png").write_bytes(b"damaged")
    alone = {"samples_per_shard": 1, "most": 6}
    run(**alone)
    names = [path.name for path in sorted((output / "radiographs").iterdir())]
    assert names == [f"train-{index:05d}-of-00005.parquet" for index in range(5)]
    (films / "0.png").write_bytes(good)
    assert run(**alone) == []
    assert len(run(**alone, retry_failed=True)) == 1
    names = [path.name for path in sorted((output / "radiographs").iterdir())]
    assert names == [f"train-{index:05d}-of-00006.parquet" for index in range(6)]


def test_a_run_of_other_settings_or_sources_is_refused(output, run, films, make_settings):
    run(most=1)
    with pytest.raises(ValueError, match=r"other settings: spacing \[3.0, 1.0, 1.0\] \(now \[2.0"):
        run(spacing=(2, 1, 1))
    (films / "0.png").rename(films / "a.png")
    (films / "new.png").write_bytes(b"")
    message = r"2 are new \(films/a.png, films/new.png\); 1 is gone \(films/0.png\)"
    with pytest.raises(ValueError, match=message):
        run()
    assert len(run(most=4, overwrite=True)) == 4
    assert run() == []


def test_to_overwrite_is_to_begin_anew(output, run):
    run()
    assert len(run(most=1, overwrite=True, seed=1)) == 1
    assert [path.name for path in output.iterdir()] == [".preparation"]


def test_another_split_is_another_plan(output, run, plan_of, make_settings):
    run(most=1)
    settings = make_settings(min_shards=1)
    plan = plan_of(settings)
    renamed = replace(plan, shards=tuple(replace(s, split="test") for s in plan.shards))
    with OutputFolder(output) as folder, pytest.raises(ValueError, match="other splits"):
        folder.begin(renamed, settings)


def test_one_process_at_a_time(output):
    with OutputFolder(output), pytest.raises(BlockingIOError, match="Another process prepares"):
        OutputFolder(output).__enter__()
    assert not output.exists()


def test_what_no_preparation_wrote_stays(output, run):
    output.mkdir()
    (output / "thesis.md").touch()
    with pytest.raises(ValueError, match=r"not empty: it holds thesis\.md"):
        run()
    with pytest.raises(ValueError, match=r"not empty: it holds thesis\.md"):
        run(overwrite=True)
    (output / "thesis.md").unlink()
    run()
    (output / "thesis.md").touch()
    with pytest.raises(ValueError, match=r"not empty: it holds thesis\.md"):
        run(overwrite=True)
    (output / "thesis.md").unlink()
    (output / ".preparation" / "plan.json").write_text(json.dumps({"format_version": 1}))
    with pytest.raises(ValueError, match="damaged"):
        run()
    (output / ".preparation" / "plan.json").unlink()
    with pytest.raises(ValueError, match="the notes of its preparation are gone"):
        run()


def test_a_file_is_no_folder(output, run):
    output.touch()
    with pytest.raises(NotADirectoryError, match="is a file"):
        run()
    with pytest.raises(OSError, match=r"Cannot write .*Not a directory.* run the same command"):
        OutputFolder(output / "below").__enter__()
