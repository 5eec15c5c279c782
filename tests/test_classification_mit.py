import copy
import math

import pytest
import torch
from transformers import AutoModelForImageClassification

from trainer_steps import step_of_two_batches
from unimiss_hf import MiTBackbone, MiTForImageClassification, MiTForPreTraining, MiTModel

INPUTS = [
    torch.rand(shape, generator=torch.Generator().manual_seed(0))
    for shape in ((4, 3, 40, 66), (4, 1, 5, 33, 40))
]
both_dimensions = pytest.mark.parametrize("pixel_values", INPUTS, ids=["2d", "3d"])
NEW_WEIGHTS = {"norm.weight", "norm.bias", "classifier.weight", "classifier.bias"}


@pytest.fixture
def make(small_config):
    """Make a model with some of its settings changed."""

    def make(**changes) -> MiTForImageClassification:
        config = copy.deepcopy(small_config)
        for name, value in ({"num_labels": 3} | changes).items():
            setattr(config, name, value)
        return MiTForImageClassification(config).eval()

    return make


@both_dimensions
def test_the_encoders_class_token_is_what_is_classified(make, pixel_values):
    model = make()
    with torch.no_grad():
        output = model(pixel_values)
        class_token = model.encoder(pixel_values).pooler_output
        assert output.logits.shape == (4, 3)
        assert torch.equal(output.logits, model.classifier(model.norm(class_token)))
        assert output.loss is None and output.hidden_states is None and output.attentions is None


def test_a_radiograph_of_one_channel_stands_for_three_equal_ones(make):
    model, one = make().double(), torch.rand(2, 1, 40, 48).double()
    torch.testing.assert_close(model(one).logits, model(one.expand(-1, 3, -1, -1)).logits)


@both_dimensions
def test_outputs_that_are_asked_for(make, pixel_values):
    model = make(_attn_implementation="eager")
    output = model(pixel_values, output_hidden_states=True, output_attentions=True)
    expected = model.encoder(pixel_values, output_hidden_states=True, output_attentions=True)
    assert [m.shape for m in output.hidden_states] == [m.shape for m in expected.hidden_states]
    assert len(output.attentions) == len(expected.attentions) == sum(model.config.depths)
    labels = torch.tensor([0, 1, 2, 0])
    loss, logits = model(pixel_values, labels=labels, return_dict=False)
    assert loss.ndim == 0
    assert logits.shape == (4, 3)


def test_attentions_are_refused_by_sdpa(make):
    with pytest.raises(ValueError, match='attn_implementation="eager"'):
        make(_attn_implementation="sdpa")(INPUTS[0], output_attentions=True)


def test_dropout_takes_part_in_training_alone(make):
    model = make(classifier_dropout_prob=0.5)
    with torch.no_grad():
        first, second = (model(INPUTS[0]).logits for _ in range(2))
        assert torch.equal(first, second)
        first, second = (model.train()(INPUTS[0]).logits for _ in range(2))
        assert not torch.equal(first, second)


# ------------------------------------------------------------------------------------ labels


def set_logits(model, logits):
    """Let the model say `logits`, one row for all samples, whatever it sees."""
    with torch.no_grad():
        model.classifier.weight.zero_()
        model.classifier.bias.copy_(torch.tensor(logits))


@both_dimensions
def test_one_class_a_sample(make, pixel_values):
    model = make()
    set_logits(model, [math.log(0.5), math.log(0.25), math.log(0.25)])
    loss = model(pixel_values, labels=torch.tensor([0, 0, 1, 2])).loss
    assert loss.item() == pytest.approx((2 * math.log(2) + 2 * math.log(4)) / 4)
    assert model.config.problem_type == "single_label_classification"


@both_dimensions
def test_several_classes_a_sample(make, pixel_values):
    model = make()
    set_logits(model, [0.0, math.log(3), 0.0])
    labels = torch.tensor([[0.0, 1.0, 1.0]]).expand(4, -1)
    loss = model(pixel_values, labels=labels).loss
    assert loss.item() == pytest.approx((2 * math.log(2) - math.log(0.75)) / 3)
    assert model.config.problem_type == "multi_label_classification"


@both_dimensions
@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_regression_of_one_number(make, pixel_values, shape):
    model = make(num_labels=1)
    set_logits(model, [2.0])
    loss = model(pixel_values, labels=torch.tensor([1.0, 2.0, 3.0, 6.0]).reshape(shape)).loss
    assert loss.item() == pytest.approx((1 + 0 + 1 + 16) / 4)
    assert model.config.problem_type == "regression"


def test_regression_of_several_numbers(make):
    model = make(problem_type="regression")
    set_logits(model, [1.0, 2.0, 3.0])
    labels = torch.tensor([[1.0, 2.0, 0.0]]).expand(4, -1)
    assert model(INPUTS[1], labels=labels).loss.item() == pytest.approx(3.0)


SINGLE, MULTI = "single_label_classification", "multi_label_classification"


