"""RICORD: CT series of two collections, split by lists."""

import pickle
import shutil

import numpy as np
import pytest

from labelled_miniatures_classification import (
    RICORD_CORONAL,
    RICORD_LISTS,
    RICORD_NEGATIVE,
    RICORD_POSITIVE,
    ricord,
    ricord_lists,
)
from layout_miniatures import anatomy, touch
from unimiss_hf import MiTImageProcessor
from unimiss_hf.data.labelled.ricord import RICORD


def test_series_of_both_collections(tmp_path):
    data = RICORD.read(ricord(tmp_path))
    assert data.class_names == ("negative", "positive")
    assert {case.name: (case.target, case.patient, case.split) for case in data.cases} == {
        RICORD_POSITIVE: (1, "419639-000001", None),
        RICORD_CORONAL: (1, "419639-000001", None),
        RICORD_NEGATIVE: (0, "SITE2-000334", None),
    }
    assert [len(case.files) for case in data.cases] == [4, 4, 4]
    assert data.problems == ()


def test_processor_takes_every_case_and_scales_as_the_official_code(tmp_path):
    processor = MiTImageProcessor(
        spacing=None,
        window=[-349.5, 1349],
        scaling=[158.58, 324.70],
        volume_size={"depth": 4, "height": 5, "width": 6},
    )
    cases = {case.name: case for case in RICORD.read(ricord(tmp_path)).cases}
    for seed, name in ((1, RICORD_POSITIVE), (2, RICORD_CORONAL), (3, RICORD_NEGATIVE)):
        case = pickle.loads(pickle.dumps(cases[name]))
        pixels = processor(case.load_image(case), return_tensors="pt")["pixel_values"]
        wanted = (np.clip(anatomy(seed), -1024, 325) - 158.58) / 324.70
        np.testing.assert_allclose(pixels[0, 0], wanted, atol=1e-4)


def test_whole_volumes_resized(tmp_path):
    data = RICORD.read(ricord(tmp_path), resized=[8, 16, 12])
    processor = MiTImageProcessor(volume_size={"depth": 8, "height": 16, "width": 12})
    for case in data.cases:
        image = case.load_image(case)
        assert image.shape == (8, 16, 12) and image.dtype == np.float32
        assert processor(image, return_tensors="pt")["pixel_values"].shape == (1, 1, 8, 16, 12)
    same = RICORD.read(tmp_path, resized=(4, 5, 6)).cases[0]
    np.testing.assert_array_equal(same.load_image(same), anatomy(1))


@pytest.mark.parametrize("size", [[64, 128], [64, 128, 1], [64.0, 128, 128], 64])
def test_resized_is_three_lengths(tmp_path, size):
    with pytest.raises(ValueError, match=r"resized=.* must be three lengths in voxels"):
        RICORD.read(ricord(tmp_path), resized=size)


def test_published_lists_choose_series_and_splits(tmp_path):
    root = ricord(tmp_path)
    data = RICORD.read(root, lists=str(ricord_lists(tmp_path)))
    assert {case.name: case.split for case in data.cases} == {
        RICORD_POSITIVE: "train",
        RICORD_NEGATIVE: "test",
    }


def test_listed_series_that_is_not_there_is_told(tmp_path):
    lines = [*RICORD_LISTS["RICORD_train.txt"]]
    lines.append(lines[0].replace("46543", "11111"))
    lists = ricord_lists(tmp_path, RICORD_LISTS | {"RICORD_train.txt": lines})
    (problem,) = RICORD.read(ricord(tmp_path), lists=lists).problems
    assert problem.is_missing and problem.name.endswith("-11111.nii.gz")
    assert "listed as train" in problem.reason


