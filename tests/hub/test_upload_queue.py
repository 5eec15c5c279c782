"""Uploads over real HTTP to a Hub on this machine that is fine, slow, refuses, fails or is gone."""

import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from loopback_hub import LoopbackHub
from unimiss_hf.hub import upload_queue
from unimiss_hf.hub.upload_queue import HubQueue

SECONDS = 60
REPO = "owner/name"


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def queue(hub, told, tmp_path):
    queue = HubQueue(REPO, tmp_path / "to_upload", tell=told.append, first_wait=0.05)
    yield queue
    queue.close()


def checkpoint(folder: Path, step: int) -> dict[str, Path]:
    """Files of a checkpoint, one of which the Hub takes apart from the commit."""
    contents = {
        "model.safetensors": f"{step:06d}".encode() * 20_000,
        "config.json": b"{}",
        "training_state/run.json": f'{{"step": {step}}}'.encode(),
    }
    files = {}
    for name, content in contents.items():
        files[name] = folder / f"checkpoint-{step}" / name
        files[name].parent.mkdir(parents=True, exist_ok=True)
        files[name].write_bytes(content)
    return files


def contents(files: dict[str, Path]) -> dict[str, bytes]:
    return {name: path.read_bytes() for name, path in files.items()}


def on_the_hub(hub: LoopbackHub) -> dict[str, bytes]:
    files = dict(hub.files(REPO))
    files.pop(".gitattributes", None)
    return files


def poll_until(queue: HubQueue, condition) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        queue.poll()
        time.sleep(0.01)


def test_what_is_queued_is_on_the_hub_whole_and_gone_from_the_disk(hub, queue, told, tmp_path):
    files = checkpoint(tmp_path, 10)
    expected = contents(files)
    queue.start()
    queue.add("step-00000010", files)
    # Pruned while it waits
    shutil.rmtree(tmp_path / "checkpoint-10")
    assert queue.finish(SECONDS)
    assert on_the_hub(hub) == expected
    assert hub.messages(REPO) == ["Upload step-00000010"]
    assert list(queue.folder.iterdir()) == []
    assert told == [f"{REPO} on the Hub can be written to, and gets the newest checkpoints."]


def test_a_new_repository_is_as_private_as_it_is_asked_to_be(hub, tmp_path, told):
    queue = HubQueue("name", tmp_path / "to_upload", private=True, tell=told.append)
    queue.add("step-00000010", checkpoint(tmp_path, 10))
    assert queue.finish(SECONDS)
    assert hub.repositories["models", REPO].request["visibility"] == "private"
    assert told[0].startswith(f"{REPO} on the Hub")


def test_errors_of_the_server_are_told_once_and_tried_again(hub, queue, told, tmp_path):
    hub.fail(500, times=3)
    queue.start()
    files = checkpoint(tmp_path, 10)
    queue.add("step-00000010", files)
    poll_until(queue, lambda: queue.waiting is None)
    assert on_the_hub(hub) == contents(files)
    failure, success = told
    assert f"Warning: {REPO} cannot be uploaded to: the Hub answers with an error, 500" in failure
    assert success == f"{REPO} on the Hub can be written to, and gets the newest checkpoints."
    assert hub.requests.count("POST /api/repos/create") == 4


@pytest.mark.parametrize(
    ("status", "advice"), [(401, "hf auth login"), (403, "write to owner/name")]
)
def test_a_refusal_is_told_before_there_is_anything_to_upload(hub, queue, told, status, advice):
    hub.fail(status)
    queue.start()
    poll_until(queue, lambda: hub.requests.count("POST /api/repos/create") == 2)
    (message,) = told
    assert advice in message
    assert "Training goes on" in message


def test_a_token_that_is_missing_is_told(hub, queue, told, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "no_token"))
    monkeypatch.delenv("HF_TOKEN")
    queue.start()
    poll_until(queue, lambda: told)
    assert "does not accept the token, or there is none" in told[0]


