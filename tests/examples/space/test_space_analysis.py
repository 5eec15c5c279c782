import dataclasses

import nibabel
import numpy as np
import pytest

from viewer import analysis
from viewer.analysis import analyse
from viewer.looking import find_neighbours, first_view, layers_of, mark_voxel, turned_to
from viewer.models import open_models
from viewer.samples import find_samples, index_samples, offered_samples
from viewer.sessions import Session
from viewer.settings import RANDOM


def test_what_is_known_grows_from_step_to_step(models, xray_path):
    steps = list(analyse(str(xray_path), models))
    assert [step.next_step for step in steps] == [
        "Classifying",
        "Segmenting",
        "Computing features",
        "",
    ]
    assert steps[0].classes is None and steps[0].segmentation is None
    assert sum(steps[1].classes.values()) == pytest.approx(1)
    assert set(steps[1].classes) == {"frontal", "lateral"}
    assert steps[2].segmentation is not None and steps[2].features is None
    assert layers_of(steps[-1]) == ["grey levels", "features", "segments"]


def test_a_dimension_without_models_has_features_alone(models, ct_path):
    encoder_alone = dataclasses.replace(models, segmenters={}, classifiers={})
    *_, last = analyse(str(ct_path), encoder_alone)
    assert last.segmentation is None and last.classes is None
    assert layers_of(last) == ["grey levels", "features"]


def test_what_is_too_large_for_a_model_is_left_out_and_said(models, ct_path, monkeypatch):
    # 96 x 80 x 60 mm are 96 x 80 x 20 voxels of 1 x 1 x 3 mm.
    monkeypatch.setattr(analysis, "LARGEST_PREPARED", 96 * 80 * 20 - 1)
    *_, last = analyse(str(ct_path), models)
    assert last.features is None and last.segmentation is None
    assert len(last.notes) == 2 and all(note.startswith("Too large") for note in last.notes)


def test_a_header_that_looks_wrong_is_said(models, tmp_path):
    voxels = np.random.default_rng(0).integers(-1000, 500, (130, 40, 4)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / "a.nii")
    *_, last = analyse(str(tmp_path / "a.nii"), models)
    assert any("spacing" in note for note in last.notes)


def test_an_encoder_may_have_random_weights(settings):
    alone = dataclasses.replace(
        settings, encoder=RANDOM, segmenter_2d=None, segmenter_3d=None, classifier_2d=None
    )
    models = open_models(alone)
    assert models.is_random and models.names == {"encoder": "random weights"}


def test_a_model_that_cannot_be_opened_is_named(settings, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=f"{tmp_path} cannot be opened"):
        open_models(dataclasses.replace(settings, encoder=str(tmp_path)))


def test_samples_are_found_in_folders_that_are_there(images_folder, tmp_path):
    samples = find_samples([tmp_path / "missing", images_folder])
    assert [(sample.name, sample.dimension) for sample in samples] == [
        ("CT body, 12 slices", 3),
        ("Radiograph chest", 2),
    ]
    assert offered_samples(samples * 5) == [samples[0]] * 2 + [samples[1]] * 2


def test_neighbours_are_looked_for_in_both_dimensions(models, images_folder, tmp_path):
    samples = find_samples([images_folder])
    indices = index_samples(models, samples)
    assert set(indices) == {2, 3}
    for sample, title in ((samples[0], "In 2D"), (samples[1], "In 3D")):
        *_, known = analyse(str(sample.path), models)
        session = Session(tmp_path, known, first_view(known))
        mark_voxel(session, [length // 2 for length in known.image.shape])
        within, other = find_neighbours(session, indices).items()
        assert within[0] == "In this image" and other[0].startswith(title)
        assert all(neighbour.image is known.image for neighbour in within[1])
        assert {neighbour.image.is_volume for neighbour in other[1]} == {sample.dimension == 2}
        without = find_neighbours(session, {})
        assert without[other[0]] == "There are no samples of this dimension."


def test_views_begin_in_the_middle(models, ct_path):
    *_, known = analyse(str(ct_path), dataclasses.replace(models, segmenters={}))
    view = first_view(known)
    assert (view.axis, view.index) == (0, 6)
    assert turned_to(view, 2, known).index == 24


def test_a_voxel_that_is_not_there_cannot_be_marked(models, xray_path, tmp_path):
    first, *_, last = analyse(str(xray_path), models)
    with pytest.raises(ValueError, match="no features of this image yet"):
        mark_voxel(Session(tmp_path, first), (0, 0, 0))
    with pytest.raises(ValueError, match=r"no voxel \(0, 64, 0\)"):
        mark_voxel(Session(tmp_path, last), (0, 64, 0))
