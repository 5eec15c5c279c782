"""The model card of a checkpoint of pretraining."""

from pathlib import Path

from huggingface_hub import ModelCard
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from ..hub.card_rendering import render_card
from ..modeling_mit import MiTForPreTraining
from .settings import PretrainingSettings

_HUB_PREFIX = "hf://datasets/"
# What tells runs apart, and nothing of the machine.
_SHOWN = (
    "seed",
    "spacing",
    "image_size",
    "volume_size",
    "batch_size_2d",
    "batch_size_3d",
    "accumulation_2d",
    "accumulation_3d",
    "slice_stride",
    "base_learning_rate",
    "weight_decay",
    "final_weight_decay",
    "teacher_momentum",
    "teacher_temperature",
    "student_temperature",
    "drop_path_rate",
)


def make_card(
    model: MiTForPreTraining, settings: PretrainingSettings, step: int, total_steps: int
) -> ModelCard:
    """Render the card of a checkpoint: what was trained, on what, how far.

    Data sets on the Hub are named; paths of this machine are not, as a card is published.

    Args:
        model: The teacher.
        settings: Settings of the run.
        step: Optimiser steps taken.
        total_steps: Optimiser steps of the whole run.
    """
    names = {
        dimension: _hub_name(settings.of("dataset", dimension)) for dimension in settings.dimensions
    }
    data = {dimension: f"`{name}`" if name else "files" for dimension, name in names.items()}
    on_the_hub = sorted({name for name in names.values() if name})
    head = model.projection_head
    return render_card(
        "pretrained.md",
        {"datasets": on_the_hub} if on_the_hub else {},
        name=settings.push_to_hub or "the/folder/of/this/file",
        step=step,
        total_steps=total_steps,
        data={dimension.upper(): text for dimension, text in data.items()},
        settings={name: getattr(settings, name) for name in _SHOWN},
        training_state=settings.hub_training_state and settings.push_to_hub,
        features=model.config.hidden_sizes[-1],
        encoder_parameters=model.encoder.num_parameters(),
        decoder_parameters=sum(weight.numel() for weight in model.decoder.parameters()),
        head_parameters=sum(weight.numel() for weight in head.parameters()),
        num_prototypes=model.config.num_prototypes,
    )


def _hub_name(spec: list[str]) -> str | None:
    """The name of a data set on the Hub, or `None` for anything else."""
    if len(spec) != 1:
        return None
    name = spec[0].removeprefix(_HUB_PREFIX).rstrip("/")
    if name == spec[0] and Path(name).expanduser().exists():
        return None
    try:
        validate_repo_id(name)
    except HFValidationError:
        return None
    return name
