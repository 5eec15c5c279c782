import math
import sys

import pytest
import torch

from unimiss_hf.segmentation_loss_mit import (
    check_label_map,
    check_masks,
    deep_supervision_loss,
    dice_binary_cross_entropy,
    dice_cross_entropy,
)


def one_hot_logits(labels, num_labels, sharpness=50.0):
    """Logits that are as good as certain of `labels`, `(batch, *grid)`."""
    return sharpness * torch.nn.functional.one_hot(labels, num_labels).movedim(-1, 1).float()


def test_two_classes_by_hand():
    # the foreground's probability in four pixels, the last of which is ignored
    foreground = torch.tensor([0.9, 0.2, 0.6, 0.99], dtype=torch.float64)
    logits = torch.stack((1 - foreground, foreground)).log().reshape(1, 2, 2, 2)
    labels = torch.tensor([1, 0, 1, 255]).reshape(1, 2, 2)
    dice = 2 * (0.9 + 0.6) / ((0.9 + 0.2 + 0.6) + 2)
    cross_entropy = -(math.log(0.9) + math.log(0.8) + math.log(0.6)) / 3
    loss = dice_cross_entropy(logits, labels, 255)
    assert loss.item() == pytest.approx(1 - dice + cross_entropy, abs=1e-4)


def test_three_classes_in_two_volumes_by_hand():
    # Certain everywhere; wrong in one of four voxels: background called 2. Class 1 is only in the
    # first volume and right: Dice 1. Class 2: one right, one too many, so Dice 2 / 3.
    predicted = torch.tensor([[1, 0], [2, 2]]).reshape(2, 1, 1, 2)
    labels = torch.tensor([[1, 0], [0, 2]]).reshape(2, 1, 1, 2)
    loss = dice_cross_entropy(one_hot_logits(predicted, 3, sharpness=20.0), labels, 255)
    dice, cross_entropy = (1 + 2 / 3) / 2, 20.0 / 4
    assert loss.item() == pytest.approx(1 - dice + cross_entropy, abs=1e-4)


@pytest.mark.parametrize("grid", [(6, 7), (3, 4, 5)], ids=["2d", "3d"])
def test_ignored_voxels_take_no_part(grid):
    logits = torch.randn(2, 4, *grid, requires_grad=True)
    labels = torch.randint(0, 4, (2, *grid))
    ignored = torch.rand(2, *grid) < 0.3
    masked = labels.masked_fill(ignored, 255)
    loss = dice_cross_entropy(logits, masked, 255)
    loss.backward()
    assert (logits.grad.movedim(1, -1)[ignored] == 0).all()
    assert (logits.grad.movedim(1, -1)[~ignored] != 0).all()
    # as if the images had been cut to the voxels that count
    kept = logits.detach().movedim(1, -1)[~ignored].T[None]
    torch.testing.assert_close(loss, dice_cross_entropy(kept, labels[~ignored][None], 255))
    # what is not ignored does take part, under any index
    assert not torch.isclose(loss, dice_cross_entropy(logits, labels, 255))
    renamed = labels.masked_fill(ignored, -100)
    torch.testing.assert_close(loss, dice_cross_entropy(logits, renamed, -100))


def test_nothing_but_ignored_voxels_gives_no_loss_and_no_gradient():
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    loss = dice_cross_entropy(logits, torch.full((1, 4, 4), 255), 255)
    loss.backward()
    assert loss.item() == 0
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("grid", [(33, 47), (5, 34, 40)], ids=["2d", "3d"])
def test_coarser_maps_meet_the_voxels_they_are_centred_on(grid):
    labels = torch.randint(0, 3, (2, *grid))
    logits, halved = [one_hot_logits(labels, 3)], labels
    for _ in range(3):
        # a convolution with kernel 3, stride 2 and padding 1 that only looks at its centre
        halved = halved[(slice(None), *[slice(None, None, 2)] * len(grid))]
        logits.append(one_hot_logits(halved, 3))
    assert deep_supervision_loss(logits, labels, 255).item() == pytest.approx(0, abs=1e-4)
    moved = [logits[0], *(scores.roll(1, dims=-1) for scores in logits[1:])]
    assert deep_supervision_loss(moved, labels, 255) > 1


def test_each_coarser_map_counts_half_as_much():
    labels = torch.randint(0, 3, (2, 16, 16))
    logits = [torch.randn(2, 3, length, length) for length in (16, 8, 4)]
    fine, middle, coarse = (
        dice_cross_entropy(scores, labels[:, ::stride, ::stride], 255)
        for scores, stride in zip(logits, (1, 2, 4), strict=True)
    )
    torch.testing.assert_close(
        deep_supervision_loss(logits, labels, 255), (4 * fine + 2 * middle + coarse) / 7
    )
    torch.testing.assert_close(deep_supervision_loss(logits[:1], labels, 255), fine)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_half_precision_is_summed_in_float32(dtype):
    logits, labels = torch.randn(1, 3, 8, 8).to(dtype), torch.randint(0, 3, (1, 8, 8))
    loss = dice_cross_entropy(logits, labels, 255)
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(loss.float(), dice_cross_entropy(logits.float(), labels, 255))


