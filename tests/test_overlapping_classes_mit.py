"""Segmentation where a pixel or voxel may have several classes, or none."""

import copy

import pytest
import torch
from transformers import AutoModelForSemanticSegmentation

from unimiss_hf import MiTForSemanticSegmentation
from unimiss_hf.segmentation_loss_mit import deep_supervision_loss, dice_binary_cross_entropy

INPUTS = [
    torch.rand(shape, generator=torch.Generator().manual_seed(0))
    for shape in ((2, 3, 40, 66), (2, 1, 5, 33, 40))
]
both_dimensions = pytest.mark.parametrize("pixel_values", INPUTS, ids=["2d", "3d"])


@pytest.fixture
def make_multi_label(small_config):
    def make_multi_label(num_labels=2, **changes):
        config = copy.deepcopy(small_config)
        config.problem_type = "multi_label_classification"
        for name, value in ({"num_labels": num_labels} | changes).items():
            setattr(config, name, value)
        return MiTForSemanticSegmentation(config).eval()

    return make_multi_label


def overlapping(pixel_values):
    """Masks of two classes: what is bright, and a box that lies across it."""
    smooth = pixel_values.mean(1).sub(0.5).cumsum(-1).cumsum(-2)
    box = torch.zeros_like(smooth)
    box[..., 8:28, 10:30] = 1
    return torch.stack(((smooth > 0).float(), box), dim=1)


@both_dimensions
@pytest.mark.parametrize("num_labels", [1, 2])
def test_overlapping_classes_have_losses_at_all_resolutions(
    make_multi_label, pixel_values, num_labels
):
    model, masks = make_multi_label(num_labels), overlapping(pixel_values)[:, :num_labels]
    with torch.no_grad():
        evaluated = model(pixel_values, labels=masks, output_hidden_states=True)
        assert evaluated.logits.shape == masks.shape
        torch.testing.assert_close(
            evaluated.loss, dice_binary_cross_entropy(evaluated.logits, masks)
        )
        maps, heads = reversed(evaluated.hidden_states[-3:]), reversed(model.auxiliary_heads)
        auxiliary = [head(m) for head, m in zip(heads, maps, strict=True)]
        torch.testing.assert_close(
            model.train()(pixel_values, labels=masks).loss,
            deep_supervision_loss([evaluated.logits, *auxiliary], masks, None),
        )


@pytest.mark.parametrize("size", [(35, 40), (4, 35, 40)], ids=["2d", "3d"])
def test_learns_two_boxes_that_overlap(make_multi_label, size):
    pixel_values = torch.rand(2, 1, *size) * 0.1
    masks = torch.zeros(2, 2, *size)
    for image, mask, (top, left) in zip(pixel_values, masks, ((3, 15), (10, 3)), strict=True):
        for number in range(2):
            down, right = top + 5 * number, left + 6 * number
            place = (..., slice(down, down + 13), slice(right, right + 13))
            image[place] += 0.3 + 0.3 * number
            mask[number][place] = 1
    model = make_multi_label().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    for _ in range(100 if len(size) == 2 else 60):
        optimizer.zero_grad()
        model(pixel_values, labels=masks).loss.backward()
        optimizer.step()
    with torch.no_grad():
        predicted = (model.eval()(pixel_values).logits > 0).float()
    for number in range(2):
        found, wanted = predicted[:, number], masks[:, number]
        assert 2 * (found * wanted).sum() / (found + wanted).sum() > 0.9
    both = masks.amin(1)
    assert (predicted.amin(1) * both).sum() / both.sum() > 0.8


@pytest.mark.parametrize(
    ("labels", "named"),
    [
        (torch.zeros(2, 5, 33, 40, dtype=torch.long), r"\(2, 5, 33, 40\).*\(2, 2, 5, 33, 40\)"),
        (torch.zeros(2, 2, 5, 33, 40, dtype=torch.long), "type torch.int64"),
        (torch.full((2, 2, 5, 33, 40), 255.0), "hold .255.0.*No value is ignored"),
    ],
    ids=["class map", "type", "ignored"],
)
def test_refuses_other_masks_than_one_for_each_class(make_multi_label, labels, named):
    with pytest.raises(ValueError, match=named):
        make_multi_label()(INPUTS[1], labels=labels)


def test_any_number_of_overlapping_classes_is_taken(make_multi_label):
    # no class is the background, and no number is ignored
    for num_labels in (1, 300):
        model = make_multi_label(num_labels)
        assert model.is_multi_label
        assert model.config.num_labels == num_labels
    with pytest.raises(ValueError, match="num_labels is 0; at least 1"):
        make_multi_label(0)


def test_overlapping_classes_survive_saving(make_multi_label, tmp_path):
    model = make_multi_label(id2label={0: "heart", 1: "lungs"})
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSemanticSegmentation.from_pretrained(tmp_path)
    assert loaded.is_multi_label
    assert loaded.config.id2label == {0: "heart", 1: "lungs"}
    with torch.no_grad():
        assert torch.equal(loaded(INPUTS[1]).logits, model(INPUTS[1]).logits)
