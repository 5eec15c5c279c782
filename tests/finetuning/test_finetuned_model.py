"""The model of a task: which weights are new, which are trained, and how fast."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel

from small_pyramid import SMALLEST_PYRAMID
from unimiss_hf import (
    MiTConfig,
    MiTForImageClassification,
    MiTForSemanticSegmentation,
    MiTImageProcessor,
)
from unimiss_hf.data.labelled.case import LabelledData
from unimiss_hf.finetuning.model import (
    learning_rate_factors,
    open_model,
    open_processor,
)
from unimiss_hf.training.optimizers import parameter_groups, set_hyperparameters

CHESTS = LabelledData(("normal", "pneumonia", "covid"), ())
ORGANS = LabelledData(("background", "liver", "tumour"), ())
SHADOWS = LabelledData(("lungs", "heart"), (), "multi_label_classification")
HEADS = {"classification": ("norm.", "classifier."), "segmentation": ("segmenter.", "auxiliary_")}
TASKS = pytest.mark.parametrize(
    ("task", "data"), [("classification", CHESTS), ("segmentation", ORGANS)]
)


def is_head(name, task):
    return name.startswith(HEADS[task])


@TASKS
def test_the_head_alone_is_new(settings, checkpoint, task, data):
    opened = open_model(settings(), data, task)
    names = [name for name, _ in opened.model.named_parameters()]
    assert opened.new_weights == sorted(name for name in names if is_head(name, task))
    saved = load_file(checkpoint / "model.safetensors")
    for name, tensor in opened.model.state_dict().items():
        if not is_head(name, task):
            assert torch.equal(tensor, saved[name]), name
    assert opened.model.training
    assert opened.model.config.id2label == dict(enumerate(data.class_names))


def test_the_kind_of_problem_is_in_the_config(settings):
    assert open_model(settings(), ORGANS, "segmentation").model.config.problem_type is None
    shadows = open_model(settings(), SHADOWS, "segmentation").model
    assert shadows.is_multi_label and shadows.config.deep_supervision
    values = LabelledData(("age",), (), "regression")
    assert open_model(settings(), values, "classification").model.config.problem_type == (
        "regression"
    )


def test_settings_of_regularisation_reach_the_model(settings):
    run = settings(drop_path_rate=0.3, dropout=0.4, gradient_checkpointing=True)
    model = open_model(run, CHESTS, "classification").model
    assert model.config.drop_path_rate == 0.3
    assert any(isinstance(m, torch.nn.Dropout) and m.p == 0.4 for m in model.modules())
    assert model.is_activation_checkpointing


def test_classes_of_another_fine_tuned_model_are_replaced(settings, checkpoint, tmp_path):
    first = open_model(settings(), CHESTS, "classification").model
    first.save_pretrained(tmp_path / "chests")
    MiTImageProcessor().save_pretrained(tmp_path / "chests")
    two = LabelledData(("benign", "malignant"), ())
    opened = open_model(settings(model=str(tmp_path / "chests")), two, "classification")
    assert opened.new_weights == ["classifier.bias", "classifier.weight"]
    assert opened.model.config.label2id == {"benign": 0, "malignant": 1}
    assert torch.equal(opened.model.norm.weight, first.norm.weight)
    again = open_model(settings(model=str(tmp_path / "chests")), CHESTS, "classification")
    assert again.new_weights == []
    assert torch.equal(again.model.classifier.weight, first.classifier.weight)


def change_weights(checkpoint, target, change):
    shutil.copytree(checkpoint, target)
    weights = load_file(target / "model.safetensors")
    save_file(change(weights), target / "model.safetensors", {"format": "pt"})
    return str(target)


def test_a_checkpoint_without_some_of_the_encoder_is_refused(settings, checkpoint, tmp_path):
    name = "encoder.stages.1.layers.0.mlp.up_projection.weight"
    torn = change_weights(
        checkpoint, tmp_path / "torn", lambda w: {k: v for k, v in w.items() if k != name}
    )
    told = f"lacks 1 of the weights .*: {name}. Fine-tuning would begin with random ones"
    with pytest.raises(ValueError, match=told):
        open_model(settings(model=torn), CHESTS, "classification")


def test_a_checkpoint_with_other_shapes_is_refused(settings, checkpoint, tmp_path):
    name = "encoder.stages.1.layers.0.mlp.up_projection.weight"
    other = change_weights(
        checkpoint, tmp_path / "other", lambda w: w | {name: w[name][:, :2].clone()}
    )
    with pytest.raises(ValueError, match=f"lacks 1 of .*other shapes: {name}"):
        open_model(settings(model=other), ORGANS, "segmentation")


def test_a_classifier_has_no_decoder_to_segment_with(settings, tmp_path):
    open_model(settings(), CHESTS, "classification").model.save_pretrained(tmp_path / "chests")
    told = r"lacks \d+ of the weights that a pretrained checkpoint .*: decoder\..*, …\. Fine"
    with pytest.raises(ValueError, match=told):
        open_model(settings(model=str(tmp_path / "chests")), ORGANS, "segmentation")


def test_no_model_is_named(settings):
    with pytest.raises(ValueError, match=r"There is no model to start from\. Give --model"):
        open_model(settings(model=None), CHESTS, "classification")


def test_a_checkpoint_that_is_not_there(settings, tmp_path):
    missing = settings(model=str(tmp_path / "missing"))
    for opening in (open_processor, lambda run: open_model(run, CHESTS, "classification")):
        with pytest.raises(FileNotFoundError, match=r"There is no folder .*missing with a model"):
            opening(missing)


def test_another_kind_of_model_is_refused(settings, tmp_path):
    config = BertConfig(
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
        vocab_size=10,
        max_position_embeddings=8,
    )
    BertModel(config).save_pretrained(tmp_path / "bert")
    for opening in (open_processor, lambda run: open_model(run, CHESTS, "classification")):
        with pytest.raises(ValueError, match=r"bert is a 'bert' model; wanted 'unimiss_mit'"):
            opening(settings(model=str(tmp_path / "bert")))


def test_random_weights_as_a_baseline(settings):
    opened = open_model(settings(model=None, model_size="tiny"), CHESTS, "classification")
    assert opened.new_weights == [name for name, _ in opened.model.named_parameters()]
    assert opened.model.config.hidden_sizes == MiTConfig.tiny().hidden_sizes


@TASKS
@pytest.mark.parametrize("what", ["none", "encoder", "backbone"])
def test_what_is_frozen_stays_in_a_step(settings, task, data, what):
    model = open_model(settings(freeze=what, patch_size=None), data, task).model
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    wanted = {
        "none": set(before),
        "encoder": {name for name in before if not name.startswith("encoder.")},
        "backbone": {name for name in before if is_head(name, task)},
    }
    assert trained == wanted[what]
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.05))
    set_hyperparameters(optimizer, 0.1, 0.05)
    shape = (2,) if task == "classification" else (2, 32, 32)
    labels = torch.randint(0, 3, shape)
    model(pixel_values=torch.rand(2, 1, 32, 32), labels=labels).loss.backward()
    optimizer.step()
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed <= trained
    assert any(is_head(name, task) for name in changed)
    assert any(name.startswith("encoder.") for name in changed) == (what == "none")


def test_factors_of_a_classifier_worked_by_hand():
    """Stem 0, blocks 1 to 5 (of 1, 2, 1 and 1 in four stages), head 6 of 6."""
    model = MiTForImageClassification(MiTConfig(**SMALLEST_PYRAMID, num_labels=3))
    found = learning_rate_factors(model, 0.5)
    assert found.keys() == {name for name, _ in model.named_parameters()}
    layers = {
        "encoder.stem.": 0,
        "encoder.stages.0.layers.0.": 1,
        "encoder.stages.1.layers.0.": 2,
        "encoder.stages.1.layers.1.": 3,
        "encoder.stages.2.layers.0.": 4,
        "encoder.stages.3.layers.0.": 5,
        "norm.": 6,
        "classifier.": 6,
    }
    for prefix, layer in layers.items():
        factors = {factor for name, factor in found.items() if name.startswith(prefix)}
        assert factors == {0.5 ** (6 - layer)}, prefix
    # What is before a stage's first block goes with that block.
    for stage, layer in enumerate((1, 2, 4, 5)):
        factors = {
            factor
            for name, factor in found.items()
            if name.startswith(f"encoder.stages.{stage}.") and ".layers." not in name
        }
        assert factors == {0.5 ** (6 - layer)}, stage


def test_factors_of_a_segmenter_worked_by_hand():
    """Stem 0, blocks 1 to 5, three stages of the decoder 6 to 8, head 9 of 9."""
    model = MiTForSemanticSegmentation(
        MiTConfig(**SMALLEST_PYRAMID, num_labels=3, deep_supervision=True)
    )
    found = learning_rate_factors(model, 0.8)
    for prefix, layer in {
        "encoder.stem.": 0,
        "encoder.stages.3.layers.0.": 5,
        "decoder.stages.0.": 6,
        "decoder.stages.1.": 7,
        "decoder.stages.2.": 8,
        "segmenter.": 9,
        "auxiliary_heads.": 9,
    }.items():
        factors = [factor for name, factor in found.items() if name.startswith(prefix)]
        assert factors and factors == pytest.approx([0.8 ** (9 - layer)] * len(factors)), prefix


def test_without_decay_all_layers_are_as_fast():
    model = MiTForImageClassification(MiTConfig(**SMALLEST_PYRAMID))
    assert set(learning_rate_factors(model, 1.0).values()) == {1.0}


def test_the_processor_is_the_checkpoint_s_but_for_what_is_replaced(settings, checkpoint):
    saved = MiTImageProcessor.from_pretrained(checkpoint)
    names = MiTImageProcessor.valid_kwargs.__annotations__
    same, changed = (open_processor(settings(processor=p)) for p in (None, {"window": "lung"}))
    assert all(getattr(same, name) == getattr(saved, name) for name in names)
    differing = [name for name in names if getattr(changed, name) != getattr(saved, name)]
    assert differing == ["window"] and changed.window == "lung"
    with pytest.raises(TypeError, match="spaceing"):
        open_processor(settings(processor={"spaceing": None}))