@pytest.mark.parametrize(
    ("labels", "named"),
    [
        (torch.zeros(2, 8, 9, dtype=torch.long), r"shape \(2, 8, 9\).*of shape \(2, 8, 8\)"),
        (torch.zeros(2, 1, 8, 8, dtype=torch.long), r"shape \(2, 1, 8, 8\)"),
        (torch.zeros(2, 8, 8), r"type torch.float32.*int64"),
        (torch.zeros(2, 8, 8, dtype=torch.uint8), r"type torch.uint8.*int64"),
        (torch.full((2, 8, 8), 3), r"\(2, 8, 8\) hold \[3\].*in \[0, 3\) or 255"),
        (torch.full((2, 8, 8), -1), r"hold \[-1\]"),
    ],
    ids=["size", "channel", "float", "uint8", "class too many", "negative"],
)
def test_refuses_other_label_maps_by_name(labels, named):
    with pytest.raises(ValueError, match=named):
        check_label_map(labels, (2, 8, 8), 3, 255)


def test_takes_every_class_and_the_ignored_label():
    labels = torch.tensor([0, 1, 2, 255]).reshape(1, 2, 2)
    check_label_map(labels, (1, 2, 2), 3, 255)
    check_label_map(labels.masked_fill(labels == 255, -100), (1, 2, 2), 3, -100)


def test_says_what_to_install_where_monai_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "monai.losses", None)
    with pytest.raises(ImportError, match="pip install monai"):
        dice_cross_entropy(torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4, dtype=torch.long), 255)
    with pytest.raises(ImportError, match="pip install monai"):
        dice_binary_cross_entropy(torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 4))


# ------------------------------------------------------------------------ classes that overlap


def test_overlapping_classes_by_hand():
    # two classes in four pixels of two images; the second pixel has both, the third has neither
    probabilities = torch.tensor([[0.9, 0.6, 0.2, 0.3], [0.1, 0.8, 0.4, 0.7]], dtype=torch.float64)
    masks = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 1.0, 0.0, 1.0]])

    def images(values):
        return values.reshape(2, 2, 1, 2).transpose(0, 1)

    heart = 2 * (0.9 + 0.6) / ((0.9 + 0.6 + 0.2 + 0.3) + 2)
    lung = 2 * (0.8 + 0.7) / ((0.1 + 0.8 + 0.4 + 0.7) + 2)
    right = [0.9, 0.6, 0.8, 0.7, 0.9, 0.8, 0.6, 0.7]
    cross_entropy = -sum(math.log(probability) for probability in right) / 8
    loss = dice_binary_cross_entropy(images(probabilities.logit()), images(masks))
    assert loss.item() == pytest.approx(1 - (heart + lung) / 2 + cross_entropy, abs=1e-4)
    assert loss.dtype == torch.float64


def test_one_class_needs_no_background():
    masks = torch.tensor([1.0, 0.0, 1.0, 0.0]).reshape(1, 1, 2, 2)
    right = dice_binary_cross_entropy(40 * (masks - 0.5), masks)
    wrong = dice_binary_cross_entropy(40 * (0.5 - masks), masks)
    assert right.item() == pytest.approx(0, abs=1e-4)
    assert wrong.item() == pytest.approx(21, abs=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_masks_in_half_precision_are_summed_in_float32(dtype):
    logits, masks = torch.randn(1, 3, 8, 8).to(dtype), torch.rand(1, 3, 8, 8).round().to(dtype)
    loss = dice_binary_cross_entropy(logits, masks)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, dice_binary_cross_entropy(logits.float(), masks.float()))


@pytest.mark.parametrize("grid", [(33, 47), (5, 34, 40)], ids=["2d", "3d"])
def test_coarser_maps_meet_the_masks_they_are_centred_on(grid):
    masks = torch.randint(0, 2, (2, 3, *grid)).float()
    logits, halved = [100 * (masks - 0.5)], masks
    for _ in range(3):
        halved = halved[(..., *[slice(None, None, 2)] * len(grid))]
        logits.append(100 * (halved - 0.5))
    assert deep_supervision_loss(logits, masks, None).item() == pytest.approx(0, abs=1e-4)
    moved = [logits[0], *(scores.roll(1, dims=-1) for scores in logits[1:])]
    assert deep_supervision_loss(moved, masks, None) > 1
    coarse = [
        weight
        * dice_binary_cross_entropy(
            scores.roll(1, dims=-1), masks[(..., *[slice(None, None, step)] * len(grid))]
        )
        for scores, weight, step in zip(logits, (0, 4, 2, 1), (1, 2, 4, 8), strict=True)
    ]
    torch.testing.assert_close(deep_supervision_loss(moved, masks, None), sum(coarse) / 15)


@pytest.mark.parametrize(
    ("labels", "named"),
    [
        (
            torch.zeros(2, 8, 8),
            r"shape \(2, 8, 8\).*of shape \(2, 3, 8, 8\), a mask for each class",
        ),
        (torch.zeros(2, 4, 8, 8), r"shape \(2, 4, 8, 8\).*of shape \(2, 3, 8, 8\)"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.long), r"type torch.int64.*floating-point"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.bool), r"type torch.bool.*floating-point"),
        (torch.full((2, 3, 8, 8), 255.0), r"hold \[255.0\].*No value is ignored"),
        (torch.full((2, 3, 8, 8), -0.5), r"hold \[-0.5\]"),
        (torch.full((2, 3, 8, 8), torch.nan), r"hold \[nan"),
    ],
    ids=["class map", "class too many", "int64", "bool", "ignored", "negative", "nan"],
)
def test_refuses_other_masks_by_name(labels, named):
    with pytest.raises(ValueError, match=named):
        check_masks(labels, (2, 3, 8, 8))


def test_takes_masks_and_what_lies_between():
    check_masks(torch.tensor([0.0, 0.25, 1.0, 1.0]).reshape(1, 1, 2, 2), (1, 1, 2, 2))
