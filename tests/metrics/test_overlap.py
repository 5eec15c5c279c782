import numpy as np
import pytest
import torch
from monai.metrics import compute_dice

from unimiss_hf.metrics.overlap import dice_of_counts, overlap_counts, overlap_counts_of_masks


def test_a_hand_worked_map():
    prediction = torch.tensor([[0, 1, 1], [2, 2, 0]])
    reference = torch.tensor([[0, 1, 2], [2, 2, 255]])
    counts = overlap_counts(prediction, reference, 4)
    assert counts.tolist() == [[1, 1, 1], [1, 2, 1], [2, 2, 3], [0, 0, 0]]
    dice = dice_of_counts(counts)
    assert dice[:3] == pytest.approx([1, 2 / 3, 4 / 5])
    assert np.isnan(dice[3])


@pytest.mark.parametrize("kind", [torch.uint8, torch.int16, torch.int64])
def test_agrees_with_monai(kind):
    random = np.random.default_rng(0)
    maps = torch.from_numpy(random.integers(0, 5, (2, 6, 9, 8))).to(kind)
    dice = dice_of_counts(overlap_counts(*maps, 5))
    hot = [torch.nn.functional.one_hot(each.long(), 5).movedim(-1, 0)[None] for each in maps]
    assert dice == pytest.approx(compute_dice(*hot)[0].numpy())


def test_masks_that_overlap():
    prediction = torch.tensor([[[1, 1], [0, 0]], [[1, 1], [1, 1]], [[0, 0], [0, 0]]]).bool()
    reference = torch.tensor([[[1, 0], [0, 0]], [[0, 1], [1, 1]], [[0, 0], [0, 0]]]).bool()
    counts = overlap_counts_of_masks(prediction, reference)
    assert counts.tolist() == [[1, 2, 1], [3, 4, 3], [0, 0, 0]]


def test_counts_of_parts_add_up():
    random = np.random.default_rng(1)
    prediction, reference = torch.from_numpy(random.integers(0, 3, (2, 8, 5, 5)))
    parts = [
        overlap_counts(prediction[part], reference[part], 3) for part in (slice(5), slice(5, 8))
    ]
    assert torch.equal(sum(parts), overlap_counts(prediction, reference, 3))


def test_dice_of_counts_takes_cases_at_once():
    counts = torch.tensor([[[1, 2, 2], [0, 0, 0]], [[0, 3, 0], [0, 0, 4]]])
    dice = dice_of_counts(counts)
    assert dice[0, 0] == 0.5
    assert dice[1].tolist() == [0, 0]
    assert np.isnan(dice[0, 1])


@pytest.mark.parametrize(
    ("prediction", "reference", "settings", "message"),
    [
        ([[0, 1]], [[0], [1]], {}, r"prediction's shape is \(1, 2\), the reference's \(2, 1\)"),
        (
            [[0, 3]],
            [[0, 1]],
            {},
            r"prediction has 1 voxels with the labels \[3\].*3 classes, 0 to 2",
        ),
        ([[0, 255]], [[0, 255]], {}, r"prediction has 1 voxels with the labels \[255\]"),
        ([[0, 1]], [[-1, 7]], {}, r"reference has 2 voxels with the labels \[-1, 7\]"),
        ([[0, 1]], [[255, 1]], {"ignore_index": None}, r"reference has 1 voxels .*\[255\]"),
        ([[0, 1]], [[0, 1]], {"ignore_index": 1}, "ignore_index 1 is one of the 3 classes"),
        ([[0.0, 1.0]], [[0, 1]], {}, "prediction is torch.float32; wanted a label map of integers"),
    ],
)
def test_refuses(prediction, reference, settings, message):
    with pytest.raises(ValueError, match=message):
        overlap_counts(torch.tensor(prediction), torch.tensor(reference), 3, **settings)


def test_refuses_masks_of_other_shapes():
    with pytest.raises(ValueError, match=r"\(1, 2, 2\), the reference's \(2, 2, 2\)"):
        overlap_counts_of_masks(torch.ones(1, 2, 2).bool(), torch.ones(2, 2, 2).bool())
