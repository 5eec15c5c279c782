import errno
import json
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from unimiss_hf.training import checkpoints
from unimiss_hf.training.checkpoints import CheckpointStore
from unimiss_hf.training.ranking import Ranking


def content(text: str):
    def write(folder):
        (folder / "model.safetensors").write_text(text)
        (folder / "training_state").mkdir()
        (folder / "training_state" / "state.pt").write_text(2 * text)

    return write


def read(folder) -> tuple[str, str]:
    return (
        (folder / "model.safetensors").read_text(),
        (folder / "training_state" / "state.pt").read_text(),
    )


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def store(tmp_path):
    return CheckpointStore(tmp_path / "checkpoints")


# -------------------------------------------------------------------------------- what is kept


def test_no_checkpoint_at_first(store):
    assert store.latest() is None
    assert store.steps() == []
    assert not store.folder.exists()


def test_the_latest_is_the_newest_of_the_last_three(store):
    for step in (80, 90, 100, 120):
        folder = store.save(step, content(f"weights {step}"))
        assert folder == store.folder / f"step-{step:08d}"
    assert store.latest() == folder
    assert read(folder) == ("weights 120", "weights 120weights 120")
    assert store.steps() == [90, 100, 120]
    assert names(store.folder) == ["step-00000090", "step-00000100", "step-00000120"]


@pytest.mark.parametrize(("limit", "kept"), [(1, [4]), (2, [3, 4]), (None, [0, 1, 2, 3, 4])])
def test_the_limit_is_kept(tmp_path, limit, kept):
    store = CheckpointStore(tmp_path, limit)
    for step in range(5):
        store.save(step, content("x"))
    assert store.steps() == kept


def test_the_one_just_written_stays_when_later_ones_are_there(tmp_path):
    CheckpointStore(tmp_path, None).save(300, content("abandoned"))
    store = CheckpointStore(tmp_path, 2)
    store.save(100, content("x"))
    store.save(110, content("x"))
    assert store.steps() == [100, 110]


def test_steps_are_ordered_as_numbers(store):
    for step in (99_999_999, 100_000_000):
        store.save(step, content("x"))
    assert store.latest().name == "step-100000000"


def test_the_same_step_is_replaced(store):
    store.save(5, content("old"))
    store.save(5, content("new"))
    assert read(store.latest()) == ("new", "newnew")
    assert names(store.folder) == ["step-00000005"]


def test_the_manifest_lists_the_files(store):
    manifest = json.loads((store.save(7, content("four")) / "checkpoint.json").read_text())
    assert manifest["step"] == 7
    sizes = {name: entry["size"] for name, entry in manifest["files"].items()}
    assert sizes == {"model.safetensors": 4, "training_state/state.pt": 8}


# -------------------------------------------------------------------------------- damage


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda folder: flip(folder / "model.safetensors"), "model.safetensors has another"),
        (lambda folder: flip(folder / "training_state" / "state.pt"), "state.pt has another"),
        (lambda folder: (folder / "model.safetensors").write_text("w"), "1 bytes instead of 3"),
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors cannot be"),
        (lambda folder: (folder / "checkpoint.json").unlink(), "checkpoint.json cannot be"),
        (lambda folder: (folder / "checkpoint.json").write_text("{"), "checkpoint.json is not"),
        (lambda folder: (folder / "checkpoint.json").write_text("[]"), "checkpoint.json is not"),
        (
            lambda folder: (folder / "checkpoint.json").write_text('{"format_version": 1}'),
            "checkpoint.json is not",
        ),
        (lambda folder: folder.rename(folder.with_name("step-00000003")), "says step 2"),
    ],
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(
    store, caplog, damage, complaint
):
    before = store.save(1, content("one"))
    newest = store.save(2, content("two"))
    assert store.latest() == newest
    assert not caplog.records
    damage(newest)
    assert store.latest() == before
    assert complaint in caplog.text
    assert "step-0000000" in caplog.text


def test_nothing_intact_is_said(store, caplog):
    flip(store.save(1, content("one")) / "model.safetensors")
    assert store.latest() is None
    assert "None of the 1 checkpoints" in caplog.text


def test_a_file_added_later_is_no_damage(store):
    folder = store.save(1, content("one"))
    (folder / "notes.txt").write_text("good run")
    assert store.latest() == folder


def test_a_newer_format_is_not_passed_over(store):
    manifest = store.save(1, content("one")) / "checkpoint.json"
    manifest.write_text(json.dumps({"format_version": 2, "layout": "unknown"}))
    with pytest.raises(ValueError, match=r"step-00000001 has checkpoint format 2.*Update"):
        store.latest()


# -------------------------------------------------------------------------------- kills


