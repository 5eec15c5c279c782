"""The folder that a conversion leaves, and what it leaves when it fails."""

import hashlib
import json
import resource
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoImageProcessor, AutoModel, AutoModelForPreTraining

from official_checkpoints import constant_network
from reference_parity import network_input
from unimiss_hf import MiTConfig, MiTForPreTraining, MiTImageProcessor
from unimiss_hf.conversion import convert_checkpoint, convert_state_dict

FIGURES = Path(__file__).parents[1] / "reference/forward_tiny.npz"


@pytest.fixture
def constant_file(tmp_path) -> Path:
    path = tmp_path / "in" / "constant.pth"
    path.parent.mkdir()
    torch.save(constant_network("tiny", 0.5), path)
    return path


@pytest.fixture
def unusable_file(tmp_path) -> Path:
    weights = constant_network("tiny")
    del weights["norm.bias"]
    path = tmp_path / "unusable.pth"
    torch.save(weights, path)
    return path


def test_the_folder_returns_what_the_official_implementation_returned(converted):
    pretraining = AutoModelForPreTraining.from_pretrained(converted.folder)
    encoder = AutoModel.from_pretrained(converted.folder)
    with np.load(FIGURES) as archive:
        figures = dict(archive)
    for tag, shape in (("image96", (2, 3, 96, 96)), ("volume16x96x96", (2, 1, 16, 96, 96))):
        pixel_values = network_input(tag, shape).float()
        with torch.no_grad():
            class_token = pretraining(pixel_values).class_token.numpy()
            tokens = encoder(pixel_values).last_hidden_state.numpy().reshape(-1)
        expected = figures[f"{tag}.cls"]
        np.testing.assert_allclose(class_token, expected, atol=1e-4 * np.abs(expected).max())
        expected = figures[f"{tag}.encoder4.value"]
        found = tokens[figures[f"{tag}.encoder4.index"]]
        np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_every_weight_is_the_teachers_bit_for_bit(converted, teacher_weights):
    model, loading = MiTForPreTraining.from_pretrained(converted.folder, output_loading_info=True)
    assert not any(loading.values())
    expected = convert_state_dict(teacher_weights)
    found = model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_configuration_and_processor_are_those_of_pretraining(converted):
    config = AutoModel.from_pretrained(converted.folder).config
    assert config.depths == MiTConfig.tiny().depths
    assert config.num_prototypes == 256
    assert config.architectures == ["MiTForPreTraining"]
    processor = AutoImageProcessor.from_pretrained(converted.folder)
    assert isinstance(processor, MiTImageProcessor)
    settings = processor.to_dict()
    assert {name: settings[name] for name in MiTImageProcessor().to_dict()} == (
        MiTImageProcessor().to_dict()
    )


def test_the_report_says_what_was_done(converted, official_file):
    assert converted.checkpoint == official_file
    assert converted.sha256 == hashlib.sha256(official_file.read_bytes()).hexdigest()
    assert (converted.size, converted.branch, converted.epoch) == ("tiny", "teacher", 200)
    assert len(converted.matched) == 206
    assert converted.missing == converted.unexpected == ()
    assert converted.head == "kept"
    assert round(converted.encoder_parameters / 1e6, 2) == 13.86
    backbone = converted.encoder_parameters + converted.decoder_parameters
    assert round(backbone / 1e6, 2) == 20.38
    model = MiTForPreTraining.from_pretrained(converted.folder)
    assert model.num_parameters() == backbone + converted.head_parameters


def test_the_student_is_taken_when_asked_for(official_file, tmp_path):
    report = convert_checkpoint(official_file, tmp_path / "out", branch="student")
    assert report.branch == "student"
    weights = MiTForPreTraining.from_pretrained(report.folder).state_dict()
    assert all((weight == 0.25).all() for weight in weights.values())


def test_a_file_without_a_head_gets_a_new_one(tmp_path):
    torch.save({"model": constant_network("tiny", 0.5, head=None)}, tmp_path / "backbone.pth")
    report = convert_checkpoint(tmp_path / "backbone.pth", tmp_path / "new" / "out")
    assert report.head == "new"
    assert len(report.missing) == 7
    assert any("projection head is new" in line for line in report.lines())
    model = MiTForPreTraining.from_pretrained(report.folder)
    assert (model.encoder.stem.embedding_2d.convolution.weight == 0.5).all()
    assert model.projection_head.prototypes.weight.std() > 0.01
    assert model.config.num_prototypes == report.num_prototypes == 65536


