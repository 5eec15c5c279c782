"""Which parameters are decayed, and the schedules' hold on an optimizer."""

from typing import Any

import torch
from torch import nn


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Split a model's trainable parameters into those that are decayed and those that are not.

    Biases and parameters of one axis or none (norms' scales) are not decayed. Whatever has more
    axes is, position embeddings and class tokens included, as in DINO (Caron et al., 2021).

    Args:
        model: Its parameters with `requires_grad` are taken, shared ones once.
        weight_decay: Of the first group; the second has 0.

    Returns:
        Two groups for an optimizer, the decayed one first; `"names"` lists the parameters' names,
        `"decayed"` is what [`set_hyperparameters`] goes by.

    Raises:
        ValueError: If nothing is trainable.
    """
    decayed, others = {}, {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_bias = name.rpartition(".")[2] == "bias"
            group = decayed if parameter.ndim > 1 and not is_bias else others
            group[name] = parameter
    if not decayed and not others:
        raise ValueError(
            f"No parameter of {type(model).__name__} is trainable: all have requires_grad=False."
        )
    return [
        {
            "params": list(group.values()),
            "names": list(group),
            "decayed": group is decayed,
            "weight_decay": weight_decay if group is decayed else 0.0,
        }
        for group in (decayed, others)
    ]


def set_hyperparameters(optimizer: torch.optim.Optimizer, lr: float, weight_decay: float) -> None:
    """Set the learning rate of all groups, and the weight decay of the decayed one.

    Args:
        optimizer: Made with [`parameter_groups`].
        lr: Learning rate.
        weight_decay: Weight decay.

    Raises:
        ValueError: If the groups are not from [`parameter_groups`].
    """
    for index, group in enumerate(optimizer.param_groups):
        if "decayed" not in group:
            raise ValueError(
                f"Group {index} of {type(optimizer).__name__} does not say whether it is decayed. "
                "Make the optimizer with the groups that parameter_groups returns."
            )
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr
        group["weight_decay"] = weight_decay if group["decayed"] else 0.0
