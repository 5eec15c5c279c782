"""What folders of sample data have in common, whatever lies in them."""

import numpy as np
import pytest
from PIL import Image

from unimiss_hf.data.sample_folder import (
    claim_folder,
    draw_geometry,
    require_range,
    run_command,
    write_png,
    write_whole,
)

SETTINGS = {"seed": 0, "voxel_spacing": 1.5}


def test_a_folder_is_claimed_for_one_set_of_settings(tmp_path):
    folder = tmp_path / "sample"
    claim_folder(folder, "sample.json", SETTINGS)
    claim_folder(folder, "sample.json", SETTINGS)
    assert [path.name for path in folder.iterdir()] == ["sample.json"]
    with pytest.raises(ValueError, match=r"was prepared with the settings .*'seed': 0.*'seed': 1"):
        claim_folder(folder, "sample.json", SETTINGS | {"seed": 1})
    (folder / "sample.json").write_text("{")
    with pytest.raises(ValueError, match=r"sample\.json is not JSON\. Delete"):
        claim_folder(folder, "sample.json", SETTINGS)


def test_what_is_there_already_is_told_but_for_hidden_files(tmp_path):
    (tmp_path / ".sample.json.partial").write_text("cut")
    claim_folder(tmp_path, "sample.json", SETTINGS)
    with pytest.raises(ValueError, match=r"holds other files \(sample\.json, \.\.\.\)"):
        claim_folder(tmp_path, "other.json", SETTINGS)
    with pytest.raises(NotADirectoryError, match="is a file; the sample needs a folder"):
        claim_folder(tmp_path / "sample.json", "sample.json", SETTINGS)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"seed": -1}, "seed is -1; it must be at least 0"),
        ({"seed": float("inf")}, "seed is inf"),
        ({"voxel_spacing": 0.0}, r"voxel_spacing is 0\.0 mm; it must be a positive number"),
        ({"voxel_spacing": float("nan")}, "voxel_spacing is nan mm"),
    ],
)
def test_numbers_out_of_range_are_named(changes, told):
    require_range({"seed": 0}, SETTINGS)
    with pytest.raises(ValueError, match=told):
        require_range({"seed": 0}, SETTINGS | changes)


def test_views_vary_within_their_bounds():
    random = np.random.default_rng(0)
    drawn = [
        draw_geometry(random, 64, view=180, turns=(10, 20), tilt=2, least_field=290)
        for _ in range(50)
    ]
    assert all(190 <= one.angle <= 200 and abs(one.elevation) <= 2 for one in drawn)
    assert len({one.angle for one in drawn}) > 10
    for one in drawn:
        magnification = one.source_to_detector / one.source_to_isocentre
        assert 290 <= one.pixel_spacing * 64 / magnification <= 300


def test_a_file_is_written_once(tmp_path):
    path = tmp_path / "new" / "text"
    write_whole(path, b"a")
    written = path.stat().st_mtime_ns
    write_whole(path, b"a")
    assert path.stat().st_mtime_ns == written
    write_whole(path, b"b")
    assert path.read_bytes() == b"b"
    assert list(path.parent.iterdir()) == [path]


def test_pictures_are_8_bit_grey(tmp_path):
    write_png(tmp_path / "a.png", np.array([[0, 0.5], [0.2, 1]], np.float32))
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "L"
        assert np.asarray(image).tolist() == [[0, 128], [51, 255]]


def test_a_command_prepares_the_folder_that_it_names(tmp_path, capsys):
    told = []

    def prepare(folder, **settings):
        told.append(settings)
        if settings["seed"] < 0:
            raise ValueError("seed is too small")
        return folder

    words = [str(tmp_path), "--num_radiographs", "3"]
    assert run_command(prepare, "a.module", "Writes.", 7, words[:1]) == tmp_path
    assert run_command(prepare, "a.module", "Writes.", 7, [*words, "--seed", "2"]) == tmp_path
    assert told == [{"num_radiographs": 7, "seed": 0}, {"num_radiographs": 3, "seed": 2}]
    with pytest.raises(SystemExit) as ended:
        run_command(prepare, "a.module", "Writes.", 7, [*words, "--seed", "-1"])
    assert ended.value.code == 2
    assert "python -m a.module: error: seed is too small" in capsys.readouterr().err
