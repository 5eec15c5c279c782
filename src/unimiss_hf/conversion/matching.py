"""Official weights and the network they fit: its size, and which weights are there."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from ..configuration_mit import MiTConfig
from ..modeling_mit import MiTForPreTraining
from .renaming import check_prototype_norms, list_names, rename_keys, without_wrappers

SIZES: dict[str, Callable[..., MiTConfig]] = {"tiny": MiTConfig.tiny, "small": MiTConfig.small}
HEAD = "projection_head."
_HEAD_SIZES = {
    "projection_hidden_size": f"{HEAD}mlp.0.weight",
    "projection_size": f"{HEAD}mlp.4.weight",
    "num_prototypes": f"{HEAD}prototypes.weight",
}
# What UniMiSS+ has and UniMiSS has not.
_PLUS = ("transformer.ConvBlock", "DeConvBlock", "TransposeConv", "recon_conv")
_TAKEN_TYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


@dataclass(frozen=True)
class MatchedWeights:
    """Weights that fill the whole backbone of a [`MiTForPreTraining`].

    Args:
        size: "tiny" or "small".
        config: Configuration of the network, with the projection head's sizes.
        weights: Our names and tensors in float32, copied.
        missing: Our names of the projection head's weights that there are none for.
        unexpected: Official keys that the network has no place for.
        converted: How many weights were of each other type than float32.
    """

    size: str
    config: MiTConfig
    weights: dict[str, torch.Tensor]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    converted: dict[str, int]


class _Reshaped(NamedTuple):
    """A weight of another shape than the network's."""

    ours: str
    official: str
    found: tuple[int, ...]
    wanted: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.official} {self.found} instead of {self.wanted}"


def match_weights(state_dict: Mapping[str, Any]) -> MatchedWeights:
    """Tell an official network's size from its weights, and match each of them.

    Args:
        state_dict: Official keys and tensors, as [`convert_state_dict`] takes them; other keys are
            reported as unexpected.

    Raises:
        ValueError: If the network is neither UniMiSS tiny nor small, if a weight of its encoder or
            decoder is missing, if a weight has another shape or type than it should, if one is
            not finite, or if a prototype's norm is not 1.
    """
    _refuse_plus(state_dict)
    names, unknown = rename_keys(state_dict)
    found = {ours: state_dict[official] for ours, official in names.items()}
    if not any(name.startswith("encoder.") for name in names):
        raise ValueError(
            f"none of its {len(state_dict)} keys is one of the UniMiSS encoder's: "
            f"{list_names(list(state_dict))}."
        )
    for ours, tensor in found.items():
        if not isinstance(tensor, torch.Tensor):
            raise ValueError(
                f"{names[ours]} is a {type(tensor).__name__}; weights must be tensors."
            )
    shapes = {ours: tuple(tensor.shape) for ours, tensor in found.items()}
    size = _detect_size(shapes)
    head_sizes = {
        field: shapes[name][0]
        for field, name in _HEAD_SIZES.items()
        if len(shapes.get(name, ())) == 2
    }
    config = SIZES[size](**head_sizes)
    with torch.device("meta"):
        network = MiTForPreTraining(config)
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}

    missing = [name for name in wanted if name not in found]
    unexpected = unknown + [official for ours, official in names.items() if ours not in wanted]
    reshaped = [
        _Reshaped(name, names[name], shapes[name], shape)
        for name, shape in wanted.items()
        if shapes.get(name, shape) != shape
    ]
    _refuse_other_grids(reshaped, config)
    missing_backbone = [name for name in missing if not name.startswith(HEAD)]
    if missing_backbone or reshaped:
        raise ValueError(_what_is_wrong(len(wanted), missing, reshaped, unexpected))
    check_prototype_norms(state_dict)
    weights = {
        name: _as_float32(names[name], tensor) for name, tensor in found.items() if name in wanted
    }
    types = Counter(found[name].dtype for name in weights)
    return MatchedWeights(
        size=size,
        config=config,
        weights=weights,
        missing=tuple(missing),
        unexpected=tuple(unexpected),
        converted={
            _type_name(dtype): count for dtype, count in types.items() if dtype != torch.float32
        },
    )


def _refuse_plus(state_dict: Mapping[str, Any]) -> None:
    for name in state_dict:
        if without_wrappers(name).startswith(_PLUS):
            raise ValueError(
                f"these are weights of UniMiSS+ ({name}), whose network MiT+ is another one. "
                "Weights of UniMiSS tiny and small are taken."
            )


def _detect_size(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Tell the size from the encoder's depths and widths."""
    blocks, widths = {}, {}
    for name, shape in shapes.items():
        parts = name.split(".")
        if name.startswith("encoder.stages.") and parts[3] == "layers":
            stage, block = int(parts[2]), int(parts[4])
            blocks[stage] = max(blocks.get(stage, 0), block + 1)
            if block == 0 and name.endswith(".attention_norm.weight"):
                widths[stage] = shape[0] if shape else 0
    stages = range(len(MiTConfig.small().depths))
    depths = [blocks.get(stage, 0) for stage in stages]
    for size, make_config in SIZES.items():
        config = make_config()
        if depths == config.depths and all(
            widths.get(stage, width) == width for stage, width in enumerate(config.hidden_sizes)
        ):
            return size
    known = "; ".join(
        f"{size} has {make_config().depths} and {make_config().hidden_sizes}"
        for size, make_config in SIZES.items()
    )
    raise ValueError(
        f"its encoder has {depths} blocks of the widths {[widths.get(stage) for stage in stages]}, "
        f"which is no known size of UniMiSS: {known}."
    )


def _refuse_other_grids(reshaped: list[_Reshaped], config: MiTConfig) -> None:
    """Refuse position embeddings of other native sizes, if nothing else has another shape."""
    if not reshaped or not all(".position_embedding." in weight.ours for weight in reshaped):
        return
    native = " and ".join(
        "x".join(map(str, size)) for size in (config.image_size, config.volume_size)
    )
    raise ValueError(
        f"its position embeddings are of another native size than {native}: "
        f"{list_names(list(map(str, reshaped)))}. Weights pretrained at these sizes are taken."
    )


def _what_is_wrong(
    total: int, missing: list[str], reshaped: list[_Reshaped], unexpected: list[str]
) -> str:
    found = {
        "missing": missing,
        "of another shape": list(map(str, reshaped)),
        "unexpected": unexpected,
    }
    counts = [
        f"{len(names)} {what}{f': {list_names(names)}' if names else ''}"
        for what, names in found.items()
    ]
    return (
        f"{total - len(missing) - len(reshaped)} of {total} weights matched; {'; '.join(counts)}. "
        "All weights of the encoder and the decoder must match."
    )


def _as_float32(name: str, tensor: torch.Tensor) -> torch.Tensor:
    if tensor.dtype not in _TAKEN_TYPES or tensor.layout != torch.strided or tensor.is_meta:
        kind = "without values" if tensor.is_meta else _type_name(tensor.dtype)
        raise ValueError(f"{name} is {kind} ({tensor.layout}); weights must be floating-point.")
    # a copy: the file may change or go, and weights may share their memory
    converted = tensor.detach().to(torch.float32, copy=True)
    if not converted.isfinite().all():
        bad = converted.numel() - int(converted.isfinite().sum())
        raise ValueError(
            f"{bad} of the {converted.numel()} values of {name} are not finite as float32. The "
            "file is damaged or its training has diverged; take an earlier checkpoint."
        )
    return converted


def _type_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
