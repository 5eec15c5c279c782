"""Scores of whole cases, on the grids of their own files, in mm."""

import json
import shutil

import nibabel
import numpy as np
import pytest
from accelerate import Accelerator
from PIL import Image

from finetuning_miniatures import PROCESSOR, SPACING, VOLUME
from layout_miniatures import stored
from unimiss_hf import MiTForSemanticSegmentation, MiTImageProcessor
from unimiss_hf.data.labelled.catalog import find_labelled_layout
from unimiss_hf.finetuning import Finetuner
from unimiss_hf.finetuning.prediction import WindowSettings
from unimiss_hf.finetuning.scoring import (
    ScoringSettings,
    native_spacing,
    score_cases,
    segment_case,
)
from unimiss_hf.metrics.segmentation_scores import segmentation_scores

WINDOWS = WindowSettings((4, 32, 32), 0.25)


@pytest.fixture(scope="module")
def model(finished):
    folder = finished[1].result.model
    return MiTForSemanticSegmentation.from_pretrained(folder).eval()


def processor_of(**settings):
    return MiTImageProcessor(**PROCESSOR | settings)


def labelled_by(model, processor, root, target, change=lambda labels: labels):
    """A copy of a data set whose test labels are the model's own, stored as their images are."""
    root = shutil.copytree(root, target)
    data = find_labelled_layout(root).read(root)
    cases = [case for case in data.cases if case.split == "test"]
    for case in cases:
        predicted = segment_case(model, processor, data, case, WINDOWS).predicted
        codes = nibabel.aff2axcodes(nibabel.load(case.files[0]).affine)
        image = stored(change(predicted).astype(np.uint8), "".join(codes), SPACING)
        nibabel.save(image, case.label_files[0])
    return data, cases


def score(model, processor, data, cases, is_segmentation=True, **settings):
    return score_cases(
        model,
        processor,
        data,
        cases,
        is_segmentation,
        ScoringSettings(WINDOWS, **settings),
        Accelerator(),
    )


@pytest.mark.parametrize("spacing", [None, [3.0, 2.0, 2.0]])
def test_a_reference_that_is_the_prediction_is_matched_perfectly(model, organs, tmp_path, spacing):
    processor = processor_of(spacing=spacing)
    data, cases = labelled_by(model, processor, organs, tmp_path / "own")
    assert {nibabel.aff2axcodes(nibabel.load(c.files[0]).affine) for c in cases} == {
        ("L", "P", "S"),
        ("R", "A", "S"),
    }
    scores = score(model, processor, data, cases)
    judged = [row for row in scores.rows if row["reference_voxels"]]
    assert len(judged) >= 2
    for row in judged:
        assert (row["dice"], row["surface_dice"]) == (1, 1)
        assert (row["hausdorff95"], row["average_surface_distance"]) == (0, 0)
        assert row["predicted_voxels"] == row["reference_voxels"]
    assert scores.summary["cases"] == 2
    assert scores.summary["dice"]["mean"] == 1


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_distances_are_in_mm_of_the_file(model, organs, tmp_path, axis):
    """A reference that is the prediction, moved by a voxel along one axis."""
    processor = processor_of()
    moved = {}

    def move(labels):
        moved["predicted"], moved["reference"] = labels, np.roll(labels, 1, axis)
        return moved["reference"]

    data, cases = labelled_by(model, processor, organs, tmp_path / "own", move)
    scores = score(model, processor, data, cases[-1:], surface_tolerance=1.1)
    wanted = segmentation_scores(
        moved["predicted"],
        moved["reference"],
        data.class_names,
        # (depth, height, width)
        SPACING[::-1],
        case="moved",
        tolerance_mm=1.1,
    )
    for row in scores.rows:
        assert {name: row[name] for name in wanted[row["class"]]} == wanted[row["class"]]
    liver = scores.rows[0]
    assert liver["class"] == "liver" and 0 < liver["dice"] < 1
    # at least all of the voxels that were moved by the voxel's length
    assert liver["hausdorff95"] >= min(SPACING)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "SLA"])
