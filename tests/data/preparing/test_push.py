"""A prepared data set goes to a Hub over real HTTP, and can be loaded from there."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from loopback_hub import LoopbackHub
from unimiss_hf.data.preparing.push import push

# Imports once, and obeys a line at a time.
PROGRAM = """
import contextlib, io, json, os, sys
from datasets import load_dataset
from huggingface_hub import close_session
from unimiss_hf.data.__main__ import main

def load(name, part):
    for row in load_dataset(name, part, split="train", streaming=True):
        print(row["name"])

for line in sys.stdin:
    words, variables = json.loads(line)
    os.environ.update(variables)
    close_session()
    out, err, status = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        if words[0] == "load":
            load(*words[1:])
        else:
            status = main(words)
    print(json.dumps([status, out.getvalue(), err.getvalue()]), flush=True)
"""
SHARDS = [f"radiographs/train-{index:05d}-of-00006.parquet" for index in range(6)]


@pytest.fixture(scope="module")
def hub():
    with LoopbackHub() as hub:
        yield hub


@pytest.fixture(scope="module")
def run(hub, tmp_path_factory):
    """Run a command in a process whose Hub is this one: status, output, errors."""
    home = {"HF_HOME": str(tmp_path_factory.mktemp("home"))}
    environment = {**os.environ, **hub.environment, **home}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:

        def send(*words, **variables) -> tuple[int, str, str]:
            variables = {"HF_TOKEN": environment["HF_TOKEN"], **variables}
            process.stdin.write(json.dumps([list(map(str, words)), variables]) + "\n")
            process.stdin.flush()
            return tuple(json.loads(process.stdout.readline()))

        yield send
        process.stdin.close()


@pytest.fixture
def prepared(films, tmp_path, prepared_in_process) -> Path:
    return prepared_in_process([films], tmp_path / "out" / "set")


def files(hub, name) -> list[str]:
    return sorted(set(hub.files(name, "datasets")) - {".gitattributes"})


def test_shards_come_first_and_nothing_but_them_is_told(prepared, hub, run):
    status, out, _ = run("push", prepared, "owner/first", "--private")
    assert (status, out) == (0, f"Pushed: {hub.endpoint}/datasets/owner/first\n")
    assert files(hub, "owner/first") == ["README.md", "prepared.json", *SHARDS]
    assert hub.messages("owner/first", "datasets")[-1] == "Describe what was prepared"
    assert hub.repositories["datasets", "owner/first"].request["visibility"] == "private"
    card = hub.files("owner/first", "datasets")["README.md"].decode()
    assert 'load_dataset("owner/first", "radiographs"' in card
    status, out, _ = run("load", "owner/first", "radiographs")
    assert sorted(out.split())[0] == "films/0.png" and len(out.split()) == 6


def test_what_the_hub_has_is_not_sent_again(prepared, hub, run):
    assert run("push", prepared, "owner/second")[0] == 0
    commits = hub.messages("owner/second", "datasets")
    assert run("push", prepared, "owner/second")[0] == 0
    assert hub.messages("owner/second", "datasets") == commits


def test_an_upload_that_fails_is_told_and_gone_on_with(prepared, hub, run):
    causes = {
        401: "does not accept the token",
        403: "refuses to let this token write",
        404: "does not find owner/third",
    }
    for status, cause in causes.items():
        hub.fail(status)
        code, _, err = run("push", prepared, "owner/third")
        hub.fail(status, times=0)
        assert code == 1
        assert cause in err and "run the same command again" in err and err.count("\n") == 1
    assert "does not accept the token" in run("push", prepared, "owner/third", HF_TOKEN="hf_x")[2]
    assert files(hub, "owner/third") == []
    assert run("push", prepared, "owner/third")[0] == 0
    assert files(hub, "owner/third") == ["README.md", "prepared.json", *SHARDS]
    message = "owner/third has no branch tests"
    assert message in run("push", prepared, "owner/third", "--revision", "tests")[2]
    assert "is no name of a data set" in run("push", prepared, "a/b/c")[2]


def test_a_hub_that_is_gone_is_told(prepared, hub, run):
    hub.close()
    code, _, err = run("push", prepared, "owner/fourth")
    hub.open()
    assert code == 1
    assert "the Hub cannot be reached" in err


def test_offline_is_told(prepared):
    with pytest.raises(OSError, match=r"the Hub cannot be reached .*offline"):
        push(prepared, "owner/name")


def test_an_earlier_preparation_is_replaced_and_anything_else_is_not(
    films, prepared, prepared_in_process, hub, run
):
    assert run("push", prepared, "owner/fifth")[0] == 0
    (films / "0.png").unlink()
    smaller = prepared_in_process([films], prepared.parent / "smaller")
    assert run("push", smaller, "owner/fifth")[0] == 0
    shards = [f"radiographs/train-{index:05d}-of-00005.parquet" for index in range(5)]
    assert files(hub, "owner/fifth") == ["README.md", "prepared.json", *shards]
    hub.repositories["datasets", "owner/fifth"].add("other", {"novel.txt": b"Call me Ishmael."})
    code, _, err = run("push", smaller, "owner/fifth")
    assert code == 1
    assert "holds something else, such as novel.txt" in err
    assert files(hub, "owner/fifth") == ["novel.txt"]


def test_what_is_not_complete_is_not_pushed(prepared, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no prepared data set, or not complete"):
        push(tmp_path, "owner/name")
    with pytest.raises(FileNotFoundError, match=rf"no folder .*Did you mean {prepared}\?"):
        push(prepared.with_name(f"{prepared.name}s"), "owner/name")
    (prepared / SHARDS[0]).write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"00000-of-00006\.parquet has 0 bytes, and"):
        push(prepared, "owner/name")
    (prepared / SHARDS[0]).unlink()
    with pytest.raises(FileNotFoundError, match=r"00000-of-00006\.parquet is missing"):
        push(prepared, "owner/name")
    (prepared / "prepared.json").write_text("[]")
    with pytest.raises(ValueError, match=r"prepared\.json of .* is damaged"):
        push(prepared, "owner/name")
