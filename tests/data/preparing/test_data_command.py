"""What the command prints and returns."""

import os
import signal
import threading
import time

import numpy as np
import pytest
from PIL import Image

from unimiss_hf.data.__main__ import main


@pytest.mark.parametrize("words", [[], ["prepair", "a", "b"], ["--version"]])
def test_without_a_command_it_says_which_there_are(capsys, words):
    assert main(words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("usage: python -m unimiss_hf.data prepare SOURCE... OUT")
    assert ("no command 'prepair'" in printed.err) == (words[:1] == ["prepair"])


def test_help_is_help(capsys):
    assert main(["--help"]) == 0
    assert "push OUT OWNER/NAME" in capsys.readouterr().out
    for command in ("prepare", "push"):
        with pytest.raises(SystemExit) as ended:
            main([command, "--help"])
        assert ended.value.code == 0
        assert f"unimiss_hf.data {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["prepare", "films"], "required: OUT"),
        (["prepare", "films", "out", "--spacing", "3", "1"], "expected 3 arguments"),
        (["prepare", "films", "out", "--dimension", "4d"], "invalid choice: '4d'"),
        (["prepare", "films", "out", "--work", "2"], "unrecognized arguments"),
        (["push", "out"], "required: OWNER/NAME"),
    ],
)
def test_mistyped_options_are_told(capsys, words, message):
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["film", "out"], "There is no file or folder film"),
        (["films", "films/out"], "is or lies in the SOURCE films"),
        (["films", "films/0.png", "out"], "would be prepared twice"),
        (["films", "taken"], "not empty"),
        (["films", "taken/thesis.md/out"], "Cannot write"),
        (["films", "out", "--spacing", "3", "0", "1"], "spacing must be 3 positive mm"),
        (["films", "out", "--workers", "0"], "workers is 0"),
        (["films", "out", "--layout", "luna"], "no layout 'luna'"),
        (["films", "out", "--dimension", "3d"], "nothing to prepare"),
    ],
)
def test_mistakes_are_told_in_a_line(films, capsys, monkeypatch, words, message):
    monkeypatch.chdir(films.parent)
    (films.parent / "taken").mkdir()
    (films.parent / "taken" / "thesis.md").touch()
    assert main(["prepare", *words]) == 1
    error = capsys.readouterr().err.removeprefix("Looking for images\n")
    assert error.startswith("error: ") and error.count("\n") == 1
    assert message in error
    assert not (films.parent / "out").exists()


def test_a_preparation_ends_with_where_it_is(films, tmp_path, capsys):
    words = ["prepare", "--max_image_side", "20", str(films), str(tmp_path / "out")]
    assert main([*words, "--workers", "1"]) == 0
    out = capsys.readouterr().out
    assert "6 images in" in out and "images/s" in out
    assert f"Prepared: {tmp_path / 'out'} holds 6 of 6 images in 6 shards" in out
    assert main([*words, "--workers", "2"]) == 0
    assert "Nothing to do: " in capsys.readouterr().out


def test_failures_are_told_and_too_many_are_an_error(films, tmp_path, capsys):
    (films / "0.png").write_bytes(b"damaged")
    words = ["prepare", str(films), str(tmp_path / "out"), "--workers", "1"]
    assert main(words) == 1
    printed = capsys.readouterr()
    assert "failed: films/0.png: 0.png is not an image" in printed.err
    assert "error: 1 of 6 images failed, more than --max_bad_fraction 0.05" in printed.err
    assert (tmp_path / "out" / "prepared.json").is_file()
    assert main([*words, "--max_bad_fraction", "0.2"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    report = tmp_path / "out" / "report.csv"
    assert last == f"1 of 6 images failed: see {report}. --retry_failed tries them again."
    Image.fromarray(np.zeros((4, 5), np.uint8)).save(films / "0.png")
    assert main([*words, "--retry_failed"]) == 0
    assert "holds 6 of 6 images" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_is_in_the_exit_status(films, tmp_path, capsys, name, status):
    hidden = tmp_path / "out" / ".preparation"

    def interrupt():
        while not any(hidden.glob("*-train-*.json")):
            time.sleep(0.002)
        os.kill(os.getpid(), getattr(signal, name))

    threading.Thread(target=interrupt, daemon=True).start()
    assert main(["prepare", str(films), str(tmp_path / "out"), "--workers", "1"]) == status
    out = capsys.readouterr().out
    assert f"Stopped by {name}: " in out
    assert out.endswith("Run the same command again to go on.\n")
