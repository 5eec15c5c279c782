"""Runs that upload their checkpoints to a Hub on this machine, whatever that Hub does."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load
from transformers import AutoImageProcessor, AutoModel

from folder_contents import files_below
from loopback_hub import LoopbackHub
from unimiss_hf import MiTImageProcessor, MiTModel
from unimiss_hf.hub.upload_queue import HubQueue
from unimiss_hf.pretraining import Pretrainer
from unimiss_hf.training import publishing

REPO = "owner/name"
# What a repository gets beside a checkpoint.
COMPANIONS = {"LICENSE", "example_radiograph.png"}


def uploaded(hub: LoopbackHub) -> dict[str, bytes]:
    return {name: data for name, data in hub.files(REPO).items() if name != ".gitattributes"}


def write(files: dict[str, bytes], folder: Path) -> Path:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def test_a_slow_hub_gets_what_opens_and_the_run_is_the_same(settings, hub, tmp_path):
    run = {"max_steps": 7, "checkpoint_every": 1}
    alone = Pretrainer(settings(**run, output=str(tmp_path / "alone"))).run()
    hub.delay = 0.1
    result = Pretrainer(settings(**run, push_to_hub=REPO, push_every=3)).run()

    expected = files_below(alone.output / "checkpoints" / "step-00000007")
    files = uploaded(hub)
    weights, expected_weights = (load(some["model.safetensors"]) for some in (files, expected))
    for name, tensor in expected_weights.items():
        assert torch.equal(weights[name], tensor), name
    published = {name for name in expected if not name.startswith("training_state/")}
    assert files.keys() == published - {"checkpoint.json"} | COMPANIONS
    assert hub.messages(REPO)[-1] == "Upload step-00000007"
    # every third, the last one, and none that a newer one overtook
    assert set(hub.messages(REPO)) <= {f"Upload step-{step:08d}" for step in (3, 6, 7)}
    assert list((result.output / "to_upload").iterdir()) == []

    folder = write(files, tmp_path / "downloaded")
    assert isinstance(AutoModel.from_pretrained(folder), MiTModel)
    assert isinstance(AutoImageProcessor.from_pretrained(folder), MiTImageProcessor)
    assert f'from_pretrained("{REPO}")' in files["README.md"].decode()


def test_a_run_continues_from_what_is_on_the_hub(settings, hub, tmp_path):
    Pretrainer(settings(max_steps=3, push_to_hub=REPO, hub_training_state=True)).run()
    folder = tmp_path / "elsewhere"
    write(uploaded(hub), folder / "checkpoints" / "step-00000003")
    assert Pretrainer(settings(max_steps=3, output=str(folder))).state.step == 3


def test_a_hub_that_refuses_is_told_once_and_gets_all_from_the_next_run(
    settings, hub, tmp_path, capfd
):
    hub.fail(403)
    run = settings(max_steps=6, push_to_hub=REPO, checkpoint_every=1)
    result = Pretrainer(run).run()
    assert result.finished
    printed = capfd.readouterr().err
    assert printed.count("the Hub refuses to let this token write to owner/name") == 2
    told, left = (line for line in printed.splitlines() if line.startswith("Warning: "))
    assert told.startswith(f"Warning: {REPO} cannot be uploaded to")
    waiting = result.output / "to_upload" / "step-00000006"
    assert f"`hf upload {REPO} {waiting}`" in left
    assert waiting.is_dir()

    hub.fail(403, times=0)
    Pretrainer(run).run()
    expected = files_below(result.output / "checkpoints" / "step-00000006")
    files = uploaded(hub)
    assert {name: files[name] for name in files.keys() - COMPANIONS}.items() <= expected.items()
    assert not waiting.exists()


def test_a_stopped_run_does_not_wait_long_for_a_hub_that_is_silent(
    settings, hub, monkeypatch, capfd
):
    monkeypatch.setattr(publishing, "_STOPPED_SECONDS", 0.2)
    hub.silent = True
    pretrainer = Pretrainer(settings(max_steps=1000, push_to_hub=REPO))
    interrupt_when(lambda: (pretrainer.output / "log.jsonl").exists())
    result = pretrainer.run()
    assert not result.finished
    assert f"step-{result.step:08d} is not on the Hub" in capfd.readouterr().err
    assert (result.output / "to_upload" / f"step-{result.step:08d}").is_dir()


def test_ctrl_c_ends_the_wait_of_a_finished_run(settings, hub, capfd):
    hub.silent = True
    pretrainer = Pretrainer(settings(max_steps=2, push_to_hub=REPO))
    interrupt_when(lambda: (pretrainer.output / "model").is_dir())
    assert pretrainer.run().finished
    printed = capfd.readouterr().err
    assert "step-00000002 is not on the Hub: it was not done in time" in printed
    assert "will be saved" not in printed


def interrupt_when(condition) -> None:
    """Send this process SIGINT, as Ctrl-C does, once a condition holds."""

    def wait() -> None:
        for _ in range(12_000):
            if condition():
                os.kill(os.getpid(), signal.SIGINT)
                return
            time.sleep(0.005)

    threading.Thread(target=wait, daemon=True).start()


def test_an_error_ends_uploads_too_and_says_what_is_left(settings, hub, capfd):
    hub.silent = True
    pretrainer = Pretrainer(settings(push_to_hub=REPO, checkpoint_every=1))
    parameter = pretrainer.state.student.projection_head.mlp[0].weight

    def spoil(gradient: torch.Tensor) -> torch.Tensor:
        return gradient * (float("nan") if pretrainer.state.step == 2 else 1)

    parameter.register_hook(spoil)
    with pytest.raises(RuntimeError, match="A gradient is not finite"):
        pretrainer.run()
    assert "step-00000002 is not on the Hub" in capfd.readouterr().err


def test_the_queue_is_what_the_next_run_finds(settings, hub, tmp_path):
    """A kill leaves folders in the queue, and perhaps one that was being made."""
    run = settings(max_steps=2, push_to_hub=REPO)
    hub.close()
    queue = HubQueue(REPO, Path(run.output) / "to_upload")
    (tmp_path / "card").write_text("left by a kill")
    queue.add("step-00000001", {"left.md": tmp_path / "card"})
    queue.close()
    (queue.folder / ".step-00000002.partial").mkdir()
    hub.open()
    Pretrainer(run).run()
    assert hub.messages(REPO)[-1] == "Upload step-00000002"
    assert list(queue.folder.iterdir()) == []


def test_the_manifest_goes_only_with_what_it_lists(settings, hub):
    result = Pretrainer(settings(max_steps=1, push_to_hub=REPO, hub_training_state=True)).run()
    files = uploaded(hub)
    manifest = json.loads(files["checkpoint.json"])
    own = {name: content for name, content in files.items() if name not in COMPANIONS}
    assert own.keys() == {"checkpoint.json", *manifest["files"]}
    assert own == files_below(result.output / "checkpoints" / "step-00000001")
