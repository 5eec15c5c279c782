"""Files in the form of the official trainer's checkpoints."""

import argparse
import json
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

SHAPES = json.loads((Path(__file__).parent / "reference/state_dict_shapes.json").read_text())


def constant_network(
    size: str,
    value: float = 0.0,
    *,
    backbone: str = "",
    head: str | None = "",
    num_prototypes: int = 256,
) -> dict[str, torch.Tensor]:
    """Make a network of one value, which takes no memory.

    `backbone` and `head` are what stands in front of the keys; without a head for `None`.
    """
    shapes = {backbone + name: shape for name, shape in SHAPES[f"mit_{size}"].items()}
    if head is not None:
        for name, shape in SHAPES["head"].items():
            is_last = name.startswith("head.last_layer.")
            shapes[head + name] = [num_prototypes, *shape[1:]] if is_last else shape
    return {
        name: torch.tensor(1.0 if name.endswith("weight_g") else value).expand(shape)
        for name, shape in shapes.items()
    }


def official_checkpoint(
    student: Mapping[str, torch.Tensor], teacher: Mapping[str, torch.Tensor], epoch: int = 200
) -> dict[str, Any]:
    """Put two networks together with the rest of what the official trainer saves."""
    momentum = {"step": 3, "exp_avg": torch.zeros(2), "exp_avg_sq": torch.zeros(2)}
    group = {"params": [0], "lr": np.float64(1e-6), "weight_decay": np.float64(0.4)}
    return {
        "student": OrderedDict(student),
        "teacher": OrderedDict(teacher),
        "optimizer": {"state": {0: momentum}, "param_groups": [group]},
        "epoch": epoch,
        "args": argparse.Namespace(arch="model_tiny", lr=0.0008, img_size3D=[16, 96, 96]),
        "loss": OrderedDict(center=torch.zeros(1, 256)),
    }
