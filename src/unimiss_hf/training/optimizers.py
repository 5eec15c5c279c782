"""Which parameters are decayed, and the schedules' hold on an optimizer."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


def parameter_groups(
    model: nn.Module, weight_decay: float, factor_of: Callable[[str], float] | None = None
) -> list[dict[str, Any]]:
    """Split a model's trainable parameters into those that are decayed and those that are not.

    Biases and parameters of one axis or none (norms' scales) are not decayed. Whatever has more
    axes is, position embeddings and class tokens included, as in DINO (Caron et al., 2021).

    Args:
        model: Its parameters with `requires_grad` are taken, shared ones once.
        weight_decay: Of the groups that are decayed; the others have 0.
        factor_of: Gives, by a parameter's name, the factor of its learning rate; 1 by default.

    Returns:
        Two groups for an optimizer, the decayed one first, for each factor, in the order of the
        model; `"names"` lists the parameters' names, `"decayed"` and `"factor"` are what
        [`set_hyperparameters`] goes by.

    Raises:
        ValueError: If nothing is trainable.
    """
    groups: dict[float, tuple[dict[str, nn.Parameter], dict[str, nn.Parameter]]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_bias = name.rpartition(".")[2] == "bias"
            factor = 1.0 if factor_of is None else factor_of(name)
            decayed, others = groups.setdefault(factor, ({}, {}))
            group = decayed if parameter.ndim > 1 and not is_bias else others
            group[name] = parameter
    if not groups:
        raise ValueError(
            f"No parameter of {type(model).__name__} is trainable: all have requires_grad=False."
        )
    return [
        {
            "params": list(group.values()),
            "names": list(group),
            "decayed": index == 0,
            "factor": factor,
            "weight_decay": weight_decay if index == 0 else 0.0,
        }
        for factor, pair in groups.items()
        for index, group in enumerate(pair)
    ]


def set_hyperparameters(optimizer: torch.optim.Optimizer, lr: float, weight_decay: float) -> None:
    """Set the learning rate of all groups, times their factors, and the decayed ones' decay.

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
        scaled = lr * group.get("factor", 1.0)
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(scaled)
        else:
            group["lr"] = scaled
        group["weight_decay"] = weight_decay if group["decayed"] else 0.0
