"""Tensors whose parts lie in several processes, as FSDP leaves them: parts and wholes.

Every function takes ordinary tensors too, which are whole in each process, and returns them as they
are. Where a whole is made of parts, all processes must call together.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Partial, distribute_tensor


def is_split(model: nn.Module) -> bool:
    """Whether a model's parameters are split over processes."""
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


def own_part(tensor: Tensor) -> Tensor:
    """Return the part that lies in this process, sharing its memory; empty if it has none."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """Return the whole tensor in each process."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def split_like(tensor: Tensor, like: Tensor) -> Tensor:
    """Split a tensor, which is the same whole in each process, as another of its shape is split."""
    if not isinstance(like, DTensor):
        return tensor
    return distribute_tensor(
        tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None
    )


def mean_like(tensor: Tensor, like: Tensor) -> Tensor:
    """Average a whole tensor over processes, and split the mean as another of its shape is split.

    Args:
        tensor: Differs between processes.
        like: How to split it; an ordinary tensor leaves `tensor` as it is.
    """
    if not isinstance(like, DTensor):
        return tensor
    mesh = like.device_mesh
    summands = DTensor.from_local(tensor / mesh.size(), mesh, [Partial()] * mesh.ndim)
    return summands.redistribute(placements=like.placements)


@torch.no_grad()
def whole_state_dict(model: nn.Module, keep: bool = True) -> dict[str, Tensor]:
    """Return a model's weights, each whole; those that were split lie on the CPU.

    Args:
        model: Its parameters may be split.
        keep: Whether this process wants them. One that does not takes part in making them, and
            gets an empty dictionary.
    """
    weights = {}
    for name, tensor in model.state_dict().items():
        tensor_whole = whole(tensor)
        if keep:
            weights[name] = tensor_whole.cpu() if tensor_whole is not tensor else tensor
    return weights


def load_whole_state_dict(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Load whole weights, the same in each process, into a model whose parameters may be split.

    Raises:
        RuntimeError: If weights are missing, are too many, or have other shapes.
    """
    own = model.state_dict()
    model.load_state_dict(
        {
            name: split_like(tensor, own[name])
            if name in own and own[name].shape == tensor.shape
            else tensor
            for name, tensor in weights.items()
        }
    )


@torch.no_grad()
def whole_optimizer_state(optimizer: torch.optim.Optimizer, keep: bool = True) -> dict[str, Any]:
    """Return `optimizer.state_dict()` with whole tensors; see [`whole_state_dict`] for `keep`."""
    state = optimizer.state_dict()
    wholes = {}
    for index, values in state["state"].items():
        of_parameter = {
            name: whole(value) if isinstance(value, Tensor) else value
            for name, value in values.items()
        }
        if keep:
            wholes[index] = {
                name: value.cpu() if value is not values[name] else value
                for name, value in of_parameter.items()
            }
    return {**state, "state": wholes} if keep else {}


def load_whole_optimizer_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load what [`whole_optimizer_state`] returned, for parameters that may be split otherwise."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    optimizer.load_state_dict(
        {
            **state,
            "state": {
                index: {
                    # The number of steps has no axes, and each process its own copy.
                    name: split_like(value, parameters[index])
                    if isinstance(value, Tensor) and value.ndim
                    else value
                    for name, value in values.items()
                }
                for index, values in state["state"].items()
            },
        }
    )
