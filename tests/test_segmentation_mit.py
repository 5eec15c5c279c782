import copy

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSemanticSegmentation

from trainer_steps import step_of_two_batches
from unimiss_hf import (
    MiTBackbone,
    MiTForImageClassification,
    MiTForPreTraining,
    MiTForSemanticSegmentation,
    MiTModel,
)
from unimiss_hf.segmentation_loss_mit import deep_supervision_loss, dice_cross_entropy

# The smallest sizes, odd ones, non-square ones, shallower and deeper than the native depth.
SIZES = [
    (32, 32),
    (33, 47),
    (50, 130),
    (65, 32),
    (4, 32, 32),
    (5, 33, 35),
    (7, 64, 41),
    (33, 37, 61),
]
INPUTS = [
    torch.rand(shape, generator=torch.Generator().manual_seed(0))
    for shape in ((2, 3, 40, 66), (2, 1, 5, 33, 40))
]
both_dimensions = pytest.mark.parametrize("pixel_values", INPUTS, ids=["2d", "3d"])


@pytest.fixture
def make(small_config):
    """Make a model with some of its settings changed."""

    def make(**changes) -> MiTForSemanticSegmentation:
        config = copy.deepcopy(small_config)
        for name, value in ({"num_labels": 3} | changes).items():
            setattr(config, name, value)
        return MiTForSemanticSegmentation(config).eval()

    return make


def blobs(pixel_values):
    """Label maps that follow the brightness, with an ignored corner."""
    smooth = pixel_values.mean(1).sub(0.5).cumsum(-1).cumsum(-2)
    labels = (smooth > 0).long() + (smooth > 1).long()
    labels[..., :5, :5] = 255
    return labels


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_any_size_goes_forward_and_backward(make, size):
    model = make().train()
    pixel_values = torch.rand(1, 3 if len(size) == 2 else 1, *size)
    output = model(pixel_values, labels=blobs(pixel_values))
    assert output.logits.shape == (1, 3, *size)
    output.loss.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


@both_dimensions
def test_samples_do_not_see_each_other(make, pixel_values):
    model = make()
    with torch.no_grad():
        together = model(pixel_values).logits
        alone = torch.cat([model(sample[None]).logits for sample in pixel_values])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_scores_lie_where_the_head_found_them(make):
    """A head that passes on one position of the stem's map answers at the pixel it is centred on.

    The stem is centred on every second pixel, from the first, as a convolution of kernel 7, stride
    2 and padding 3 is.
    """
    head = make().segmenter
    head.convolution = torch.nn.Identity()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
        head.classifier.weight[1, 0] = 1.0
        stem_map = torch.zeros(1, 4, 5, 9, 11)
        stem_map[0, 0, 2, 3, 7] = 1.0
        scores = head(torch.zeros(1, 8, 3, 5, 6), stem_map, (5, 17, 21))[0, 1]
    assert scores.shape == (5, 17, 21)
    assert scores[2, 6, 14] == scores.max() == 1
    torch.testing.assert_close(scores[2, 5:8, 14], torch.tensor([0.5, 1, 0.5]))
    torch.testing.assert_close(scores[2, 6, 13:16], torch.tensor([0.5, 1, 0.5]))
    assert scores.sum() == pytest.approx(4.0)


def test_the_pixel_behind_the_last_score_has_its_score(make):
    head = make().segmenter
    stem_map = torch.rand(1, 4, 9, 11)
    with torch.no_grad():
        odd, even = (head(torch.zeros(1, 8, 5, 6), stem_map, size) for size in ((17, 21), (18, 22)))
    torch.testing.assert_close(even[..., :17, :21], odd)
    torch.testing.assert_close(even[..., 17, :21], odd[..., 16, :])
    torch.testing.assert_close(even[..., :17, 21], odd[..., :, 20])


def test_a_radiograph_of_one_channel_stands_for_three_equal_ones(make):
    model, one = make().double(), torch.rand(2, 1, 40, 48).double()
    torch.testing.assert_close(model(one).logits, model(one.expand(-1, 3, -1, -1)).logits)