def test_a_hub_that_comes_back_gets_the_newest_only(hub, queue, told, tmp_path):
    hub.close()
    queue.start()
    for step in (10, 20, 30):
        queue.add(f"step-{step:08d}", checkpoint(tmp_path, step))
    poll_until(queue, lambda: told)
    assert "the Hub cannot be reached" in told[0]
    assert [path.name for path in queue.folder.iterdir()] == ["step-00000030"]
    hub.open()
    poll_until(queue, lambda: queue.waiting is None)
    assert hub.messages(REPO) == ["Upload step-00000030"]


def test_a_hub_that_does_not_answer_is_not_waited_for(hub, queue, tmp_path):
    hub.silent = True
    for step in (10, 20, 30):
        queue.add(f"step-{step:08d}", checkpoint(tmp_path, step))
    poll_until(queue, lambda: hub.requests)
    # the one under way, and the newest
    assert sorted(path.name for path in queue.folder.iterdir()) == [
        "step-00000010",
        "step-00000030",
    ]
    hub.silent = False
    assert queue.finish(SECONDS)
    assert hub.messages(REPO) == ["Upload step-00000010", "Upload step-00000030"]
    assert on_the_hub(hub) == contents(checkpoint(tmp_path, 30))


def test_what_does_not_get_there_stays_and_the_command_that_is_told_uploads_it(
    hub, queue, told, tmp_path
):
    hub.silent = True
    files = checkpoint(tmp_path, 10)
    queue.add("step-00000010", files)
    poll_until(queue, lambda: hub.requests)
    assert not queue.finish(seconds=0.1)
    (message,) = told
    assert "step-00000010 is not on the Hub: it was not done in time" in message
    hub.silent = False
    program, *arguments = shlex.split(message.split("`")[1])
    subprocess.run(
        [Path(sys.executable).with_name(program), *arguments], check=True, capture_output=True
    )
    assert on_the_hub(hub) == contents(files)


def test_last_attempts_come_to_an_end(hub, queue, told, tmp_path):
    hub.fail(403)
    queue.add("step-00000010", checkpoint(tmp_path, 10))
    assert not queue.finish(SECONDS)
    assert len(told) == 2
    assert "step-00000010 is not on the Hub: the Hub refuses" in told[1]


def test_waiting_ends_when_it_is_asked_to(hub, queue, tmp_path):
    hub.silent = True
    queue.add("step-00000010", checkpoint(tmp_path, 10))
    assert not queue.finish(SECONDS, stop=lambda: True)
    assert queue.waiting.name == "step-00000010"


def test_what_an_earlier_run_left_is_taken_up(hub, queue, tmp_path):
    hub.close()
    files = checkpoint(tmp_path, 10)
    queue.add("step-00000010", files)
    queue.close()
    hub.open()
    again = HubQueue(REPO, queue.folder)
    again.start()
    assert again.finish(SECONDS)
    assert on_the_hub(hub) == contents(files)


def test_a_folder_that_cannot_be_written_stops_nothing(hub, queue, told, tmp_path):
    queue.folder.write_text("a file, where a folder is needed")
    queue.add("step-00000010", checkpoint(tmp_path, 10))
    (message,) = told
    assert message.startswith("Warning: step-00000010 cannot be queued for the Hub")


def test_an_upload_ends_with_the_run_that_is_killed(hub, start, tmp_path):
    program = """
import sys
queue = HubQueue("owner/killed", Path(sys.argv[1]))
queue.start()
time.sleep(600)
"""
    hub.silent = True
    process = start(upload_queue, program, tmp_path / "to_upload")

    def uploads() -> list[psutil.Process]:
        return [
            other
            for other in psutil.process_iter(["cmdline"])
            if "owner/killed" in str(other.info["cmdline"])
            and f'"parent": {process.pid}' in str(other.info["cmdline"])
        ]

    deadline = time.monotonic() + SECONDS
    while not hub.requests and time.monotonic() < deadline:
        time.sleep(0.01)
    (upload,) = uploads()
    process.kill()
    assert psutil.wait_procs([upload], timeout=SECONDS)[1] == []