def test_a_kill_in_the_middle_of_a_save_leaves_the_one_before(store, start):
    program = """
import sys, time
store = CheckpointStore(Path(sys.argv[1]))
def write(folder):
    (folder / "model.safetensors").write_text("half of the wei")
    print("writing", flush=True)
    time.sleep(600)
store.save(20, write)
"""
    before = store.save(10, content("ten"))
    process = start(checkpoints, program, store.folder)
    assert process.stdout.readline() == "writing\n"
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert len(names(store.folder)) == 2
    assert store.latest() == before
    assert store.steps() == [10]
    store.save(30, content("thirty"))
    assert names(store.folder) == ["step-00000010", "step-00000030"]


@pytest.mark.parametrize("event", [*range(1, 5), "shutil.rmtree"])
def test_a_kill_before_any_rename_of_a_replacement_loses_nothing(store, start, event):
    program = """
import signal, sys
folder, event = Path(sys.argv[1]), sys.argv[2]
renames = 0
def kill(name, arguments):
    global renames
    renames += name == "os.rename"
    if name == event or (name == "os.rename" and str(renames) == event):
        os.kill(os.getpid(), signal.SIGKILL)
def write(folder):
    (folder / "model.safetensors").write_text("new")
    (folder / "training_state").mkdir()
    (folder / "training_state" / "state.pt").write_text("newnew")
sys.addaudithook(kill)
CheckpointStore(folder, 1).save(5, write)
CheckpointStore(folder, 1).save(6, write)
"""
    store.save(5, content("old"))
    process = start(checkpoints, program, store.folder, event)
    assert process.wait() == -signal.SIGKILL
    assert read(store.latest()) in [("old", "oldold"), ("new", "newnew")]
    assert store.steps()[0] == 5
    CheckpointStore(store.folder, 1).save(7, content("seven"))
    assert names(store.folder) == ["step-00000007"]


def test_a_set_aside_checkpoint_returns_to_its_name(store):
    store.save(5, content("old")).rename(store.folder / ".step-00000005.replaced")
    assert read(store.latest()) == ("old", "oldold")
    store.save(6, content("six"))
    assert names(store.folder) == ["step-00000005", "step-00000006"]


# -------------------------------------------------------------------------------- errors


def test_a_full_disk_is_told_with_the_folder(store):
    def write(folder):
        content("two")(folder)
        with Path("/dev/full").open("wb") as file:
            file.write(b"x")

    before = store.save(1, content("one"))
    with pytest.raises(OSError, match="No space left on device") as caught:
        store.save(2, write)
    assert caught.value.errno == errno.ENOSPC
    assert str(store.folder) in str(caught.value)
    assert "step-00000002" in str(caught.value)
    assert store.latest() == before
    assert names(store.folder) == ["step-00000001"]


def test_a_system_error_that_safetensors_reports_is_told(store):
    def write(folder):
        # A folder is in the way of the file.
        (folder / "model.safetensors").mkdir()
        save_file({"weight": torch.zeros(2)}, folder / "model.safetensors")

    with pytest.raises(IsADirectoryError, match=r"step-00000002 in .*Is a directory"):
        store.save(2, write)
    assert names(store.folder) == []


def test_a_folder_without_write_permission_is_told(store, start):
    program = """
import sys
os.chdir(sys.argv[1])
os.chmod(".", 0o555)
if os.geteuid() == 0:
    os.setuid(65534)
try:
    CheckpointStore(Path(".")).save(2, lambda folder: None)
except PermissionError as error:
    print(error)
"""
    before = store.save(1, content("one"))
    process = start(checkpoints, program, store.folder)
    output, errors = process.communicate()
    store.folder.chmod(0o755)
    assert not errors
    assert "Cannot write the checkpoint step-00000002" in output
    assert "Permission denied" in output
    assert store.latest() == before


def test_an_error_of_the_writer_passes_through(store):
    def write(folder):
        content("two")(folder)
        raise KeyError("layer")

    store.save(1, content("one"))
    with pytest.raises(KeyError, match="layer") as caught:
        store.save(2, write)
    assert "step-00000002 was not written" in caught.value.__notes__[0]
    assert names(store.folder) == ["step-00000001"]


def test_the_name_of_the_manifest_is_taken(store):
    with pytest.raises(ValueError, match=r"checkpoint\.json was written into"):
        store.save(1, lambda folder: (folder / "checkpoint.json").write_text("{}"))
    assert names(store.folder) == []


def test_a_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "checkpoints").write_text("")
    with pytest.raises(NotADirectoryError, match="checkpoints"):
        CheckpointStore(tmp_path / "checkpoints")
    with pytest.raises(NotADirectoryError, match="step-00000001"):
        CheckpointStore(tmp_path / "checkpoints" / "below").save(1, content("one"))


