import copy

import pytest
import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from unimiss_hf.training.sharding import (
    is_split,
    load_whole_optimizer_state,
    load_whole_state_dict,
    mean_like,
    own_part,
    split_like,
    whole,
    whole_optimizer_state,
    whole_state_dict,
)


@pytest.fixture
def mesh(tmp_path):
    """A mesh of one process; `tests/pretraining/test_parallelism.py` has two."""
    distributed.init_process_group("gloo", f"file://{tmp_path}/meeting", rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    distributed.destroy_process_group()


def split_model(mesh) -> nn.Module:
    model = nn.Linear(3, 2)
    for name, parameter in list(model.named_parameters()):
        setattr(model, name, nn.Parameter(distribute_tensor(parameter.detach(), mesh, [Shard(0)])))
    return model


def stepped(model: nn.Module) -> torch.optim.Optimizer:
    """An optimizer that has moved the weight, but not the bias, which has no gradient."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model.weight.grad = torch.ones_like(model.weight)
    optimizer.step()
    return optimizer


def test_ordinary_tensors_are_left_as_they_are():
    tensor, like = torch.rand(2, 3), torch.rand(2, 3)
    assert own_part(tensor) is whole(tensor) is tensor
    assert split_like(tensor, like) is mean_like(tensor, like) is tensor
    model = nn.Linear(3, 2)
    assert not is_split(model)
    weights = whole_state_dict(model)
    assert weights["weight"].data_ptr() == model.weight.data_ptr()


def test_a_tensor_is_split_and_whole_again(mesh):
    tensor = torch.rand(2, 3)
    split = split_like(tensor, distribute_tensor(torch.zeros(2, 3), mesh, [Shard(0)]))
    assert isinstance(split, DTensor)
    assert torch.equal(whole(split), tensor)
    own_part(split).mul_(2)
    assert torch.equal(whole(split), 2 * tensor)
    mean = mean_like(tensor, split)
    assert mean.placements == split.placements
    assert torch.equal(whole(mean), tensor)


def test_whole_state_goes_from_split_parameters_to_whole_ones_and_back(mesh):
    split = split_model(mesh)
    assert is_split(split)
    optimizer = stepped(split)
    weights, state = whole_state_dict(split), whole_optimizer_state(optimizer)
    tensors = [*weights.values(), *state["state"][0].values()]
    assert not any(isinstance(tensor, DTensor) for tensor in tensors)
    assert list(state["state"]) == [0]

    for other in (nn.Linear(3, 2), split_model(mesh)):
        load_whole_state_dict(other, weights)
        other_optimizer = torch.optim.AdamW(other.parameters(), lr=0.1)
        load_whole_optimizer_state(other_optimizer, copy.deepcopy(state))
        other.weight.grad = torch.ones_like(other.weight)
        other_optimizer.step()
        twice = split_model(mesh)
        load_whole_state_dict(twice, weights)
        assert not torch.equal(whole(other.weight), whole(twice.weight))
        again = whole_optimizer_state(other_optimizer)
        assert again["state"][0]["step"] == 2
        torch.testing.assert_close(again["state"][0]["exp_avg"], torch.full((2, 3), 0.19))


def test_a_process_that_wants_nothing_gets_nothing(mesh):
    split = split_model(mesh)
    assert whole_state_dict(split, keep=False) == {}
    assert whole_optimizer_state(stepped(split), keep=False) == {}


def test_weights_that_do_not_fit_are_refused(mesh):
    with pytest.raises(RuntimeError, match="size mismatch for weight"):
        load_whole_state_dict(split_model(mesh), nn.Linear(4, 2).state_dict())
    with pytest.raises(RuntimeError, match="Missing key"):
        load_whole_state_dict(split_model(mesh), {"weight": torch.zeros(2, 3)})