def test_a_folder_that_is_not_empty_is_not_written_into(constant_file, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.json").write_text("mine")
    with pytest.raises(FileExistsError, match="out is not empty"):
        convert_checkpoint(constant_file, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["config.json"]


def test_a_folder_of_an_earlier_conversion_is_replaced(converted, constant_file, tmp_path):
    folder = tmp_path / "out"
    shutil.copytree(converted.folder, folder)
    (folder / "gone_mit.py").write_text("from an earlier version")
    note = json.loads((folder / "conversion.json").read_text())
    note["files"].append("gone_mit.py")
    (folder / "conversion.json").write_text(json.dumps(note))
    convert_checkpoint(constant_file, folder, overwrite=True)
    assert (AutoModel.from_pretrained(folder).stem.embedding_2d.convolution.weight == 0.5).all()
    assert "constant.pth" in (folder / "README.md").read_text(encoding="utf-8")
    assert not (folder / "gone_mit.py").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


@pytest.mark.parametrize("change", ["no note", "another file", "a folder", "another folder's"])
def test_a_folder_that_is_not_only_a_conversion_is_kept(converted, constant_file, tmp_path, change):
    folder = tmp_path / "out"
    shutil.copytree(converted.folder, folder)
    if change == "no note":
        (folder / "conversion.json").unlink()
    elif change == "another file":
        (folder / "my_own_mit.py").write_text("mine")
    elif change == "a folder":
        (folder / "README.md").unlink()
        (folder / "README.md").mkdir()
    else:
        (folder / "conversion.json").write_text('{"files": 3}')
    before = sorted(path.name for path in folder.iterdir())
    with pytest.raises(FileExistsError, match="holds what no conversion wrote"):
        convert_checkpoint(constant_file, folder, overwrite=True)
    assert sorted(path.name for path in folder.iterdir()) == before


def test_the_working_directory_stays_the_same(constant_file, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    for overwrite in (False, True):
        convert_checkpoint(constant_file, ".", overwrite=overwrite)
        assert Path("config.json").is_file()


def test_what_a_killed_conversion_left_is_removed(constant_file, tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    left = tmp_path / f".out.partial-{ended.pid}"
    left.mkdir()
    (left / "model.safetensors").touch()
    convert_checkpoint(constant_file, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_what_is_not_ours_is_never_replaced(converted, tmp_path):
    official_file = tmp_path / "out" / "official.pth"
    official_file.parent.mkdir()
    torch.save(constant_network("tiny", head=None), official_file)
    with pytest.raises(FileExistsError, match=r"no conversion wrote, 'official\.pth'"):
        convert_checkpoint(official_file, official_file.parent, overwrite=True)
    assert official_file.exists()
    with pytest.raises(NotADirectoryError, match=r"official\.pth is a file; give a folder"):
        convert_checkpoint(official_file, official_file, overwrite=True)


def test_an_empty_folder_is_written_into(constant_file, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path)
    report = convert_checkpoint("in/constant.pth", "out")
    assert report.folder == Path("out")
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_weights_that_do_not_match_leave_nothing(unusable_file, converted, tmp_path):
    with pytest.raises(ValueError, match=r"unusable\.pth cannot be converted: 205 of 206"):
        convert_checkpoint(unusable_file, tmp_path / "new" / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["unusable.pth"]

    shutil.copytree(converted.folder, tmp_path / "old")
    with pytest.raises(ValueError, match="1 missing"):
        convert_checkpoint(unusable_file, tmp_path / "old", overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old", "unusable.pth"]
    assert AutoModel.from_pretrained(tmp_path / "old").config.num_prototypes == 256


def test_a_full_disk_leaves_the_old_folder(constant_file, converted, tmp_path):
    shutil.copytree(converted.folder, tmp_path / "out")
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, unlimited[1]))
    try:
        with pytest.raises(OSError, match=r"Cannot write .*out"):
            convert_checkpoint(constant_file, tmp_path / "out", overwrite=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]
    assert AutoModel.from_pretrained(tmp_path / "out").config.num_prototypes == 256
