import json
from pathlib import Path

import pytest
import torch

from unimiss_hf import MiTConfig, MiTForPreTraining
from unimiss_hf.conversion import convert_state_dict

SHAPES = json.loads((Path(__file__).parent / "reference/state_dict_shapes.json").read_text())


def official(size: str, prefix: str = "") -> dict[str, torch.Tensor]:
    return {prefix + name: torch.zeros(shape) for name, shape in SHAPES[f"mit_{size}"].items()}


def head() -> dict[str, torch.Tensor]:
    return {
        name: torch.ones(shape) if name.endswith("weight_g") else torch.zeros(shape)
        for name, shape in SHAPES["head"].items()
    }


@pytest.mark.parametrize("size", ["tiny", "small"])
@pytest.mark.parametrize("prefix", ["", "backbone.", "module.", "module.backbone."])
def test_every_official_weight_finds_its_place(size, prefix):
    with torch.device("meta"):
        model = MiTForPreTraining(getattr(MiTConfig, size)(num_prototypes=256))
    outer = "module." if prefix.startswith("module.") else ""
    converted = convert_state_dict(
        official(size, prefix) | {outer + name: tensor for name, tensor in head().items()}
    )
    assert {name: tensor.shape for name, tensor in converted.items()} == {
        name: tensor.shape for name, tensor in model.state_dict().items()
    }


def test_tensors_are_passed_on_and_not_copied():
    weights = official("tiny")
    converted = convert_state_dict(weights)
    assert {id(tensor) for tensor in converted.values()} == {id(t) for t in weights.values()}


def test_unknown_keys_are_named():
    with pytest.raises(ValueError, match=r"2 of 201 keys .*: extra\.weight, transformer\.invented"):
        convert_state_dict(
            official("tiny")
            | {"extra.weight": torch.zeros(1), "transformer.invented": torch.zeros(1)}
        )


def test_prototypes_of_another_norm_are_refused():
    weights = head()
    weights["head.last_layer.weight_g"][3] = 1.5
    with pytest.raises(ValueError, match=r"weight_g.* 0\.5 away from 1"):
        convert_state_dict(weights)


def test_two_names_for_one_weight_are_refused():
    weights = {"norm.weight": torch.zeros(48), "backbone.norm.weight": torch.zeros(48)}
    with pytest.raises(ValueError, match=r"decoder\.norm\.weight, which is already taken"):
        convert_state_dict(weights)
