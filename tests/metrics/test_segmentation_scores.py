import itertools

import numpy as np
import pytest
import torch

from unimiss_hf.metrics.segmentation_scores import segmentation_scores
from unimiss_hf.metrics.surfaces import edge_distances, surface_dice

NAMES = ["background", "liver", "spleen", "rib"]
SPACING = (3.0, 0.8, 1.2)
METRICS = ("dice", "surface_dice", "hausdorff95", "average_surface_distance")


def maps(shape=(8, 20, 18)):
    """A prediction and a reference of three structures, far from the borders and at them."""
    prediction, reference = np.zeros((2, *shape), np.int64)
    reference[1:5, 2:10, 3:12], prediction[2:5, 3:11, 3:12] = 1, 1
    reference[4:, 12:, 12:], prediction[5:, 11:, 13:] = 2, 2
    reference[6:, :4, :4], prediction[6:, 1:3, :6] = 3, 3
    return prediction, reference


def test_each_class_is_judged_by_its_own_masks():
    prediction, reference = maps()
    scores = segmentation_scores(prediction, reference, NAMES, SPACING, case="p1", tolerance_mm=1.0)
    assert list(scores) == NAMES[1:]
    for number, row in zip((1, 2, 3), scores.values(), strict=True):
        masks = prediction == number, reference == number
        shared, sizes = (masks[0] & masks[1]).sum(), [mask.sum() for mask in masks]
        assert [row["predicted_voxels"], row["reference_voxels"]] == sizes
        assert row["dice"] == pytest.approx(2 * shared / sum(sizes))
        # Of the whole volume, which the scores are not computed on.
        assert row["surface_dice"] == surface_dice(*masks, SPACING, 1.0)
        distances = row["hausdorff95"], row["average_surface_distance"]
        assert distances == edge_distances(*masks, SPACING)


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16, np.int32, ">i2"])
def test_any_integers_give_the_same(kind):
    wanted = segmentation_scores(*maps(), NAMES, SPACING, case="p1")
    given = [labels.astype(kind) for labels in maps()]
    assert segmentation_scores(*given, NAMES, SPACING, case="p1") == wanted
    tensors = [torch.from_numpy(labels) for labels in maps()]
    assert segmentation_scores(*tensors, NAMES, SPACING, case="p1") == wanted


def test_masks_give_what_the_map_gives():
    names = NAMES[1:]
    masks = [np.stack([labels == number for number in (1, 2, 3)]) for labels in maps()]
    wanted = segmentation_scores(*maps(), NAMES, SPACING, case="p1")
    found = segmentation_scores(*masks, names, SPACING, case="p1", multi_label=True)
    assert found == wanted
    as_numbers = [each.astype(np.uint8) for each in masks]
    found = segmentation_scores(*as_numbers, names, SPACING, case="p1", multi_label=True)
    assert found == wanted


@pytest.mark.parametrize("kind", [np.uint8, np.int64])
def test_stray_voxels_count_as_they_do_in_masks(kind):
    """Two classes of three are strewn over a volume that is large beside them."""
    prediction, reference = (np.pad(labels, ((9, 9), (20, 9), (9, 20))) for labels in maps())
    for number, place in ((1, 0), (1, -1), (3, 5), (1, 7000), (3, -300)):
        prediction.reshape(-1)[place] = number
    reference[-1, -1, 0] = 255
    given = prediction.astype(kind), reference.astype(kind)
    scores = segmentation_scores(*given, NAMES, SPACING, case="p1")
    hot = [np.stack([labels == number for number in (1, 2, 3)]) for labels in given]
    assert scores == segmentation_scores(*hot, NAMES[1:], SPACING, case="p1", multi_label=True)
    for row, *masks in zip(scores.values(), *hot, strict=True):
        assert row["surface_dice"] == pytest.approx(surface_dice(*masks, SPACING, 2.0), rel=1e-12)
        distances = row["hausdorff95"], row["average_surface_distance"]
        assert distances == pytest.approx(edge_distances(*masks, SPACING))


def test_masks_may_overlap():
    prediction, reference = np.zeros((2, 2, 6, 6), bool)
    prediction[:, 1:4, 1:4], reference[0, 1:4, 1:4], reference[1, 1:4, 1:5] = True, True, True
    scores = segmentation_scores(
        prediction, reference, ["lung", "nodule"], (1.0, 1.0), case="p1", multi_label=True
    )
    assert scores["lung"]["dice"] == scores["lung"]["surface_dice"] == 1
    assert scores["nodule"]["dice"] == pytest.approx(18 / 21)


def test_an_image_is_judged_in_pixels():
    prediction, reference = np.zeros((2, 9, 9), np.uint8)
    prediction[3:6, 3:6], reference[3:6, 5:8] = 1, 1
    scores = segmentation_scores(prediction, reference, NAMES[:2], (1.0, 1.0), case="p1")
    assert scores["liver"]["hausdorff95"] == 2