def test_the_spacing_of_a_file_in_the_order_of_its_turned_axes(tmp_path, codes):
    lengths = {"R": 1.25, "L": 1.25, "A": 1.0, "P": 1.0, "S": 3.0, "I": 3.0}
    spacing = [lengths[letter] for letter in codes]
    path = tmp_path / "ct.nii.gz"
    nibabel.save(stored(np.zeros(VOLUME, np.int16), codes, spacing), path)
    for resampled in (None, [3.0, 2.0, 2.0]):
        grid = processor_of(spacing=resampled)(path).grids[0].grid
        assert native_spacing(grid) == pytest.approx((3.0, 1.0, 1.25))


def test_the_spacing_of_a_slice_and_of_a_picture(tmp_path):
    path = tmp_path / "slice.nii.gz"
    nibabel.save(stored(np.zeros((1, 36, 40), np.int16), "LPS", SPACING), path)
    assert native_spacing(processor_of()(path).grids[0].grid) == pytest.approx((1.0, 1.25))
    Image.new("L", (40, 36)).save(tmp_path / "film.png")
    assert native_spacing(processor_of()(tmp_path / "film.png").grids[0].grid) is None


def test_shadows_that_overlap_on_the_pixels_of_their_film(of_shadows, shadows):
    run = of_shadows(max_steps=2)
    result = Finetuner(run).run()
    model = MiTForSemanticSegmentation.from_pretrained(result.model).eval()
    data = find_labelled_layout(shadows).read(shadows)
    cases = [case for case in data.cases if case.split == "test"]
    found = segment_case(model, processor_of(), data, cases[0], WindowSettings((32, 32)))
    # 36 x 40 pixels, though the network sees 32 x 32
    assert found.predicted.shape == found.reference.shape == (5, 36, 40)
    assert found.predicted.dtype == bool
    for mask, path in zip(found.reference, cases[0].label_files, strict=True):
        np.testing.assert_array_equal(mask, np.asarray(Image.open(path)) == 255)
    scores = score_cases(
        model,
        processor_of(),
        data,
        cases,
        True,
        ScoringSettings(WindowSettings((32, 32)), surfaces=False),
        Accelerator(),
    )
    heart = next(row for row in scores.rows if row["class"] == "heart")
    shared = (found.predicted[1] & found.reference[1]).sum()
    both = found.predicted[1].sum() + found.reference[1].sum()
    assert heart["dice"] == pytest.approx(2 * shared / both)
    assert "hausdorff95" not in heart


def test_a_case_that_cannot_be_scored_is_named(model, organs, tmp_path):
    root = shutil.copytree(organs, tmp_path / "own")
    path = root / "labelsTs" / "case_07.nii.gz"
    image = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj)[1:], image.affine), path)
    data = find_labelled_layout(root).read(root)
    cases = [case for case in data.cases if case.split == "test"]
    model.train()
    told = r"imagesTs/case_07 cannot be scored: .*shape \(39, 36, 6\)"
    with pytest.raises(ValueError, match=told):
        score(model, processor_of(), data, cases)
    assert model.training, "the mode is as it was"
    model.eval()


def test_no_cases_to_score(model, organs):
    data = find_labelled_layout(organs).read(organs)
    with pytest.raises(ValueError, match="There are no labelled cases to score"):
        score(model, processor_of(), data, [])


def test_rows_and_summary_can_be_written(model, organs):
    data = find_labelled_layout(organs).read(organs)
    scores = score(model, processor_of(), data, data.cases[:2], surfaces=False)
    json.dumps([scores.summary, scores.rows], allow_nan=False)
    assert [(row["case"], row["class"]) for row in scores.rows] == [
        (case.name, name) for case in data.cases[:2] for name in ("liver", "tumour")
    ]
