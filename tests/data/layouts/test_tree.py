"""A few names tell what a folder is; what is half there or there twice is told."""

import pytest

from layout_miniatures import touch
from unimiss_hf.data.layouts.item import Problem, SourceItem
from unimiss_hf.data.layouts.tree import (
    each_once,
    find_root,
    has_path,
    path_below,
    require_root,
    stem_of,
    subfolders,
    unfinished,
)

PATTERNS = (r"part\d/\d+\.nii",)


def test_paths_match_name_by_name(tmp_path):
    touch(tmp_path / "part1" / "7.nii", tmp_path / "part1" / "deeper" / "8.txt")
    assert has_path(tmp_path, r"part\d/\d+\.nii")
    assert has_path(tmp_path, r"part\d/.+/8\.txt")
    assert has_path(tmp_path, r"part\d")
    assert not has_path(tmp_path, r"part/7\.nii")
    assert not has_path(tmp_path, r"part\d/7")
    assert not has_path(tmp_path, r"part\d/7\.nii/more")


def test_hidden_names_never_match(tmp_path):
    touch(tmp_path / "part1" / "._7.nii", tmp_path / ".part" / "7.nii")
    assert not has_path(tmp_path, r"part\d/.*7\.nii")
    assert not has_path(tmp_path, r".+/7\.nii")
    assert subfolders(tmp_path) == [tmp_path / "part1"]


def test_root_is_the_folder_or_the_only_one_in_it(tmp_path):
    root = tmp_path / "download" / "data"
    touch(root / "part1" / "7.nii", tmp_path / "download" / "data.zip")
    assert find_root(root, PATTERNS) == root
    assert find_root(tmp_path / "download", PATTERNS) == root
    assert find_root(tmp_path, PATTERNS) is None
    (tmp_path / "download" / ".cache").mkdir()
    assert find_root(tmp_path / "download", PATTERNS) == root
    # Another beside it, whichever of the two is listed first.
    touch(tmp_path / "download" / "other" / "part1" / "7.nii")
    assert find_root(tmp_path / "download", PATTERNS) is None
    with pytest.raises(ValueError, match="download does not look like Data"):
        require_root(tmp_path / "download", PATTERNS, "Data")


def test_root_is_not_wrapped_with_images_beside_it(tmp_path):
    touch(tmp_path / "data" / "part1" / "7.nii", tmp_path / "mine.nii.gz")
    assert find_root(tmp_path, PATTERNS) is None


def test_unreadable_folders_hold_nothing(tmp_path):
    touch(tmp_path / "file")
    assert subfolders(tmp_path / "file") == []
    assert not has_path(tmp_path / "file", ".+")


def test_names_of_files(tmp_path):
    assert stem_of(tmp_path / "a.b.nii.gz") == "a.b"
    assert stem_of(tmp_path / "a.b.nii") == "a.b"
    assert stem_of(tmp_path / "a") == "a"
    assert path_below(tmp_path, tmp_path / "a" / "b.nii") == "a/b.nii"


def test_unfinished_downloads_are_told(tmp_path):
    names = ["a.nii.gz", "b.nii.gz.part", "c.nii.gz_.gstmp", "d.zip.crdownload", "e.txt"]
    told = list(unfinished(tmp_path, [tmp_path / name for name in names]))
    assert [problem.name for problem in told] == names[1:4]
    assert all(problem.is_missing and "unfinished" in problem.reason for problem in told)


def test_second_item_of_a_name_is_told_and_passed_over(tmp_path):
    first = SourceItem("a", "2d", (tmp_path / "1" / "a.png",))
    second = SourceItem("a", "2d", (tmp_path / "2" / "a.png",))
    other = Problem("b", "is missing")
    passed = list(each_once([first, other, second]))
    assert passed[:2] == [first, other]
    (told,) = passed[2:]
    assert told.name == "a"
    assert not told.is_missing
    assert str(tmp_path / "1" / "a.png") in told.reason
    assert str(tmp_path / "2" / "a.png") in told.reason