@pytest.mark.parametrize(
    ("problem_type", "labels", "named"),
    [
        (
            SINGLE,
            torch.tensor([0, 1, 2]),
            r"shape \(3,\).*int64 labels in \[0, 3\) of shape \(4,\)",
        ),
        (SINGLE, torch.zeros(4, 3, dtype=torch.long), r"shape \(4, 3\).*problem_type"),
        (SINGLE, torch.zeros(4), "type torch.float32"),
        (SINGLE, torch.tensor([0, 1, 2, 3]), r"hold 3;.*\[0, 3\)"),
        (SINGLE, torch.tensor([0, -1, 2, 2]), "hold -1"),
        (MULTI, torch.zeros(4), r"shape \(4,\).*shape \(4, 3\)"),
        (MULTI, torch.zeros(4, 3, dtype=torch.long), "type torch.int64.*floating-point"),
        (MULTI, torch.full((4, 3), 1.5), r"hold 1\.5.*\[0, 1\]"),
        (MULTI, torch.full((4, 3), math.nan), "hold nan"),
        ("regression", torch.zeros(4), r"shape \(4,\).*shape \(4, 3\)"),
        ("regression", torch.full((4, 3), math.inf), "hold inf.*finite"),
        (None, torch.zeros(4, 3, dtype=torch.long), rf"shape \(4, 3\).*{SINGLE}"),
    ],
)
def test_refuses_other_labels_by_name(make, problem_type, labels, named):
    model = make(problem_type=problem_type)
    with pytest.raises(ValueError, match=named):
        model(INPUTS[0], labels=labels)
    assert model.config.problem_type == problem_type


def test_refuses_other_inputs_by_name(make):
    with pytest.raises(ValueError, match=r"\(1, 1, 3, 32, 32\) is smaller .*depth >= 4"):
        make()(torch.rand(1, 1, 3, 32, 32))


# ---------------------------------------------------------------------------------- training


@both_dimensions
def test_a_step_of_the_trainer_lowers_the_loss(make, pixel_values, tmp_path):
    model, labels = make(), torch.tensor([0, 1, 2, 1])
    with torch.no_grad():
        before = model(pixel_values, labels=labels).loss
    training_loss = step_of_two_batches(model, pixel_values, labels, tmp_path)
    # the loss of a step is the mean of its two batches' losses, not their sum
    assert training_loss == pytest.approx(before.item(), rel=1e-4)
    with torch.no_grad():
        assert model.eval()(pixel_values, labels=labels).loss < before


@both_dimensions
def test_each_dimension_trains_its_own_parameters(make, pixel_values):
    model, other = make(), "3d" if pixel_values.ndim == 4 else "2d"
    model(pixel_values, labels=torch.tensor([0, 1, 2, 1])).loss.backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == (f"_{other}" in name), name


@both_dimensions
def test_gradient_checkpointing_changes_no_gradient(make, pixel_values):
    model, gradients = make().train(), []
    for enable in (model.activation_checkpointing_disable, model.activation_checkpointing_enable):
        enable()
        model.zero_grad()
        model(pixel_values, labels=torch.tensor([0, 1, 2, 1])).loss.backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], msg=name)


@both_dimensions
@pytest.mark.parametrize("problem_type", [SINGLE, MULTI, "regression"])
def test_bfloat16_is_near_float32(make, pixel_values, problem_type):
    model = make(problem_type=problem_type)
    labels = torch.tensor([0, 1, 2, 1]) if problem_type == SINGLE else torch.rand(4, 3)
    with torch.no_grad():
        expected = model(pixel_values, labels=labels)
        output = model.to(torch.bfloat16)(pixel_values, labels=labels)
    assert output.logits.dtype == torch.bfloat16
    assert output.loss.dtype == torch.float32
    torch.testing.assert_close(output.logits.float(), expected.logits, rtol=0, atol=0.005)
    torch.testing.assert_close(output.loss, expected.loss, rtol=0, atol=0.02)


# ------------------------------------------------------------------------ saving and loading


@both_dimensions
def test_survives_saving(make, pixel_values, tmp_path):
    model = make(problem_type=MULTI, id2label={0: "nodule", 1: "effusion"})
    model.save_pretrained(tmp_path)
    loaded = AutoModelForImageClassification.from_pretrained(tmp_path)
    assert isinstance(loaded, MiTForImageClassification)
    assert loaded.config.problem_type == MULTI
    assert loaded.config.id2label == {0: "nodule", 1: "effusion"}
    with torch.no_grad():
        assert torch.equal(loaded(pixel_values).logits, model(pixel_values).logits)


def test_a_pretraining_checkpoint_brings_the_encoder(small_config, tmp_path):
    pretrained = MiTForPreTraining(small_config)
    pretrained.save_pretrained(tmp_path)
    model, info = MiTForImageClassification.from_pretrained(
        tmp_path, num_labels=5, output_loading_info=True
    )
    assert set(info["missing_keys"]) == NEW_WEIGHTS
    assert not info["unexpected_keys"] and not info["mismatched_keys"]
    assert model.classifier.out_features == 5
    assert 0.005 < model.classifier.weight.std() < 0.05
    assert (model.norm.weight == 1).all() and (model.norm.bias == 0).all()
    for name, weight in model.encoder.state_dict().items():
        assert torch.equal(weight, pretrained.encoder.state_dict()[name]), name


def test_other_models_open_its_checkpoint(make, tmp_path):
    model = make()
    model.save_pretrained(tmp_path)
    for model_class in (MiTModel, MiTBackbone, MiTForPreTraining):
        opened, info = model_class.from_pretrained(tmp_path, output_loading_info=True)
        assert not info["unexpected_keys"], model_class
        missing = {key.split(".")[0] for key in info["missing_keys"]}
        has_more = model_class is MiTForPreTraining
        assert missing == ({"decoder", "projection_head"} if has_more else set())
        encoder = getattr(opened, "encoder", opened)
        for name, weight in encoder.state_dict().items():
            assert torch.equal(weight, model.encoder.state_dict()[name]), name
