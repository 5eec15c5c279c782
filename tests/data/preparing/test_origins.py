"""Words of a command mean folders and files, each once."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from unimiss_hf.data.layouts.catalog import LAYOUTS
from unimiss_hf.data.layouts.item import Layout, License, Problem, SourceItem
from unimiss_hf.data.preparing.origins import find_origins


def items(folder: Path) -> Iterator[SourceItem | Problem]:
    yield SourceItem("a", "2d", (folder / "toy" / "a.png",))
    yield Problem("b", "it is not there")


@pytest.fixture
def toy(tmp_path, monkeypatch) -> Path:
    """A folder of a data set that the catalogue knows."""
    layout = Layout(
        name="toy",
        title="The Toy Set",
        homepage="https://example.org",
        license=License("cc0-1.0", "CC0 1.0", "https://example.org/terms"),
        citation="Toys, 2020.",
        dimensions=("2d",),
        recognise=lambda folder: (folder / "toy").is_dir(),
        items=items,
    )
    monkeypatch.setitem(LAYOUTS, "toy", layout)
    (tmp_path / "in" / "download" / "toy").mkdir(parents=True)
    for name in ("a.png", "labels.csv"):
        (tmp_path / "in" / "download" / "toy" / name).touch()
    return tmp_path / "in" / "download"


def test_a_folder_is_a_known_data_set_or_any_other(toy, films, make_settings):
    known, other = find_origins([toy, films], make_settings(license="cc-by-4.0"))
    assert (known.label, known.title, known.license.identifier) == ("toy", "The Toy Set", "cc0-1.0")
    assert (other.label, other.title, other.license.identifier) == ("films", "films", "cc-by-4.0")
    (forced,) = find_origins([toy], make_settings(layout="folder"))
    assert (forced.label, forced.layout.name) == ("download", "folder")
    with pytest.raises(ValueError, match="does not look like The Toy Set"):
        find_origins([films], make_settings(layout="toy"))
    with pytest.raises(ValueError, match="no layout 'toi'"):
        find_origins([films], make_settings(layout="toi"))


def test_files_that_a_known_data_set_does_not_read_are_told(toy, make_settings):
    (origin,) = find_origins([toy], make_settings())
    told = [
        (found.name, found.is_missing) for found in origin.contents() if isinstance(found, Problem)
    ]
    assert told == [("b", True), ("toy/labels.csv", False)]


def test_folders_of_one_name_are_told_apart_by_those_above(tmp_path, make_settings):
    places = ["x/a/ct", "y/a/ct", "y/b/ct", "ct2"]
    for place in places:
        (tmp_path / place).mkdir(parents=True)
    origins = find_origins([tmp_path / place for place in places], make_settings())
    assert [origin.label for origin in origins] == ["x/a/ct", "y/a/ct", "b/ct", "ct2"]


def test_files_of_one_folder_are_one_origin(films, scans, make_settings):
    words = [films / "0.png", scans, films / "2.png", films / "later" / "4.png"]
    origins = find_origins(words, make_settings())
    assert [origin.label for origin in origins] == ["scans", "films", "later"]
    assert [item.name for item in origins[1].contents()] == ["0.png", "2.png"]


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (["films", "film"], FileNotFoundError, r"no file or folder .*film .*Did you mean .*films"),
        (["films", "scans", "films/"], ValueError, "films is given twice"),
        (["films", "films/later"], ValueError, "later lies in .*films, which is a SOURCE too"),
        (["films/0.png", "films"], ValueError, r"0\.png lies in .*films"),
        (["films/0.png", "films/0.png"], ValueError, r"0\.png is given twice"),
        (["films/notes.md"], ValueError, r"notes\.md is neither an image nor a volume"),
        ([""], ValueError, "empty word"),
    ],
)
def test_mistyped_words_are_told(films, scans, make_settings, monkeypatch, words, error, message):
    monkeypatch.chdir(films.parent)
    (films / "notes.md").touch()
    with pytest.raises(error, match=message):
        find_origins(words, make_settings())


def test_a_link_to_a_source_is_that_source(films, make_settings):
    link = films.parent / "link"
    link.symlink_to(films)
    with pytest.raises(ValueError, match=re.escape("given twice")):
        find_origins([films, link], make_settings())


def test_a_file_is_no_known_data_set(toy, make_settings):
    with pytest.raises(ValueError, match="a data set toy is a folder"):
        find_origins([toy / "toy" / "a.png"], make_settings(layout="toy"))
