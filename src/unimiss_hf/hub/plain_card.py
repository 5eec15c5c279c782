"""The card of a model that nothing but its configuration is known of."""

from typing import Any

from ..configuration_mit import MiTConfig
from .card_editing import PLACEHOLDER
from .card_rendering import render_card

_TASKS = {
    "MiTForImageClassification": ("classification", "medical-image-classification"),
    "MiTForSemanticSegmentation": ("segmentation", "medical-image-segmentation"),
}


def plain_card(config: MiTConfig) -> str:
    """Render a card that says what a model's configuration says, and that no more is known.

    Args:
        config: The model's, as it is saved: its `architectures` tell the task.

    Returns:
        The text; its examples open a folder, see `card_editing.with_repository`.
    """
    named = (config.architectures or [""])[0]
    task, pipeline_task = _TASKS.get(named, ("feature extraction", "medical-feature-extraction"))
    axes = config.trained_axes if named in _TASKS else None
    metadata: dict[str, Any] = {
        "tags": ["medical-imaging", "unimiss", "unimiss_mit", *([f"{axes}d"] if axes else [])]
    }
    if named in _TASKS:
        metadata["pipeline_tag"] = f"image-{task}"
    return str(
        render_card(
            "plain.md",
            metadata,
            title=f"MiT for {f'{axes}D ' if axes else ''}{task}",
            name=PLACEHOLDER,
            pipeline_task=pipeline_task,
            example="chest.png" if axes == 2 else "ct.nii.gz",
            classes=config.id2label if named in _TASKS else {},
            overlap=config.problem_type == "multi_label_classification",
        )
    )


__all__ = ["plain_card"]