@both_dimensions
def test_outputs_that_are_asked_for(make, pixel_values):
    model = make(_attn_implementation="eager")
    output = model(pixel_values, output_hidden_states=True, output_attentions=True)
    config = model.config
    assert len(output.attentions) == sum(config.depths) + sum(config.decoder_depths)
    stem, *stages = output.hidden_states
    assert [m.shape[1] for m in stages] == [*config.hidden_sizes, *config.decoder_hidden_sizes]
    assert stem.shape[1] == config.stem_channels
    plain = model(pixel_values)
    assert plain.loss is None and plain.hidden_states is None and plain.attentions is None
    loss, logits = model(pixel_values, labels=blobs(pixel_values), return_dict=False)
    assert loss.ndim == 0
    torch.testing.assert_close(logits, plain.logits)


def test_attentions_are_refused_by_sdpa(make):
    with pytest.raises(ValueError, match='attn_implementation="eager"'):
        make(_attn_implementation="sdpa")(INPUTS[0], output_attentions=True)


@both_dimensions
def test_eager_and_sdpa_agree(make, pixel_values):
    eager, sdpa = (make(_attn_implementation=name) for name in ("eager", "sdpa"))
    sdpa.load_state_dict(eager.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(
            eager(pixel_values).logits, sdpa(pixel_values).logits, rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize(
    ("pixel_values", "labels", "named"),
    [
        (torch.rand(1, 3, 31, 64), None, r"\(1, 3, 31, 64\) is smaller .*height >= 32"),
        (
            INPUTS[0],
            torch.zeros(2, 20, 33, dtype=torch.long),
            r"shape \(2, 20, 33\).*of shape \(2, 40, 66\)",
        ),
        (INPUTS[0], torch.zeros(1, 40, 66, dtype=torch.long), r"shape \(1, 40, 66\)"),
        (INPUTS[1], torch.zeros(2, 5, 33, 40), r"type torch\.float32.*\(2, 5, 33, 40\)"),
        (INPUTS[1], torch.full((2, 5, 33, 40), 3), r"hold \[3\].*\[0, 3\) or 254"),
    ],
    ids=["image too small", "labels too small", "batch", "type", "class"],
)
def test_refuses_other_inputs_by_name(make, pixel_values, labels, named):
    with pytest.raises(ValueError, match=named):
        make(semantic_loss_ignore_index=254)(pixel_values, labels=labels)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"num_labels": 1}, "num_labels is 1; the background is a class too"),
        ({"num_labels": 300}, "semantic_loss_ignore_index is 255.* num_labels=300"),
        ({"problem_type": "regression"}, "problem_type is 'regression'; a segmentation's is"),
    ],
)
def test_refuses_settings_that_make_no_sense(make, changes, named):
    with pytest.raises(ValueError, match=named):
        make(**changes)


# ---------------------------------------------------------------------------------- training


@both_dimensions
def test_auxiliary_heads_count_in_training_alone(make, pixel_values):
    model, labels = make(), blobs(pixel_values)
    with torch.no_grad():
        evaluated = model(pixel_values, labels=labels, output_hidden_states=True)
        torch.testing.assert_close(
            evaluated.loss, dice_cross_entropy(evaluated.logits, labels, 255)
        )
        # the decoder's maps come coarsest first, the loss wants the finest first
        maps = reversed(evaluated.hidden_states[-3:])
        heads = reversed(model.auxiliary_heads)
        auxiliary = [head(m) for head, m in zip(heads, maps, strict=True)]
        torch.testing.assert_close(
            model.train()(pixel_values, labels=labels).loss,
            deep_supervision_loss([evaluated.logits, *auxiliary], labels, 255),
        )


@both_dimensions
def test_each_dimension_trains_its_own_parameters(make, pixel_values):
    model, other = make().train(), "3d" if pixel_values.ndim == 4 else "2d"
    model(pixel_values, labels=blobs(pixel_values)).loss.backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == (f"_{other}" in name), name


@both_dimensions
def test_a_step_of_the_trainer_lowers_the_loss(make, pixel_values, tmp_path):
    model, labels = make(deep_supervision=False), blobs(pixel_values)
    with torch.no_grad():
        before = [
            model(sample[None], labels=label[None]).loss.item()
            for sample, label in zip(pixel_values, labels, strict=True)
        ]
    training_loss = step_of_two_batches(model, pixel_values, labels, tmp_path)
    # the loss of a step is the mean of its two batches' losses, not their sum
    assert training_loss == pytest.approx(sum(before) / 2, rel=1e-4)
    with torch.no_grad():
        assert model.eval()(pixel_values, labels=labels).loss < sum(before) / 2


