"""Each data set's folder is known, and taken for no other."""

import os
import pickle

import pytest

from layout_findings import items, problems
from layout_miniatures import MINIATURES, save, touch
from unimiss_hf.data.layouts.catalog import LAYOUTS, find_layout

HUB_LICENSES = {
    "cc-by-3.0",
    "cc-by-4.0",
    "cc-by-sa-4.0",
    "cc-by-nc-4.0",
    "cc-by-nc-sa-4.0",
    "cc-by-nc-nd-4.0",
    "other",
    "unknown",
}


def test_every_layout_has_a_miniature_and_what_a_card_needs():
    assert list(MINIATURES) == list(LAYOUTS)
    for name, layout in LAYOUTS.items():
        assert layout.name == name
        assert layout.title
        assert layout.citation
        assert layout.homepage.startswith("https://")
        assert layout.license.identifier in HUB_LICENSES
        assert layout.license.url.startswith("https://")
        assert set(layout.dimensions) <= {"2d", "3d"}


@pytest.mark.parametrize("name", LAYOUTS)
def test_own_folder_and_the_one_around_it_are_known_and_taken_for_no_other(name, tmp_path):
    root = MINIATURES[name](tmp_path / "download")
    touch(tmp_path / "download" / "images.zip", tmp_path / "download" / "LICENSE")
    for folder in (root, tmp_path / "download"):
        assert [one for one in LAYOUTS if LAYOUTS[one].recognise(folder)] == [name]
        assert find_layout(folder) is LAYOUTS[name]
        assert find_layout(str(folder), name) is LAYOUTS[name]
    assert items(name, root).keys() == items(name, tmp_path / "download").keys()
    assert set(LAYOUTS[name].dimensions) == {item.dimension for item in items(name, root).values()}


@pytest.mark.parametrize("name", LAYOUTS)
def test_whole_miniature_is_read_without_a_problem_and_by_other_processes(name, tmp_path):
    root = MINIATURES[name](tmp_path)
    assert problems(name, root) == {}
    for item in items(name, root).values():
        sent = pickle.loads(pickle.dumps(item))
        assert sent == item
        read = sent.read()
        if item.dimension == "3d":
            assert read.voxels.shape == (4, 5, 6)
            assert read.spacing == read.grid.spacing
        else:
            assert read.pixels.shape[0] == 1


@pytest.mark.parametrize("name", LAYOUTS)
def test_folder_above_says_which_to_pass(name, tmp_path):
    MINIATURES[name](tmp_path / "data" / "download")
    save(tmp_path / "data" / "hospital" / "mine.nii.gz", 1)
    with pytest.raises(ValueError, match=rf"holds some: pass \S*download \({LAYOUTS[name].title}"):
        find_layout(tmp_path / "data")


def test_images_beside_a_data_set_are_not_lost(tmp_path):
    root = MINIATURES["ribfrac"](tmp_path)
    save(tmp_path / "mine.nii.gz", 1)
    with pytest.raises(ValueError, match=rf"pass {root} \(RibFrac\). Or say that its layout"):
        find_layout(tmp_path)


def test_several_data_sets(tmp_path):
    for name in LAYOUTS:
        MINIATURES[name](tmp_path)
    with pytest.raises(ValueError, match=r"DeepLesion \(DeepLesion\).*ribfrac \(RibFrac\)"):
        find_layout(tmp_path)
    with pytest.raises(ValueError, match=r"pass \S*/tianchi \(Tianchi lung nodules\)\. "):
        find_layout(tmp_path, "tianchi")
    both = tmp_path / "both"
    MINIATURES["tianchi"](both)
    for part in (both / "tianchi").iterdir():
        part.rename(both / part.name)
    (both / "tianchi").rmdir()
    save(both / "RibFrac1-image.nii.gz", 1)
    with pytest.raises(ValueError, match="looks like several data sets: tianchi, ribfrac"):
        find_layout(both)
    assert find_layout(both, "ribfrac") is LAYOUTS["ribfrac"]


def test_other_folders_are_none_of_them(tmp_path, images, volumes):
    assert find_layout(images) is None
    assert find_layout(volumes) is None
    save(tmp_path / "challenge" / "Train" / "volume-covid19-A-0003_ct.nii.gz", 1)
    save(tmp_path / "challenge" / "imagesTr" / "liver_0.nii.gz", 1)
    save(tmp_path / "challenge" / "LIDC-IDRI-0001" / "study" / "series.nii.gz", 1)
    assert find_layout(tmp_path / "challenge") is None
    with pytest.raises(ValueError, match="does not look like MOTS"):
        find_layout(tmp_path / "challenge", "mots")


def test_mistakes_are_named(tmp_path):
    (tmp_path / "ribfrac").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no folder .*ribfrak\. Did you mean .*ribfrac\?"):
        find_layout(tmp_path / "ribfrak")
    touch(tmp_path / "file")
    with pytest.raises(NotADirectoryError, match="is a file; wanted the folder"):
        find_layout(tmp_path / "file")
    with pytest.raises(ValueError, match=r"no layout 'lidc'; there are lidc-idri, tianchi.*14\.$"):
        find_layout(tmp_path, "lidc")
    with pytest.raises(ValueError, match=r"no layout 'ribfracs'; .* Did you mean ribfrac\?"):
        find_layout(tmp_path, "ribfracs")
    for layout in LAYOUTS.values():
        with pytest.raises(ValueError, match=rf"ribfrac does not look like {layout.title}"):
            list(layout.items(tmp_path / "ribfrac"))


@pytest.mark.parametrize("name", LAYOUTS)
def test_few_entries_are_looked_at_to_know_a_folder(name, tmp_path, monkeypatch):
    folder = tmp_path / "many"
    for number in range(30):
        (folder / f"folder{number}" / "deeper").mkdir(parents=True)
        touch(*(folder / f"folder{number}" / f"file{file}" for file in range(10)))
    listed = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(path) or scandir(path))
    assert not LAYOUTS[name].recognise(folder)
    assert set(map(str, listed)) == {str(folder)}
