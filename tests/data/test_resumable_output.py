"""An output that one process at a time writes to, and that is never left with rows in memory."""

import pytest

from unimiss_hf.data.resumable_output import ResumableOutput


class Lines(ResumableOutput):
    """A text file of lines."""

    def __init__(self, folder):
        super().__init__(folder, folder, f"the lines of {folder}")
        self.file = folder / "lines.txt"
        self.rows = []

    def write_rows(self):
        if self.rows:
            with self.explained(), self.file.open("a") as file:
                file.writelines(f"{row}\n" for row in self.rows)
            self.rows = []


def test_rows_at_hand_are_written_in_the_end(tmp_path):
    with Lines(tmp_path / "out") as lines:
        lines.rows.append("a")
    assert lines.file.read_text() == "a\n"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["lines.txt"]


def test_rows_at_hand_are_written_when_the_command_fails(tmp_path):
    with pytest.raises(RuntimeError, match="no more"), Lines(tmp_path / "out") as lines:
        lines.rows.append("a")
        raise RuntimeError("no more")
    assert lines.file.read_text() == "a\n"


def test_the_first_error_is_told_if_rows_cannot_be_written_either(tmp_path):
    with pytest.raises(RuntimeError, match="no more"), Lines(tmp_path / "out") as lines:
        lines.rows.append("a")
        lines.file.mkdir()
        raise RuntimeError("no more")


def test_rows_that_cannot_be_written_are_told(tmp_path):
    with (
        pytest.raises(OSError, match=r"Cannot write the lines of .*: Is a directory\. What was"),
        Lines(tmp_path / "out") as lines,
    ):
        lines.rows.append("a")
        lines.file.mkdir()
    assert lines.rows == ["a"]


def test_nothing_is_left_of_an_output_without_rows(tmp_path):
    with Lines(tmp_path / "out"):
        assert (tmp_path / "out").is_dir()
    assert not (tmp_path / "out").exists()


def test_two_do_not_write_at_once(tmp_path):
    with Lines(tmp_path / "out") as lines:
        lines.rows.append("a")
        with (
            pytest.raises(BlockingIOError, match=r"Another process writes to .*out now\. Wait"),
            Lines(tmp_path / "out"),
        ):
            pass
    with Lines(tmp_path / "out") as again:
        again.rows.append("b")
    assert lines.file.read_text() == "a\nb\n"
