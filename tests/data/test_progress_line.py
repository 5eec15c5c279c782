import io

import pytest

from unimiss_hf.data.progress_line import ProgressLine


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_has_a_bar_and_lines_above_it():
    file = Terminal()
    with ProgressLine(20, 4, "image", file) as line:
        line.done(3, "1 failed")
        line.say("failed: a.png")
        line.done(-2, "1 failed")
    lines = file.getvalue().replace("\r", "\n").splitlines()
    assert "failed: a.png" in lines
    assert "5/20" in lines[-1] and "1 failed" in lines[-1] and "image/s" in lines[-1]


@pytest.mark.parametrize(
    ("total", "text"), [(20, "7 of 20 images, 1 failed\n"), (None, "7 images")]
)
def test_a_log_gets_a_line_now_and_then(monkeypatch, total, text):
    file = io.StringIO()
    with ProgressLine(total, 4, "image", file) as line:
        line.done(2)
        assert file.getvalue() == ""
        monkeypatch.setattr("unimiss_hf.data.progress_line._SECONDS_BETWEEN_LINES", 0)
        line.done(1, "1 failed")
    assert file.getvalue().startswith(text)