@pytest.mark.parametrize("size", [(35, 40), (4, 35, 40)], ids=["2d", "3d"])
def test_learns_where_a_bright_box_is(make, size):
    pixel_values = torch.rand(2, 1, *size) * 0.1
    labels = torch.zeros(2, *size, dtype=torch.long)
    for image, label, (top, left) in zip(pixel_values, labels, ((4, 20), (15, 3)), strict=True):
        image[..., top : top + 13, left : left + 11] += 0.6
        label[..., top : top + 13, left : left + 11] = 1
    model = make(num_labels=2).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.03)
    for _ in range(40):
        optimizer.zero_grad()
        model(pixel_values, labels=labels).loss.backward()
        optimizer.step()
    with torch.no_grad():
        predicted = model.eval()(pixel_values).logits.argmax(1)
    dice = 2 * (predicted * labels).sum() / (predicted + labels).sum()
    assert dice > 0.9


@both_dimensions
def test_gradient_checkpointing_changes_no_gradient(make, pixel_values):
    model, gradients = make().train(), []
    for enable in (model.activation_checkpointing_disable, model.activation_checkpointing_enable):
        enable()
        model.zero_grad()
        model(pixel_values, labels=blobs(pixel_values)).loss.backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], msg=name)


@both_dimensions
def test_bfloat16_is_near_float32(make, pixel_values):
    model, labels = make().train(), blobs(pixel_values)
    with torch.no_grad():
        expected = model(pixel_values, labels=labels)
        output = model.to(torch.bfloat16)(pixel_values, labels=labels)
    assert output.logits.dtype == torch.bfloat16
    assert output.loss.dtype == torch.float32
    assert (output.logits.float() - expected.logits).abs().mean() < 0.02
    torch.testing.assert_close(output.loss, expected.loss, rtol=0, atol=0.02)


def test_compiles_in_one_graph(make):
    # what was compiled for other sizes would make this one's sizes symbols, and take minutes
    torch.compiler.reset()
    model, pixel_values = make(depths=[1, 1, 1, 1], decoder_depths=[1, 1, 1]), INPUTS[1]
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(pixel_values).logits, model(pixel_values).logits)


# ------------------------------------------------------------------------ saving and loading