def test_a_file_in_place_of_a_checkpoint(store, caplog):
    before = store.save(1, content("one"))
    (store.folder / "step-00000002").write_text("")
    assert store.latest() == before
    assert "step-00000002" in caplog.text
    with pytest.raises(FileExistsError, match="in the way"):
        store.save(2, content("two"))


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one(tmp_path, limit):
    with pytest.raises(ValueError, match="max_checkpoints"):
        CheckpointStore(tmp_path, limit)


def test_a_negative_step(store):
    with pytest.raises(ValueError, match="-1"):
        store.save(-1, content("x"))


# -------------------------------------------------------------------------------- the best


def saved(folder, values: dict[int, float | None], mode="min", limit=2) -> CheckpointStore:
    """A store in which checkpoints were saved with these values of a loss."""
    store = CheckpointStore(folder, limit, Ranking("loss", mode))
    for step, value in values.items():
        store.save(step, content(f"weights {step}"), value)
    return store


@pytest.mark.parametrize(("mode", "best"), [("min", (20, 1.0)), ("max", (10, 3.0))])
def test_the_best_is_kept_beyond_the_limit(tmp_path, mode, best):
    store = saved(tmp_path, {10: 3.0, 20: 1.0, 30: 2.0, 40: None, 50: 1.0}, mode)
    assert store.best() == best
    assert names(tmp_path) == ["best", f"step-000000{best[0]}", "step-00000040", "step-00000050"]
    assert read(tmp_path / "best") == (f"weights {best[0]}", 2 * f"weights {best[0]}")


def test_a_better_one_takes_the_place_of_the_best(tmp_path):
    saved(tmp_path, {10: 1.0, 20: 2.0, 30: 3.0})
    assert names(tmp_path) == ["best", "step-00000010", "step-00000020", "step-00000030"]
    # a store of its own, as after a restart
    saved(tmp_path, {40: 0.5})
    assert names(tmp_path) == ["best", "step-00000030", "step-00000040"]
    assert (tmp_path / "best").readlink() == Path("step-00000040")


def test_values_of_another_metric_do_not_count(tmp_path):
    saved(tmp_path, {10: 1.0, 20: 2.0})
    store = CheckpointStore(tmp_path, 2, Ranking("entropy", "max"))
    assert store.best() is None
    store.save(30, content("x"), 7.0)
    assert store.best() == (30, 7.0)
    assert names(tmp_path) == ["best", "step-00000020", "step-00000030"]


def test_without_a_ranking_nothing_is_the_best(tmp_path):
    saved(tmp_path, {10: 1.0, 20: 2.0})
    store = CheckpointStore(tmp_path, 2)
    store.save(30, content("x"))
    assert store.best() is None
    assert names(tmp_path) == ["step-00000020", "step-00000030"]


def test_what_a_run_left_behind_is_not_its_best(tmp_path):
    saved(tmp_path, {300: 0.1}, limit=3)
    saved(tmp_path, {100: 2.0, 110: 3.0, 120: 3.0})
    assert names(tmp_path) == ["best", "step-00000100", "step-00000110", "step-00000120"]
    assert (tmp_path / "best").readlink() == Path("step-00000100")


def test_a_kill_before_the_best_is_linked_does_not_lose_it(tmp_path, start):
    program = """
import signal, sys
class Least:
    metric = "loss"
    key = staticmethod(lambda value: value)
def write(folder):
    (folder / "model.safetensors").write_text("new")
sys.addaudithook(lambda name, _: name == "os.symlink" and os.kill(os.getpid(), signal.SIGKILL))
CheckpointStore(Path(sys.argv[1]), 2, Least).save(30, write, 0.5)
"""
    saved(tmp_path, {10: 1.0, 20: 2.0})
    assert start(checkpoints, program, tmp_path).wait() == -signal.SIGKILL
    store = CheckpointStore(tmp_path, 1, Ranking("loss"))
    assert store.best() == (30, 0.5)
    store.save(40, content("forty"), 3.0)
    assert names(tmp_path) == ["best", "step-00000030", "step-00000040"]
    assert (tmp_path / "best").readlink() == Path("step-00000030")


def test_a_link_that_cannot_be_set_is_told_and_no_more(tmp_path, caplog):
    (tmp_path / "best" / "of" / "all").mkdir(parents=True)
    assert saved(tmp_path, {10: 1.0}).best() == (10, 1.0)
    assert "link" in caplog.text
    assert "best" in caplog.text
    assert (tmp_path / "best" / "of" / "all").is_dir()