@pytest.mark.parametrize(
    ("predicted", "present", "value"), [(False, False, None), (True, False, 0), (False, True, 0)]
)
def test_the_rule_of_empty_classes(predicted, present, value):
    prediction, reference = np.zeros((2, 4, 6, 6), np.uint8)
    prediction[0, 0, 0] = reference[0, 0, 0] = 1
    prediction[2:, 2:, 2:] = 2 * predicted
    reference[2:, 2:, 2:] = 2 * present
    scores = segmentation_scores(prediction, reference, NAMES[:3], SPACING, case="p1")
    assert scores["liver"]["dice"] == 1
    assert scores["spleen"] == {
        "dice": value,
        "surface_dice": value,
        "hausdorff95": None,
        "average_surface_distance": None,
        "predicted_voxels": 32 * predicted,
        "reference_voxels": 32 * present,
    }


def test_what_is_ignored_is_neither_right_nor_wrong():
    prediction, reference = maps()
    wanted = segmentation_scores(prediction[:, :14], reference[:, :14], NAMES, SPACING, case="p1")
    reference[:, 14:] = 255
    for ignored, index in ((255, 255), (-1, -1)):
        reference[:, 14:] = ignored
        found = segmentation_scores(
            prediction, reference, NAMES, SPACING, case="p1", ignore_index=index
        )
        assert found == wanted


def test_tolerances_may_differ_by_class():
    tolerances = {"liver": 0.5, "spleen": 4.0, "rib": 2.0}
    found = segmentation_scores(*maps(), NAMES, SPACING, case="p1", tolerance_mm=tolerances)
    for name, tolerance in tolerances.items():
        of_all = segmentation_scores(*maps(), NAMES, SPACING, case="p1", tolerance_mm=tolerance)
        assert found[name] == of_all[name]


def test_surfaces_are_compared_as_far_as_asked_for():
    full = segmentation_scores(*maps(), NAMES, SPACING, case="p1")
    for number in range(4):
        for wanted in itertools.combinations(METRICS[1:], number):
            found = segmentation_scores(*maps(), NAMES, SPACING, case="p1", surfaces=wanted)
            left_out = set(METRICS[1:]) - set(wanted)
            kept = {m: v for m, v in full["rib"].items() if m not in left_out}
            assert found["rib"] == kept
    without = segmentation_scores(*maps(), NAMES, SPACING, case="p1", surfaces=False)
    assert list(without["rib"]) == ["dice", "predicted_voxels", "reference_voxels"]


def labels(*values):
    return np.array([values, values])


@pytest.mark.parametrize(
    ("prediction", "reference", "settings", "message"),
    [
        (labels(0, 1), labels(0, 1, 1), {}, r"prediction's shape is \(2, 2\), the .* \(2, 3\)"),
        (
            labels(0, 9),
            labels(0, 1),
            {},
            r"prediction has 2 voxels with the labels \[9\].*4 classes",
        ),
        (labels(0, 1), labels(0, -3), {}, r"reference has 2 voxels with the labels \[-3\]"),
        (labels(0.0, 1.0), labels(0, 1), {}, "prediction is float64; wanted a label map of int"),
        (np.array([0, 1]), np.array([0, 1]), {}, r"Wanted segmentations \(\[depth,\] height, wi"),
        (np.empty((0, 3), int), np.empty((0, 3), int), {}, r"got shape \(0, 3\)"),
        (labels(0, 1), labels(0, 1), {"spacing": (1.0,) * 3}, "3 lengths; the segmentation has 2"),
        (labels(0, 1), labels(0, 1), {"spacing": (0.0, 1.0)}, "spacing must be positive mm"),
        (labels(0, 1), labels(0, 1), {"ignore_index": 2}, "ignore_index 2 is one of the 4 classes"),
        (
            labels(0, 1),
            labels(0, 1),
            {"tolerance_mm": -1},
            "tolerance_mm of liver must be mm, 0 or",
        ),
        (labels(0, 1), labels(0, 1), {"tolerance_mm": {"liwer": 1}}, "'liwer'.*Did you mean liver"),
        (
            labels(0, 1),
            labels(0, 1),
            {"tolerance_mm": {"liver": 1}},
            "lacks the classes spleen, rib",
        ),
        (
            labels(0, 1),
            labels(0, 1),
            {"multi_label": True},
            r"Wanted .*\(classes, \[depth,\] height",
        ),
    ],
)
def test_names_the_case_and_what_is_wrong(prediction, reference, settings, message):
    settings = {"spacing": (1.0, 1.0), "case": "patient 7", **settings}
    with pytest.raises(ValueError, match=f"patient 7: .*{message}"):
        segmentation_scores(prediction, reference, NAMES, **settings)


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (np.zeros((2, 5, 5), bool), "There are 2 masks; wanted one for each of 4"),
        (
            np.full((4, 5, 5), 2),
            "The prediction of a multi-label segmentation must be masks of 0 and 1",
        ),
    ],
)
def test_refuses_masks(masks, message):
    with pytest.raises(ValueError, match=f"p1: {message}"):
        segmentation_scores(masks, masks, NAMES, (1.0, 1.0), case="p1", multi_label=True)


def test_refuses_names_of_classes_and_metrics():
    with pytest.raises(ValueError, match="Wanted 2 classes or more"):
        segmentation_scores(*maps(), ["background"], SPACING, case="p1")
    with pytest.raises(ValueError, match=r"'hausdorff'.*Did you mean hausdorff95"):
        segmentation_scores(*maps(), NAMES, SPACING, case="p1", surfaces=["hausdorff"])
