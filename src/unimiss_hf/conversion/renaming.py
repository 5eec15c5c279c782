"""Official UniMiSS state dicts, renamed to ours."""

import re
from collections.abc import Iterable, Mapping, Sequence

import torch

# Applied in turn to a key of the official network, without `module.` and `backbone.`.
_RENAMES: tuple[tuple[str, str], ...] = (
    # the encoder
    (r"^transformer\.patch_embed([23])D0\.conv\.", r"encoder.stem.embedding_\1d.convolution."),
    (r"^transformer\.patch_embed([23])D0\.norm\.", r"encoder.stem.embedding_\1d.norm."),
    (
        r"^transformer\.patch_embed([23])D([1-4])\.proj\.conv\.",
        r"encoder.stages.<\2>.patch_embedding.embedding_\1d.convolution.",
    ),
    (
        r"^transformer\.patch_embed([23])D([1-4])\.proj\.norm\.",
        r"encoder.stages.<\2>.patch_embedding.embedding_\1d.norm.",
    ),
    (
        r"^transformer\.pos_embed([23])D([1-4])$",
        r"encoder.stages.<\2>.position_embedding.table_\1d",
    ),
    (r"^transformer\.cls_tokens1$", r"encoder.stages.0.class_token"),
    (r"^transformer\.cls_tokens([2-4])\.", r"encoder.stages.<\1>.class_token_projection."),
    (r"^transformer\.block([1-4])\.(\d+)\.", r"encoder.stages.<\1>.layers.\2."),
    # the decoder, which the official code counts from 0
    (r"^DecEmbed([23])D([0-2])\.proj\.", r"decoder.stages.\2.upsampling.upsampling_\1d."),
    (r"^DecPosEmbed([23])D([0-2])$", r"decoder.stages.\2.position_embedding.table_\1d"),
    (r"^cls_tokens([0-2])\.", r"decoder.stages.\1.class_token_projection."),
    (r"^Decblock([0-2])\.(\d+)\.", r"decoder.stages.\1.layers.\2."),
    (r"^norm\.", r"decoder.norm."),
    # inside a block
    (r"\.norm1\.", r".attention_norm."),
    (r"\.norm2\.", r".mlp_norm."),
    (r"\.attn\.q\.", r".attention.query."),
    (r"\.attn\.kv\.", r".attention.key_value."),
    (r"\.attn\.proj\.", r".attention.projection."),
    (r"\.attn\.sr([23])D\.", r".attention.reduction.reduction_\1d."),
    (r"\.attn\.norm\.", r".attention.reduction_norm."),
    (r"\.mlp\.fc1\.", r".mlp.up_projection."),
    (r"\.mlp\.fc2\.", r".mlp.down_projection."),
    # the projection head
    (r"^head\.mlp\.", r"projection_head.mlp."),
    (r"^head\.last_layer\.weight_v$", r"projection_head.prototypes.weight"),
    (
        r"^head\.last_layer\.parametrizations\.weight\.original1$",
        r"projection_head.prototypes.weight",
    ),
)
# Under the names of torch's older and newer weight norm.
_PROTOTYPE_NORMS = (
    "head.last_layer.weight_g",
    "head.last_layer.parametrizations.weight.original0",
)
_WRAPPERS = ("module.", "_orig_mod.", "backbone.")


def convert_state_dict(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename the entries of an official UniMiSS state dict to those of [`MiTForPreTraining`].

    Args:
        state_dict: Official keys, of the backbone alone or with `backbone.` and `head.` in front,
            wrapped in `module.` or not. Tensors are passed on as they are, not copied.

    Returns:
        The same tensors under our names. The prototypes' norms, which the method fixes at 1 and our
        model does not store, are left out.

    Raises:
        ValueError: If a key is not one of the official network's, if two keys become one, or if a
            prototype's norm is not 1.
    """
    names, unknown = rename_keys(state_dict)
    check_prototype_norms(state_dict)
    if unknown:
        raise ValueError(
            f"{len(unknown)} of {len(state_dict)} keys are not those of the official UniMiSS "
            f"network: {list_names(unknown)}. Official UniMiSS tiny and small checkpoints are "
            "taken."
        )
    return {ours: state_dict[official] for ours, official in names.items()}


def rename_keys(official_names: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Find our name of each official key.

    Args:
        official_names: Keys as [`convert_state_dict`] takes them, and any others.

    Returns:
        A dictionary from our names to the official ones, and the keys that the official network
        does not have. The prototypes' norms are in neither.

    Raises:
        ValueError: If two keys become one.
    """
    renamed: dict[str, str] = {}
    unknown = []
    for official_name in official_names:
        name = without_wrappers(official_name)
        if name in _PROTOTYPE_NORMS:
            continue
        new_name = _rename(name)
        if new_name is None:
            unknown.append(official_name)
        elif new_name in renamed:
            raise ValueError(
                f"{official_name} becomes {new_name}, which is already taken by "
                f"{renamed[new_name]}. Give a state dict that holds each weight once."
            )
        else:
            renamed[new_name] = official_name
    return renamed, unknown


def check_prototype_norms(state_dict: Mapping[str, torch.Tensor]) -> None:
    """Make sure that leaving out the prototypes' norms changes nothing.

    Raises:
        ValueError: If a norm is not 1.
    """
    for name, norms in state_dict.items():
        if without_wrappers(name) not in _PROTOTYPE_NORMS:
            continue
        if not isinstance(norms, torch.Tensor) or norms.is_meta:
            raise ValueError(f"{name} has no values; the prototypes' norms must be a tensor of 1.")
        distances = (norms - 1).abs()
        # put this way round, a norm that is NaN is refused too
        if not (distances <= 1e-6).all():
            raise ValueError(
                f"{name} holds a prototype norm that is {distances.max().item():.3g} away from 1. "
                "UniMiSS fixes the norms at 1 (norm_last_layer), and MiTForPreTraining knows no "
                "other."
            )


def without_wrappers(official_name: str) -> str:
    """Take off what distributed training, compiling and pretraining put in front of a key."""
    name = official_name
    while name.startswith(_WRAPPERS):
        name = name.partition(".")[2]
    return name


def list_names(names: Sequence[str]) -> str:
    """Write down the first ten names, for a message."""
    return ", ".join(names[:10]) + (f", … ({len(names) - 10} more)" if len(names) > 10 else "")


def _rename(name: str) -> str | None:
    new_name = name
    for pattern, replacement in _RENAMES:
        new_name = re.sub(pattern, replacement, new_name)
    if not new_name.startswith(("encoder.", "decoder.", "projection_head.")):
        return None
    # `<n>` marks a stage counted from 1; ours are counted from 0
    return re.sub(r"<(\d)>", lambda match: str(int(match[1]) - 1), new_name)
