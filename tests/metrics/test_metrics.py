import re
import sys
from pathlib import Path

import evaluate
import numpy as np
import pytest
import torch

import unimiss_hf.metrics
from unimiss_hf.metrics import METRICS, load_metric
from unimiss_hf.metrics.classification_scores import classification_scores
from unimiss_hf.metrics.segmentation_scores import segmentation_scores, summarise_segmentation

OF_CLASSES, OF_SEGMENTATIONS = METRICS[:5], METRICS[5:]
NAMES = ["covid", "normal", "pneumonia"]
ORGANS = ["background", "liver", "spleen"]

pytestmark = pytest.mark.usefixtures("evaluate_cache")


@pytest.fixture
def exclusive():
    random = np.random.default_rng(0)
    scores = random.random((30, 3))
    return scores / scores.sum(axis=1, keepdims=True), random.integers(0, 3, 30)


@pytest.fixture
def volumes():
    """Label maps of two cases, of different shapes, and their references."""
    random = np.random.default_rng(1)
    coarse = [random.integers(0, 3, shape) for shape in ((2, 3, 4), (3, 2, 2))]
    references = [each.repeat(3, 0).repeat(4, 1).repeat(5, 2) for each in coarse]
    return [np.roll(each, 1, axis=2) for each in references], references


def judged(predictions, references, spacings, names=ORGANS):
    cases = enumerate(zip(predictions, references, spacings, strict=True))
    return summarise_segmentation(
        {
            f"case {index}": segmentation_scores(*pair, names, spacing, case="")
            for index, (*pair, spacing) in cases
        }
    )


def test_each_metric_is_a_folder_of_its_own():
    package = Path(unimiss_hf.metrics.__file__).parent
    assert sorted(METRICS) == sorted(each.parent.name for each in package.glob("*/*.py"))
    for name in METRICS:
        assert (package / name / f"{name}.py").is_file()


@pytest.mark.parametrize("name", METRICS)
def test_evaluate_loads_it_and_says_what_it_takes(name, evaluate_cache):
    metric = load_metric(name)
    assert isinstance(metric, evaluate.Metric)
    assert metric.name.replace("_", "") == name.replace("_", "")
    assert len(metric.description) > 40
    assert "predictions:" in metric.inputs_description
    assert evaluate_cache in Path(metric.data_dir).parents


@pytest.mark.parametrize("name", OF_CLASSES)
def test_classification_agrees_with_the_function(name, exclusive):
    scores, targets = exclusive
    metric = load_metric(name)
    wanted = classification_scores(
        scores, targets, "single_label_classification", NAMES, metrics=[name]
    )
    kinds = (np.asarray, np.ndarray.tolist, torch.from_numpy)
    for kind in kinds:
        found = metric.compute(
            predictions=kind(scores), references=kind(targets), class_names=NAMES
        )
        assert found == wanted
    for start in range(0, 30, 10):
        batch = slice(start, start + 10)
        metric.add_batch(predictions=scores[batch], references=targets[batch])
    assert metric.compute(class_names=NAMES) == wanted


@pytest.mark.parametrize("name", OF_CLASSES)
def test_a_list_for_each_case_says_that_classes_overlap(name, exclusive):
    scores, targets = exclusive
    several = (targets[:, None] == np.arange(3)).astype(int)
    found = load_metric(name).compute(predictions=scores, references=several)
    wanted = classification_scores(
        scores, several, "multi_label_classification", ["0", "1", "2"], metrics=[name]
    )
    assert found == wanted


def test_settings_reach_the_function(exclusive):
    given = dict(zip(("predictions", "references"), exclusive, strict=True))
    found = load_metric("auroc").compute(**given, bootstrap=50, seed=3)
    assert found["bootstrap"]["resamples"] == 50
    found = load_metric("sensitivity_at_specificity").compute(**given, specificity=0.5)
    assert found["sensitivity_at_specificity"]["specificity"] == 0.5
    one_class = load_metric("auroc").compute(
        predictions=[[0.5, 0.5]] * 2, references=[0, 0], undefined="omit"
    )
    assert one_class["auroc"] is None
    multi = {"predictions": [[0.4], [0.2]], "references": [[1], [0]]}
    for name in ("f1", "accuracy"):
        assert load_metric(name).compute(**multi, threshold=0.3)[name] == 1


@pytest.mark.parametrize("name", OF_SEGMENTATIONS)
def test_segmentation_agrees_with_the_function(name, volumes):
    predictions, references = volumes
    spacings = [(3.0, 1.0, 0.5), (1.0, 1.0, 2.0)]
    wanted = judged(predictions, references, spacings)
    metric = load_metric(name)
    found = metric.compute(
        predictions=predictions, references=references, class_names=ORGANS, spacing=spacings
    )
    assert found[name] == wanted[name]["mean"]
    assert found["per_class"] == wanted[name]["per_class"]
    assert found["present"] == {"liver": 2, "spleen": 2}
    metric.add(prediction=torch.from_numpy(predictions[0]), reference=references[0].tolist())
    metric.add_batch(predictions=predictions[1:], references=references[1:])
    assert metric.compute(class_names=ORGANS, spacing=spacings) == found


