"""The views of the sample CT: radiographs in folders of classes."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unimiss_hf.data.labelled.catalog import find_labelled_layout
from unimiss_hf.data.radiographs import RadiographGeometry, render_radiograph
from unimiss_hf.data.sample import find_sample_ct
from unimiss_hf.data.sample_views import VIEW_CLASSES, chest_view, main, prepare_sample_views
from unimiss_hf.finetuning import FinetuningSettings, run_finetuning
from unimiss_hf.image_reading_mit import read_volume
from unimiss_hf.training.recipes import read_recipe

RECIPE = Path(__file__).parents[2] / "recipes" / "finetune_sample_views.yaml"
SMALL = {"num_radiographs": 50, "image_size": 32, "voxel_spacing": 8.0}
CENTRES = {
    "frontal": (0, 180),
    "lateral_left": (90,),
    "lateral_right": (270,),
    "oblique_left": (45, 225),
    "oblique_right": (315, 135),
}


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    return prepare_sample_views(tmp_path_factory.mktemp("views"), **SMALL)


def written(folder: Path) -> dict[str, int]:
    """Every file and when it was last written."""
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def from_centre(label: str, angle: float) -> float:
    """Degrees between an angle and the nearest of its class's own views."""
    apart = [(angle - centre + 180) % 360 - 180 for centre in CENTRES[label]]
    return min(apart, key=abs)


def test_every_class_is_in_every_split_as_the_layout_reads_it(sample):
    layout = find_labelled_layout(sample)
    assert layout.name == "class-folders"
    data = layout.read(sample)
    assert data.class_names == VIEW_CLASSES == tuple(CENTRES)
    assert data.problems == ()
    counts: dict[tuple[str, int], int] = {}
    for case in data.cases:
        assert case.dimension == "2d"
        counts[case.split, case.target] = counts.get((case.split, case.target), 0) + 1
    wanted = {"train": 6, "validation": 2, "test": 2}
    assert counts == {(split, n): each for split, each in wanted.items() for n in range(5)}


def test_both_views_of_a_class_are_in_every_split(sample):
    for split, (label, centres) in itertools.product(
        ("train", "validation", "test"), CENTRES.items()
    ):
        names = [path.stem.split("_", 1)[1] for path in (sample / split / label).iterdir()]
        assert len({name.rsplit("_", 1)[0] for name in names}) == len(centres)
        for name in names:
            assert abs(from_centre(label, int(name.rsplit("_", 1)[1]))) <= 15


def test_views_of_other_splits_come_from_other_angles():
    views = [chest_view(index, 3, 32) for index in range(250)]
    offsets: dict[str, list[float]] = {}
    for view in views:
        offset = from_centre(view.label, view.geometry.angle)
        assert abs(offset) <= 15.01
        offsets.setdefault(view.split, []).append(offset)
    counts = {split: len(found) for split, found in offsets.items()}
    assert counts == {"train": 150, "validation": 50, "test": 50}
    for one, other in itertools.combinations(offsets, 2):
        assert np.abs(np.subtract.outer(offsets[one], offsets[other])).min() >= 1.9
    assert views[7] == chest_view(7, 3, 32) != chest_view(7, 4, 32)


def test_pictures_of_a_class_are_alike_and_of_others_are_not():
    """Opposite views are one class, for the mirrored picture looks the same; laterals are two."""
    spacing = (8.0, 8.0, 8.0)
    volume = read_volume(find_sample_ct(), spacing=spacing)
    pictures = {
        (label, angle): render_radiograph(
            volume,
            spacing,
            RadiographGeometry(angle=angle, detector_size=(32, 32), pixel_spacing=10.0),
        ).numpy()
        for label, centres in CENTRES.items()
        for angle in centres
    }
    likeness: dict[bool, list[float]] = {True: [], False: []}
    for one, other in itertools.combinations(pictures, 2):
        correlation = np.corrcoef(pictures[one].ravel(), pictures[other].ravel())[0, 1]
        likeness[one[0] == other[0]].append(correlation)
    assert len(likeness[True]) == 3
    assert min(likeness[True]) > 0.95
    assert max(likeness[False]) < 0.8


def test_the_front_is_at_the_left_in_a_left_lateral(sample):
    """Behind the front of the chest, against the spine, the picture is brighter."""
    for label, sign in (("lateral_left", 1), ("lateral_right", -1)):
        for path in (sample / "test" / label).iterdir():
            with Image.open(path) as opened:
                upper = np.asarray(opened, dtype=float)[4:16]
            front, back = upper[:, :16].sum(), upper[:, 16:].sum()
            assert sign * (back - front) > 0, path.name


def test_the_readme_tells_classes_source_licence_and_truth(sample):
    readme = (sample / "README.md").read_text()
    for words in ("LIDC-IDRI", "CC BY 3.0", "one patient", "50 radiographs", *VIEW_CLASSES):
        assert words in readme


def test_an_interrupted_preparation_is_resumed_with_the_same_files(sample):
    before = written(sample)
    prepare_sample_views(sample, **SMALL)
    assert written(sample) == before
    lost = [next((sample / "test" / "frontal").iterdir()), sample / "README.md"]
    contents = [path.read_bytes() for path in lost]
    for path in lost:
        path.unlink()
    lost[0].with_name(f".{lost[0].name}.partial").write_bytes(b"cut")
    prepare_sample_views(sample, **SMALL)
    assert [path.read_bytes() for path in lost] == contents
    after = written(sample)
    assert after.keys() == before.keys()
    changed = {name for name, time in after.items() if before[name] != time}
    assert changed == {str(path.relative_to(sample)) for path in lost}


def test_other_settings_are_kept_out_of_the_folder(sample):
    before = written(sample)
    with pytest.raises(ValueError, match=r"was prepared with the settings .*'seed': 0"):
        prepare_sample_views(sample, seed=1, **SMALL)
    assert written(sample) == before


def test_files_of_the_user_are_not_overwritten(tmp_path):
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(ValueError, match=r"holds other files \(README.md"):
        prepare_sample_views(tmp_path, **SMALL)
    assert list(written(tmp_path)) == ["README.md"]


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
        prepare_sample_views(tmp_path / "sample", **settings)
    assert not (tmp_path / "sample").exists()


def test_mistyped_commands_are_explained(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([str(tmp_path / "new"), "--num_radiographs", "0"])
    assert stopped.value.code == 2
    assert "sample_views: error: num_radiographs is 0" in capsys.readouterr().err


def test_the_recipe_trains_a_classifier_of_the_views(sample, tmp_path):
    recipe = read_recipe(RECIPE, FinetuningSettings) | {
        "dataset": str(sample),
        "output": str(tmp_path / "run"),
        "model_size": "tiny",
        "processor": {"image_size": {"height": 32, "width": 32}},
        "max_steps": 2,
        "validate_every": 1,
        "score_before": False,
        "figures": False,
    }
    outcome = run_finetuning(FinetuningSettings(**recipe))
    assert outcome.result.finished and outcome.result.step == 2
    assert 0 <= outcome.numbers["after"]["accuracy"] <= 1
