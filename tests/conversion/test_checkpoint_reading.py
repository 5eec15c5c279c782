"""Files as the official trainer writes them, files by others, and files that do harm."""

import os
import pathlib
import pickle

import numpy as np
import pytest
import torch

from official_checkpoints import official_checkpoint
from unimiss_hf.conversion.checkpoint_reading import read_checkpoint

NETWORK = {"norm.weight": torch.arange(3.0), "norm.bias": torch.zeros(3)}
STUDENT = {f"module.backbone.{name}": tensor + 1 for name, tensor in NETWORK.items()}
TEACHER = {f"backbone.{name}": tensor for name, tensor in NETWORK.items()}
FORMATS = pytest.mark.parametrize("new_format", [True, False], ids=["zip", "old format"])


@pytest.fixture
def save(tmp_path):
    """Save anything as a checkpoint and return its path."""

    def write(content, new_format=True, **options):
        path = tmp_path / "official.pth"
        torch.save(content, path, _use_new_zipfile_serialization=new_format, **options)
        return path

    return write


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


class Custom:
    def __init__(self):
        self.value = 1


@FORMATS
@pytest.mark.parametrize(
    ("branch", "chosen", "expected"),
    [(None, "teacher", TEACHER), ("teacher", "teacher", TEACHER), ("student", "student", STUDENT)],
)
def test_a_branch_of_an_official_checkpoint(save, new_format, branch, chosen, expected):
    path = save(official_checkpoint(STUDENT, TEACHER, epoch=120), new_format)
    checkpoint = read_checkpoint(path, branch)
    assert checkpoint.branch == chosen
    assert checkpoint.epoch == 120
    assert checkpoint.weights.keys() == expected.keys()
    assert all(torch.equal(checkpoint.weights[name], expected[name]) for name in expected)


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_a_file_with_one_network(save, wrapper):
    checkpoint = read_checkpoint(save({wrapper: NETWORK, "epoch": 7} if wrapper else NETWORK))
    assert checkpoint.branch is None
    assert checkpoint.epoch == (7 if wrapper else None)
    assert torch.equal(checkpoint.weights["norm.weight"], NETWORK["norm.weight"])


@FORMATS
@pytest.mark.parametrize(
    ("epoch", "expected"),
    [
        (np.int64(3), 3),
        (np.uint8(200), 200),
        (np.dtype(">i4").type(5), 5),
        (np.float64(3.5), None),
        (True, None),
        ("last", None),
    ],
)
def test_the_epoch_is_a_whole_number_or_not_known(save, new_format, epoch, expected):
    path = save({"teacher": TEACHER, "epoch": epoch}, new_format)
    assert read_checkpoint(path).epoch == expected


@FORMATS
@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda marker: Call(os.system, f"touch {marker}"), r"posix\.system"),
        (lambda marker: Call(os.mkdir, str(marker)), r"posix\.mkdir"),
        (lambda marker: Call(eval, f"open({str(marker)!r}, 'w')"), "eval"),
        (lambda marker: Custom(), r"test_checkpoint_reading\.Custom"),
        (lambda marker: pathlib.PurePosixPath("x"), r"pathlib\.PurePosixPath"),
        (lambda marker: np.zeros(3), r"numpy\._core\.multiarray\._reconstruct"),
        (lambda marker: np.str_("abc"), "a NumPy scalar of type <U3"),
        (lambda marker: np.complex64(1), "a NumPy scalar of type <c8"),
        (lambda marker: torch.nn.Linear(1, 1), r"torch\.nn\.modules\.linear\.Linear"),
    ],
    ids=["system", "mkdir", "eval", "class", "path", "array", "string", "complex", "module"],
)
def test_a_pickle_that_asks_for_more_is_refused_by_name(save, tmp_path, new_format, make, named):
    marker = tmp_path / "it_ran"
    path = save({"teacher": TEACHER, "args": make(marker)}, new_format)
    with pytest.raises(ValueError, match=rf"official\.pth is refused: it asks for {named}\."):
        read_checkpoint(path)
    assert not marker.exists()


def test_what_the_process_allows_is_not_allowed_to_a_checkpoint(save):
    path = save({"teacher": TEACHER, "args": Custom()})
    with torch.serialization.safe_globals([Custom]):
        allowed = set(torch.serialization.get_safe_globals())
        with pytest.raises(ValueError, match=r"it asks for .*Custom"):
            read_checkpoint(path)
        assert set(torch.serialization.get_safe_globals()) == allowed
        assert torch.load(path, weights_only=True)["args"].value == 1


@FORMATS
@pytest.mark.parametrize("harmful", [True, False])
def test_another_pickle_protocol_is_refused(save, tmp_path, new_format, harmful):
    marker = tmp_path / "it_ran"
    extra = Call(os.system, f"touch {marker}") if harmful else None
    path = save({"teacher": TEACHER, "args": extra}, new_format, pickle_protocol=4)
    with pytest.raises(ValueError, match=r"official\.pth is refused: .* pickle protocol 4"):
        read_checkpoint(path)
    assert not marker.exists()


@FORMATS
@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_file(save, new_format, kept):
    path = save(official_checkpoint(STUDENT, TEACHER), new_format)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(ValueError, match=r"official\.pth is not a PyTorch checkpoint, or is trunc"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "content",
    [b"<html>Too many users have viewed this file</html>", b"PK\x03\x04 and no more", b"\x80"],
)
def test_a_file_of_another_kind(tmp_path, content):
    path = tmp_path / "official.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"official\.pth is not a PyTorch checkpoint, or is trunc"):
        read_checkpoint(path)


def test_a_pickle_that_torch_did_not_write(tmp_path):
    path = tmp_path / "official.pth"
    path.write_bytes(pickle.dumps(Call(os.mkdir, str(tmp_path / "it_ran")), protocol=2))
    with pytest.raises(ValueError, match=r"official\.pth is refused: it asks for posix\.mkdir"):
        read_checkpoint(path)
    assert not (tmp_path / "it_ran").exists()


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no checkpoint .*missing\.pth"):
        read_checkpoint(tmp_path / "missing.pth")
    with pytest.raises(IsADirectoryError, match=f"{tmp_path} is a folder"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("content", "branch", "told"),
    [
        ({"student": STUDENT, "epoch": 3}, None, "has no teacher, only a student"),
        ({"teacher": TEACHER}, "student", "has no student, only a teacher"),
        (NETWORK, "teacher", "has no branches, .* no teacher .* 2 entries: norm.weight, norm.bias"),
        ({"model": NETWORK}, "student", "has no branches"),
        (
            {"model": NETWORK, "state_dict": NETWORK},
            None,
            "has weights under state_dict and under model",
        ),
        ({"model": 3, "epoch": 3}, None, "holds no weights, but 2 entries: model, epoch"),
        ({"teacher": {}}, None, "holds no weights under teacher"),
        ([NETWORK], None, "holds a list, not a dictionary"),
        ({0: torch.zeros(1)}, None, "has the key 0 among its weights"),
    ],
)
def test_weights_that_cannot_be_chosen(save, content, branch, told):
    with pytest.raises(ValueError, match=rf"official\.pth {told}"):
        read_checkpoint(save(content), branch)


def test_an_unknown_branch(save):
    with pytest.raises(ValueError, match="branch is 'ema'; there are teacher and student"):
        read_checkpoint(save(NETWORK), "ema")