def test_classes_without_names_are_numbered(volumes):
    predictions, references = volumes
    references[0][0, 0] = 255
    found = load_metric("dice").compute(predictions=predictions, references=references)
    assert list(found["per_class"]) == ["1", "2"]
    masks = [references[1] == 1, references[1] == 2]
    found = load_metric("dice").compute(predictions=[masks], references=[masks], multi_label=True)
    assert {name: row["mean"] for name, row in found["per_class"].items()} == {"0": 1, "1": 1}
    empty = np.zeros((1, 4, 4), int)
    found = load_metric("dice").compute(predictions=empty, references=empty)
    assert found["never_present"] == ["1"]
    assert found["dice"] is None


def test_one_spacing_serves_all_cases_and_cases_may_be_named(volumes):
    predictions, references = volumes
    found = load_metric("surface_dice").compute(
        predictions=predictions,
        references=references,
        spacing=(2.0, 1.0, 1.0),
        tolerance_mm=1.0,
        case_names=["p1", "p2"],
        class_names=[*ORGANS, "rib"],
    )
    assert found["per_class"]["rib"]["undefined"] == ["p1", "p2"]
    assert found["never_present"] == ["rib"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "surface_dice is measured in mm. Give the spacing"),
        ({"spacing": [(1.0, 1.0, 1.0)]}, "2 cases, but 1 spacings"),
        ({"spacing": (1.0, 1.0)}, "case 0: spacing has 2 lengths; the segmentation has 3 axes"),
        ({"spacing": (1.0,) * 3, "case_names": ["p1", "p1"]}, "2 case_names, all different"),
        ({"spacing": (1.0,) * 3, "class_names": ORGANS[:2]}, r"case 0: .*labels \[2\]"),
    ],
)
def test_segmentation_refuses_settings(volumes, settings, message):
    predictions, references = volumes
    metric = load_metric("surface_dice")
    with pytest.raises(ValueError, match=message):
        metric.compute(predictions=predictions, references=references, **settings)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (([[[0.0, 1.0]]], [[[0, 1]]]), r"predictions is float64 of shape \(1, 2\); wanted a label"),
        (([[[0, 1]]], [[0, 1]]), r"references is int64 of shape \(2,\); wanted a label map"),
        (([[[0, 1]]], None), "There are no references. Give both"),
        (([[[0, 1]]] * 2, [[[0, 1]]]), "Mismatch in the number of predictions"),
    ],
)
def test_segmentation_refuses_what_is_no_label_map(given, message):
    predictions, references = given
    with pytest.raises(ValueError, match=message):
        load_metric("dice").compute(predictions=predictions, references=references)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (([[0.5, 0.5], [1.0]], [0, 1]), r"a score for each class of every case; got \[1, 2\]"),
        (([[0.5, 0.5], [0.1, 0.9]], [0, 1.5]), "case 1: its target 1.5 is none of the 2"),
        (([[0.5, 0.5], [0.1, 0.9]], [0, 0]), "class 0: all of the 2 cases are positive"),
        (([0, 1], [0, 1]), "don't match the expected format"),
    ],
)
def test_classification_refuses(given, message):
    predictions, references = given
    with pytest.raises(ValueError, match=message):
        load_metric("auroc").compute(predictions=predictions, references=references)


def test_nothing_that_was_added_is_left_in_files(volumes, tmp_path):
    predictions, references = volumes
    metric = load_metric("dice", cache_dir=str(tmp_path))
    with pytest.raises(ValueError, match="none of the 2 classes"):
        metric.compute(predictions=predictions, references=references, class_names=ORGANS[:2])
    assert not [each for each in tmp_path.rglob("*") if each.is_file()]
    # The metric is as good as new.
    found = metric.compute(predictions=references, references=references)
    assert (found["dice"], found["cases"]) == (1, 2)


def test_what_is_added_may_lie_in_files(volumes, tmp_path):
    metric = load_metric("dice", cache_dir=str(tmp_path), keep_in_memory=False)
    metric.add_batch(predictions=volumes[0], references=volumes[0])
    assert list(tmp_path.rglob("*.arrow"))
    assert metric.compute()["dice"] == 1
    assert not list(tmp_path.rglob("*.arrow"))


def test_an_unknown_name_is_told_with_its_nearest():
    with pytest.raises(ValueError, match=r"no metric 'hausdorff'.*Did you mean hausdorff95"):
        load_metric("hausdorff")


def test_a_script_that_hides_the_library_is_named(tmp_path, monkeypatch):
    (tmp_path / "evaluate.py").write_text("")
    monkeypatch.delitem(sys.modules, "evaluate")
    monkeypatch.syspath_prepend(tmp_path)
    place = re.escape(str(tmp_path / "evaluate.py"))
    with pytest.raises(ImportError, match=f"the library evaluate, but {place} .* or rename it"):
        load_metric("dice")