def test_odd_lists(tmp_path):
    root, lists = ricord(tmp_path), ricord_lists(tmp_path)
    train = lists / "RICORD_train.txt"
    (line,) = RICORD_LISTS["RICORD_train.txt"]
    train.write_text(line[:-1] + "2\n")
    with pytest.raises(ValueError, match=r"RICORD_train\.txt, line 1, .*: wanted "):
        RICORD.read(root, lists=lists)
    train.write_text(line[:-1] + "0\n")  # 1A is positive.
    with pytest.raises(ValueError, match=r"RICORD_train\.txt, line 1, .*: wanted "):
        RICORD.read(root, lists=lists)
    train.write_text(f"{line}\n{line}\n")
    with pytest.raises(ValueError, match=r"line 2: .* is listed twice"):
        RICORD.read(root, lists=lists)
    for path in lists.iterdir():
        path.write_text("\n")
    with pytest.raises(ValueError, match="name no series"):
        RICORD.read(root, lists=lists)
    train.unlink()
    with pytest.raises(
        FileNotFoundError, match=r"no file .*RICORD_train\.txt; lists is the folder"
    ):
        RICORD.read(root, lists=lists)


def test_both_collections_are_needed(tmp_path):
    root = ricord(tmp_path)
    shutil.rmtree(root / "manifest-1612365584013")
    with pytest.raises(ValueError, match=r"no CT series of MIDRC-RICORD-1B, the negative cases"):
        RICORD.read(root)


def test_recognised_however_collections_are_wrapped(tmp_path):
    root = ricord(tmp_path)
    assert RICORD.recognise(root) and RICORD.recognise(tmp_path)
    flat = tmp_path / "flat"
    for manifest in root.iterdir():
        shutil.copytree(manifest, flat, dirs_exist_ok=True)
    names = [case.name for case in RICORD.read(root).cases]
    assert [case.name for case in RICORD.read(flat).cases] == names
    study = flat / "MIDRC-RICORD-1A" / RICORD_POSITIVE
    with pytest.raises(ValueError, match="does not look like MIDRC-RICORD"):
        RICORD.read(study.parent)


def test_odd_series_are_told(tmp_path):
    root = ricord(tmp_path)
    positive = root / "manifest-1608266677008" / "MIDRC-RICORD-1A"
    coronal = positive / RICORD_CORONAL
    (coronal / "1-04.dcm").unlink()
    broken = coronal.parent / "9.000000-BROKEN-00009"
    touch(broken / "1-01.dcm", broken.parent / "2.dcm.part")
    single = coronal.parent / "8.000000-ONE-00008"
    single.mkdir()
    shutil.copy(coronal / "1-01.dcm", single)
    told = {problem.name.rpartition("/")[2]: problem for problem in RICORD.read(root).problems}
    assert told.keys() == {
        "601.000000-COR 3X3-60319",
        "9.000000-BROKEN-00009",
        "8.000000-ONE-00008",
        "2.dcm.part",
    }
    assert "3 of the 4 files" in told["601.000000-COR 3X3-60319"].reason
    assert not told["601.000000-COR 3X3-60319"].is_missing
    assert "one CT slice" in told["8.000000-ONE-00008"].reason
    assert "cannot be opened" in told["9.000000-BROKEN-00009"].reason
    shutil.rmtree(coronal)
    told = {problem.name.rpartition("/")[2]: problem for problem in RICORD.read(root).problems}
    assert "not there" in told["601.000000-COR 3X3-60319"].reason


def test_series_that_was_downloaded_twice(tmp_path):
    root = ricord(tmp_path)
    shutil.copytree(root / "manifest-1612365584013", root / "manifest-9")
    data = RICORD.read(root)
    assert len(data.cases) == 3
    (problem,) = data.problems
    assert (problem.name, problem.is_missing) == (RICORD_NEGATIVE, False)
    assert "manifest-9" in problem.reason


def test_misspelt_option(tmp_path):
    with pytest.raises(ValueError, match=r"has no option 'list'; .*Did you mean lists\?"):
        RICORD.read(ricord(tmp_path), list="lists")