@both_dimensions
def test_survives_saving(make, pixel_values, tmp_path):
    model = make(id2label={0: "background", 1: "heart", 2: "aorta"})
    model.save_pretrained(tmp_path)
    loaded, info = AutoModelForSemanticSegmentation.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert isinstance(loaded, MiTForSemanticSegmentation)
    assert not any(info[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert loaded.config.id2label == {0: "background", 1: "heart", 2: "aorta"}
    with torch.no_grad():
        assert torch.equal(loaded(pixel_values).logits, model(pixel_values).logits)


def test_a_pretraining_checkpoint_brings_encoder_and_decoder(small_config, tmp_path):
    pretrained = MiTForPreTraining(small_config)
    pretrained.save_pretrained(tmp_path)
    model, info = MiTForSemanticSegmentation.from_pretrained(
        tmp_path, num_labels=5, output_loading_info=True
    )
    new = {
        name
        for name in model.state_dict()
        if name.startswith("segmenter.") or name.startswith("auxiliary_heads.")
    }
    assert set(info["missing_keys"]) == new
    assert not info["unexpected_keys"] and not info["mismatched_keys"]
    kinds = {name.split(".")[0] for name in model.state_dict()}
    assert kinds == {"encoder", "decoder", "segmenter", "auxiliary_heads"}
    for part in ("encoder", "decoder"):
        expected = getattr(pretrained, part).state_dict()
        for name, weight in getattr(model, part).state_dict().items():
            assert torch.equal(weight, expected[name]), name
    for name in new:
        values = model.get_parameter(name).detach()
        if name.endswith(".bias"):
            assert (values == 0).all(), name
        elif "norm" in name:
            assert (values == 1).all(), name
        else:
            assert 1e-3 < values.std() < 2, name


def test_auxiliary_heads_are_dropped_on_request(make, tmp_path):
    model = make()
    model.save_pretrained(tmp_path / "training")
    served, info = MiTForSemanticSegmentation.from_pretrained(
        tmp_path / "training", deep_supervision=False, output_loading_info=True
    )
    assert not info["missing_keys"] and not info["unexpected_keys"]
    served.save_pretrained(tmp_path / "serving")
    served, info = MiTForSemanticSegmentation.from_pretrained(
        tmp_path / "serving", output_loading_info=True
    )
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert not any(name.startswith("auxiliary_heads") for name in served.state_dict())
    with torch.no_grad():
        assert torch.equal(served(INPUTS[1]).logits, model(INPUTS[1]).logits)
    # training goes on without them
    served.train()(INPUTS[1], labels=blobs(INPUTS[1])).loss.backward()


def test_auxiliary_heads_are_dropped_in_place(make, tmp_path):
    model = make().train()
    with torch.no_grad():
        expected = model(INPUTS[1]).logits
    assert model.drop_auxiliary_heads() is model
    model.save_pretrained(tmp_path)
    saved = {name.split(".")[0] for name in load_file(tmp_path / "model.safetensors")}
    assert saved == {"encoder", "decoder", "segmenter"}
    published, info = MiTForSemanticSegmentation.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert not published.config.deep_supervision
    with torch.no_grad():
        assert torch.equal(published(INPUTS[1]).logits, expected)
    # training goes on without them, and with new ones on request
    model(INPUTS[1], labels=blobs(INPUTS[1])).loss.backward()
    _, info = MiTForSemanticSegmentation.from_pretrained(
        tmp_path, deep_supervision=True, output_loading_info=True
    )
    assert {key.split(".")[0] for key in info["missing_keys"]} == {"auxiliary_heads"}


def test_another_number_of_classes_takes_no_head_along(make, tmp_path):
    trained = make()
    trained.save_pretrained(tmp_path)
    model, info = MiTForSemanticSegmentation.from_pretrained(
        tmp_path, num_labels=5, ignore_mismatched_sizes=True, output_loading_info=True
    )
    scoring = {
        f"{layer}.{kind}"
        for layer in ("segmenter.classifier", *(f"auxiliary_heads.{i}" for i in range(3)))
        for kind in ("weight", "bias")
    }
    assert {name for name, *_ in info["mismatched_keys"]} == scoring
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert all(model.get_parameter(name).isfinite().all() for name in scoring)
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        MiTForSemanticSegmentation.from_pretrained(tmp_path, num_labels=5)


@pytest.mark.parametrize(
    ("model_class", "new"),
    [
        (MiTModel, set()),
        (MiTBackbone, set()),
        (MiTForPreTraining, {"projection_head"}),
        (MiTForImageClassification, {"norm", "classifier"}),
    ],
)
def test_other_models_open_its_checkpoint(make, tmp_path, model_class, new):
    model = make()
    model.save_pretrained(tmp_path)
    opened, info = model_class.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["unexpected_keys"] and not info["mismatched_keys"]
    assert {key.split(".")[0] for key in info["missing_keys"]} == new
    encoder = getattr(opened, "encoder", opened)
    for name, weight in encoder.state_dict().items():
        assert torch.equal(weight, model.encoder.state_dict()[name]), name


def test_opens_a_classifiers_checkpoint(make, tmp_path):
    MiTForImageClassification(make().config).save_pretrained(tmp_path)
    _, info = MiTForSemanticSegmentation.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["unexpected_keys"] and not info["mismatched_keys"]
    new = {key.split(".")[0] for key in info["missing_keys"]}
    assert new == {"decoder", "segmenter", "auxiliary_heads"}


def test_a_decoder_that_does_not_fit_is_reported(small_config, tmp_path):
    small_config.decoder_depths = [2, 1, 2]
    MiTForPreTraining(small_config).save_pretrained(tmp_path)
    _, info = MiTForSemanticSegmentation.from_pretrained(
        tmp_path, decoder_depths=[1, 1, 2], output_loading_info=True
    )
    assert info["unexpected_keys"]
    assert all(key.startswith("decoder.stages.0.layers.1.") for key in info["unexpected_keys"])
