import io
import warnings
from pathlib import Path

import pytest

from unimiss_hf.data.input_preparation import BadInput
from unimiss_hf.data.input_reporting import Reporter, error_file, write_bad_inputs


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_bad_inputs_and_warnings_are_told_in_a_line_each(kind):
    file = kind()
    with Reporter(20, 0, file) as reporter:
        reporter.add_bad(BadInput("a.png", "it is empty"))
        for index in range(13):
            warnings.warn(f"odd header {index}", stacklevel=1)
            reporter.done()
    lines = file.getvalue().replace("\r", "\n").splitlines()
    assert "bad: a.png: it is empty" in lines
    assert "warning: odd header 9" in lines
    assert not any("odd header 10" in line for line in lines)
    assert "3 more warnings" in file.getvalue()
    assert reporter.bad == [BadInput("a.png", "it is empty")]
    assert any("14/20" in line for line in lines) == (kind is Terminal)


def test_a_log_gets_a_line_now_and_then(monkeypatch):
    monkeypatch.setattr("unimiss_hf.data.progress_line._SECONDS_BETWEEN_LINES", 0)
    file = io.StringIO()
    with Reporter(None, 2, file) as reporter:
        reporter.done()
    assert file.getvalue() == "3 inputs\n"


def test_bad_inputs_are_listed_beside_the_output(tmp_path):
    path = error_file(tmp_path / "features.parquet")
    assert path == tmp_path / "features.errors.csv"
    write_bad_inputs(path, [BadInput("a,b.png", 'it is "empty"')], set())
    assert path.read_text() == 'name,error\n"a,b.png","it is ""empty"""\n'
    write_bad_inputs(path, [], {"a,b.png"})
    assert list(tmp_path.iterdir()) == []


def test_what_earlier_runs_listed_stays_until_it_has_features(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.png", "c.png"):
        Path(name).touch()
    path = Path("features.errors.csv")
    first = [BadInput("a.png", "empty"), BadInput("set[train][3]", "x"), BadInput("b.png", "y")]
    write_bad_inputs(path, first, set())
    write_bad_inputs(path, [BadInput("b.png", "z"), BadInput("c.png", "x")], {"d.png"})
    listed = "name,error\na.png,empty\nset[train][3],x\nb.png,z\nc.png,x\n"
    assert path.read_text() == listed
    Path("a.png").unlink()
    write_bad_inputs(path, [], {"set[train][3]", "c.png"})
    assert path.read_text() == "name,error\nb.png,z\n"
