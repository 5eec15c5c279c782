"""A run may be stopped in any way: what comes out is the same."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from datasets import load_dataset

from folder_contents import files_below
from unimiss_hf.data.prepared import PreparedVolume
from unimiss_hf.data.preparing.loop import prepare
from unimiss_hf.image_reading_mit import read_volume


@pytest.fixture
def output(tmp_path) -> Path:
    return tmp_path / "out" / "set"


@pytest.fixture
def uninterrupted(tmp_path, films, scans, make_settings) -> dict[str, bytes]:
    """What a run with one process writes."""
    folder = tmp_path / "other" / "set"
    prepare([films, scans], folder, make_settings())
    return files_below(folder)


def when(condition, act) -> threading.Thread:
    """Act in another thread as soon as a condition holds."""

    def wait():
        while not condition():
            time.sleep(0.002)
        act()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def test_everything_is_in_it_once(films, scans, output, make_settings):
    (scans / "0.nii.gz").write_bytes(b"damaged")
    (scans / "read.me").touch()
    settings = make_settings(workers=2, license="cc-by-4.0")
    result = prepare([films, scans], output, settings)
    assert (result.num_prepared, result.num_failed, result.num_images) == (10, 1, 11)
    assert (result.num_new, result.num_shards, result.stopped_by) == (11, 10, None)
    parts = files_below(output)
    assert result.output_bytes == sum(len(parts[name]) for name in parts if "parquet" in name)
    used = [*films.rglob("*.png"), *sorted(scans.glob("*.gz"))[1:]]
    assert result.source_bytes == sum(path.stat().st_size for path in used)
    report = (output / "report.csv").read_text().splitlines()
    assert report[0] == "source,name,split,state,reason,warnings"
    assert "films,later/5.png,train,prepared,," in report
    assert "scans,read.me,,passed over,neither an image nor a volume," in report
    (failed,) = (line for line in report if ",failed," in line)
    assert failed.startswith("scans,0.nii.gz,train,failed,") and str(scans) not in failed
    assert len(report) == 13
    rows = list(load_dataset(str(output), "volumes", split="train", streaming=True))
    assert sorted(row["name"] for row in rows) == [f"scans/{i}.nii.gz" for i in range(1, 5)]
    for row in rows:
        voxels = PreparedVolume(row["volume"]["bytes"])[:, :, :]
        assert np.array_equal(voxels, np.rint(read_volume(scans / row["source_name"])))
        assert row["license"] == "cc-by-4.0"
    again = prepare([films, scans], output, make_settings(workers=3, license="cc-by-4.0"))
    assert (again.num_new, again.num_prepared) == (0, 10)
    assert files_below(output) == parts


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_stops_it_and_the_same_call_goes_on(
    films, scans, output, uninterrupted, make_settings, name
):
    settings = make_settings(workers=2)
    done = output / ".preparation"
    # Of shards with one sample each, three are done and most are not. Each worker may have one that
    # the signal kept it from telling of, so that one is told of at least.
    stopping = when(
        lambda: len(list(done.glob("*-train-*.json"))) >= 3,
        lambda: os.kill(os.getpid(), getattr(signal, name)),
    )
    result = prepare([films, scans], output, settings)
    stopping.join()
    assert result.stopped_by == name
    assert 1 <= result.num_prepared < 11
    assert sorted(path.name for path in output.iterdir()) == [".preparation", "report.csv"]
    report = (output / "report.csv").read_text()
    assert report.count(",waiting,") == 11 - result.num_prepared
    assert list(done.glob("partial*")) == []
    rest = prepare([films, scans], output, settings)
    assert 0 <= 11 - result.num_prepared - rest.num_new <= settings.workers
    assert files_below(output) == uninterrupted


def test_it_may_be_killed(films, scans, output, uninterrupted, make_settings):
    words = ["-m", "unimiss_hf.data", "prepare", films, scans, output]
    command = [sys.executable, *map(str, words), "--workers", "2", "--samples_per_shard", "2"]
    done = output / ".preparation"
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not any(done.glob("*-train-*.json")):
            time.sleep(0.005)
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (output / "prepared.json").exists()
    assert prepare([films, scans], output, make_settings(workers=2)).num_prepared == 11
    assert files_below(output) == uninterrupted


def test_what_failed_is_tried_again_when_asked(films, output, make_settings):
    good = (films / "0.png").read_bytes()
    (films / "0.png").write_bytes(b"damaged")
    assert prepare([films], output, make_settings()).causes[0].startswith("films/0.png: ")
    (films / "0.png").write_bytes(good)
    assert prepare([films], output, make_settings()).num_failed == 1
    result = prepare([films], output, make_settings(retry_failed=True))
    assert (result.num_failed, result.num_new, result.num_prepared) == (0, 1, 6)
    prepare([films], output.parent / "new" / "set", make_settings())
    assert files_below(output) == files_below(output.parent / "new" / "set")


def test_nothing_at_all_is_an_error(films, output, make_settings):
    for path in films.rglob("*.png"):
        path.write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"None of 6 images .* first: \d\.png: .* --retry_failed"):
        prepare([films], output, make_settings())
    assert (output / "report.csv").read_text().count(",failed,") == 6
    assert not (output / "prepared.json").exists()


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("in/films", "is or lies in the SOURCE"),
        ("in/films/out", "is or lies in the SOURCE"),
        ("in", "lies in OUT"),
    ],
)
def test_the_output_lies_beside_the_sources(films, tmp_path, make_settings, out, message):
    with pytest.raises(ValueError, match=message):
        prepare([films], tmp_path / out, make_settings())
    with pytest.raises(ValueError, match="lies in OUT"):
        prepare([films / "0.png"], films, make_settings())


def test_a_mistake_leaves_no_folder_behind(tmp_path, output, make_settings):
    (tmp_path / "in").mkdir()
    with pytest.raises(ValueError, match="neither images nor volumes"):
        prepare([tmp_path / "in"], output, make_settings())
    assert not output.exists()
