import pytest
import torch

from official_checkpoints import constant_network
from unimiss_hf import MiTConfig, MiTForPreTraining
from unimiss_hf.conversion.matching import match_weights

NORM = "transformer.block3.0.norm2.weight"
HEAD_OUTPUT = "head.mlp.4.bias"


@pytest.mark.parametrize(("size", "depths"), [("tiny", [1, 1, 1, 1]), ("small", [2, 3, 4, 3])])
def test_the_size_and_every_weight(size, depths):
    matched = match_weights(
        constant_network(size, 0.5, backbone="module.backbone.", head="module.")
    )
    assert matched.size == size
    assert matched.config.depths == depths
    assert matched.missing == matched.unexpected == ()
    assert matched.converted == {}
    with torch.device("meta"):
        model = MiTForPreTraining(matched.config)
    assert {name: weight.shape for name, weight in matched.weights.items()} == {
        name: weight.shape for name, weight in model.state_dict().items()
    }
    assert all((weight == 0.5).all() for weight in matched.weights.values())


def test_the_heads_sizes_are_read_from_its_weights():
    weights = constant_network("tiny", head=None) | {
        "head.mlp.0.weight": torch.zeros(40, 48),
        "head.mlp.0.bias": torch.zeros(40),
        "head.mlp.2.weight": torch.zeros(40, 40),
        "head.mlp.2.bias": torch.zeros(40),
        "head.mlp.4.weight": torch.zeros(24, 40),
        "head.mlp.4.bias": torch.zeros(24),
        "head.last_layer.weight_v": torch.zeros(100, 24),
        "head.last_layer.weight_g": torch.ones(100, 1),
    }
    config = match_weights(weights).config
    assert config.projection_hidden_size == 40
    assert config.projection_size == 24
    assert config.num_prototypes == 100


def test_a_network_without_a_head():
    matched = match_weights(constant_network("tiny", head=None))
    assert len(matched.weights) == 199
    assert len(matched.missing) == 7
    assert all(name.startswith("projection_head.") for name in matched.missing)
    assert matched.config.num_prototypes == MiTConfig().num_prototypes


def test_a_head_that_is_not_complete():
    weights = constant_network("tiny")
    del weights[HEAD_OUTPUT]
    matched = match_weights(weights)
    assert matched.missing == ("projection_head.mlp.4.bias",)
    assert matched.config.num_prototypes == 256


def test_a_head_that_does_not_fit_together():
    weights = constant_network("tiny") | {HEAD_OUTPUT: torch.zeros(255)}
    with pytest.raises(ValueError, match=r"head\.mlp\.4\.bias \(255,\) instead of \(256,\)"):
        match_weights(weights)


def test_entries_without_a_place_are_reported():
    weights = constant_network("tiny") | {"seg_head.weight": torch.zeros(1), "steps": 3}
    assert match_weights(weights).unexpected == ("seg_head.weight", "steps")


def test_weights_of_the_backbone_that_are_missing_are_named():
    weights = constant_network("tiny")
    for name in [name for name in weights if name.startswith("Decblock2.0.")]:
        del weights[name]
    weights["extra"] = torch.zeros(1)
    with pytest.raises(ValueError) as refusal:
        match_weights(weights)
    message = str(refusal.value)
    assert "188 of 206 weights matched; 18 missing: decoder.stages.2.layers.0." in message
    assert "(8 more); 0 of another shape; 1 unexpected: extra." in message


def test_a_weight_of_another_shape_is_named():
    weights = constant_network("tiny") | {NORM: torch.zeros(255)}
    with pytest.raises(ValueError, match=rf"205 of 206 .*{NORM} \(255,\) instead of \(256,\)"):
        match_weights(weights)


def test_other_native_sizes_are_refused_with_their_shapes():
    weights = constant_network("tiny")
    weights["transformer.pos_embed2D1"] = torch.zeros(1, 1025, 48)
    weights["DecPosEmbed3D2"] = torch.zeros(1, 9217, 48)
    with pytest.raises(
        ValueError, match="another native size than 224x224 and 16x96x96"
    ) as refusal:
        match_weights(weights)
    assert "transformer.pos_embed2D1 (1, 1025, 48) instead of (1, 3137, 48)" in str(refusal.value)
    assert "DecPosEmbed3D2 (1, 9217, 48) instead of (1, 4609, 48)" in str(refusal.value)


def test_other_sizes_are_refused_by_what_was_found():
    deeper = constant_network("tiny") | {"transformer.block3.5.norm1.weight": torch.zeros(256)}
    with pytest.raises(ValueError, match=r"has \[1, 1, 6, 1\] blocks .* tiny has \[1, 1, 1, 1\]"):
        match_weights(deeper)
    wider = constant_network("small") | {"transformer.block1.0.norm1.weight": torch.zeros(64)}
    with pytest.raises(ValueError, match=r"widths \[64, 128, 256, 512\], which is no known size"):
        match_weights(wider)


@pytest.mark.parametrize("name", ["transformer.ConvBlock2D0.0.conv.weight", "recon_conv3D.weight"])
def test_unimiss_plus_is_refused_by_name(name):
    with pytest.raises(ValueError, match=rf"weights of UniMiSS\+ \(backbone\.{name}\)"):
        match_weights({f"backbone.{name}": torch.zeros(1)})


def test_another_network_is_refused():
    with pytest.raises(ValueError, match=r"none of its 2 keys .*: conv1\.weight, norm\.weight"):
        match_weights({"conv1.weight": torch.zeros(1), "norm.weight": torch.zeros(48)})


def test_other_floating_types_become_float32():
    weights = constant_network("tiny", 0.5)
    names = iter(list(weights))
    for dtype, count in ((torch.float16, 3), (torch.bfloat16, 2), (torch.float64, 1)):
        for name in [next(names) for _ in range(count)]:
            weights[name] = weights[name].to(dtype)
    matched = match_weights(weights)
    assert matched.converted == {"float16": 3, "bfloat16": 2, "float64": 1}
    assert {weight.dtype for weight in matched.weights.values()} == {torch.float32}
    assert all((weight == 0.5).all() for weight in matched.weights.values())


@pytest.mark.parametrize(
    ("weight", "told"),
    [
        (torch.ones(256, dtype=torch.int64), "is int64"),
        (torch.ones(256, dtype=torch.complex64), "is complex64"),
        (torch.ones(256).to_sparse(), r"is float32 \(torch\.sparse_coo\)"),
        (torch.ones(256, device="meta"), "is without values"),
        (torch.ones(256).tolist(), "is a list"),
    ],
)
def test_weights_that_are_no_floating_point_tensors_are_refused(weight, told):
    with pytest.raises(ValueError, match=rf"{NORM} {told}"):
        match_weights(constant_network("tiny") | {NORM: weight})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_weights_that_are_not_finite_are_refused(value):
    weight = torch.ones(256, dtype=torch.float64)
    weight[7] = value
    with pytest.raises(ValueError, match=rf"1 of the 256 values of {NORM} are not finite"):
        match_weights(constant_network("tiny") | {NORM: weight})


def test_weights_are_copied():
    weight = torch.ones(256)
    matched = match_weights(constant_network("tiny") | {NORM: weight})
    weight.zero_()
    assert (matched.weights["encoder.stages.2.layers.0.mlp_norm.weight"] == 1).all()
