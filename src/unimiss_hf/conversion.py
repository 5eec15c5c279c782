"""Official UniMiSS state dicts, renamed to ours."""

import re
from collections.abc import Mapping

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
)
_PROTOTYPE_NORMS = "head.last_layer.weight_g"


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
    converted: dict[str, torch.Tensor] = {}
    unknown = []
    for official_name, tensor in state_dict.items():
        name = official_name.removeprefix("module.").removeprefix("backbone.")
        if name == _PROTOTYPE_NORMS:
            _check_prototype_norms(official_name, tensor)
            continue
        new_name = _rename(name)
        if new_name is None:
            unknown.append(official_name)
        elif new_name in converted:
            raise ValueError(f"{official_name} becomes {new_name}, which is already taken.")
        else:
            converted[new_name] = tensor
    if unknown:
        shown = ", ".join(unknown[:10]) + (", …" if len(unknown) > 10 else "")
        raise ValueError(
            f"{len(unknown)} of {len(state_dict)} keys are not those of the official UniMiSS "
            f"network: {shown}. Official UniMiSS tiny and small checkpoints are taken."
        )
    return converted


def _rename(name: str) -> str | None:
    new_name = name
    for pattern, replacement in _RENAMES:
        new_name = re.sub(pattern, replacement, new_name)
    if not new_name.startswith(("encoder.", "decoder.", "projection_head.")):
        return None
    # `<n>` marks a stage counted from 1; ours are counted from 0
    return re.sub(r"<(\d)>", lambda match: str(int(match[1]) - 1), new_name)


def _check_prototype_norms(name: str, norms: torch.Tensor) -> None:
    furthest = (norms - 1).abs().max().item()
    if furthest > 1e-6:
        raise ValueError(
            f"{name} holds a prototype norm that is {furthest:.3g} away from 1. UniMiSS fixes the "
            "norms at 1 (norm_last_layer), and MiTForPreTraining knows no other."
        )
