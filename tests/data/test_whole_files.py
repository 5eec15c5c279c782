import pytest

from unimiss_hf.data.whole_files import put_in_place


def test_a_file_is_there_when_it_is_complete(tmp_path):
    (tmp_path / "partial").mkdir()
    target = tmp_path / "a.txt"
    with put_in_place(target, tmp_path / "partial") as unfinished:
        unfinished.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new"
    assert list((tmp_path / "partial").iterdir()) == []


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_what_was_there_stays_if_it_fails(tmp_path, error):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(error), put_in_place(target, tmp_path) as unfinished:
        unfinished.write_text("half of the n")
        raise error
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert target.read_text() == "old"
