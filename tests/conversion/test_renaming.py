import pytest
import torch

from official_checkpoints import constant_network
from unimiss_hf import MiTConfig, MiTForPreTraining
from unimiss_hf.conversion import convert_state_dict


@pytest.mark.parametrize("size", ["tiny", "small"])
@pytest.mark.parametrize(
    "prefix", ["", "backbone.", "module.", "module.backbone.", "module.module._orig_mod.backbone."]
)
def test_every_official_weight_finds_its_place(size, prefix):
    with torch.device("meta"):
        model = MiTForPreTraining(getattr(MiTConfig, size)(num_prototypes=256))
    outer = prefix.removesuffix("backbone.")
    converted = convert_state_dict(constant_network(size, backbone=prefix, head=outer))
    assert {name: tensor.shape for name, tensor in converted.items()} == {
        name: tensor.shape for name, tensor in model.state_dict().items()
    }


def test_prototypes_of_torchs_newer_weight_norm_are_found():
    weights = constant_network("tiny")
    newer = {"weight_g": "original0", "weight_v": "original1"}
    for old, new in newer.items():
        (name,) = [name for name in weights if name.endswith(f"head.last_layer.{old}")]
        weights[name.replace(old, f"parametrizations.weight.{new}")] = weights.pop(name)
    assert "projection_head.prototypes.weight" in convert_state_dict(weights)


def test_tensors_are_passed_on_and_not_copied():
    weights = constant_network("tiny", head=None)
    converted = convert_state_dict(weights)
    assert {id(tensor) for tensor in converted.values()} == {id(t) for t in weights.values()}


def test_unknown_keys_are_named():
    weights = constant_network("tiny", head=None)
    with pytest.raises(ValueError, match=r"2 of 201 keys .*: extra\.weight, transformer\.invented"):
        convert_state_dict(
            weights | {"extra.weight": torch.zeros(1), "transformer.invented": torch.zeros(1)}
        )


@pytest.mark.parametrize(("norm", "told"), [(1.5, "0.5"), (float("nan"), "nan")])
def test_prototypes_of_another_norm_are_refused(norm, told):
    norms = torch.ones(256, 1)
    norms[3] = norm
    with pytest.raises(ValueError, match=rf"weight_g.* {told} away from 1"):
        convert_state_dict({"module.head.last_layer.weight_g": norms})


@pytest.mark.parametrize("norms", [[1.0], torch.ones(256, 1, device="meta")])
def test_prototype_norms_without_values_are_refused(norms):
    with pytest.raises(ValueError, match="weight_g has no values"):
        convert_state_dict({"head.last_layer.weight_g": norms})


def test_two_names_for_one_weight_are_refused():
    weights = {"norm.weight": torch.zeros(48), "backbone.norm.weight": torch.zeros(48)}
    with pytest.raises(
        ValueError, match=r"decoder\.norm\.weight, which is already taken by norm\.weight"
    ):
        convert_state_dict(weights)
