"""The model card of a checkpoint of pretraining."""

from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from ..data.sample_terms import SAMPLE_LICENSE, find_sample_data
from ..hub.card_editing import PLACEHOLDER
from ..hub.card_rendering import FEATURES_ENDPOINT, render_card
from ..hub.compute_record import ComputeRecord
from ..hub.input_description import describe_images, describe_volumes
from ..hub.widget import EXAMPLE, widget_field
from ..image_processing_mit import MiTImageProcessor
from ..modeling_mit import MiTForPreTraining
from .settings import PretrainingSettings
from .training_sources import find_sources

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
    model: MiTForPreTraining,
    settings: PretrainingSettings,
    step: int,
    total_steps: int,
    compute: ComputeRecord | None = None,
) -> ModelCard:
    """Render the card of a checkpoint: what was trained, on what, how far.

    Data sets on the Hub are named, and those that folders are known to hold; paths of this machine
    are not, as a card is published.

    Args:
        model: The teacher.
        settings: Settings of the run.
        step: Optimiser steps taken.
        total_steps: Optimiser steps of the whole run.
        compute: How long it computed, and on what, if that is known.
    """
    specs = {dimension: settings.of("dataset", dimension) for dimension in settings.dimensions}
    names = {dimension: _hub_name(spec) for dimension, spec in specs.items()}
    data = {dimension: f"`{name}`" if name else "files" for dimension, name in names.items()}
    on_the_hub = sorted({name for name in names.values() if name})
    addresses = [address for spec in specs.values() for address in spec]
    is_sample = all(find_sample_data(address) for address in addresses)
    is_new = settings.initial_checkpoint is None
    return render_card(
        "pretrained.md",
        {
            "datasets": on_the_hub or None,
            "license": SAMPLE_LICENSE.identifier if is_sample and is_new else None,
            "widget": widget_field(),
        },
        title="MiT, pretrained with UniMiSS's recipe",
        name=settings.push_to_hub or PLACEHOLDER,
        not_published=False,
        step=step,
        total_steps=total_steps,
        data={dimension.upper(): text for dimension, text in data.items()},
        sources=find_sources(addresses),
        is_sample=is_sample,
        training_state=settings.hub_training_state and settings.push_to_hub,
        compute=compute,
        **values_of(model, settings),
    )


def values_of(model: MiTForPreTraining, settings: PretrainingSettings) -> dict[str, Any]:
    """What the template says of any pretrained network, whether it is trained or is to be."""
    processor = processor_of(settings)
    return {
        "settings": {name: getattr(settings, name) for name in _SHOWN},
        "features": model.config.hidden_sizes[-1],
        "encoder_parameters": model.encoder.num_parameters(),
        "decoder_parameters": sum(weight.numel() for weight in model.decoder.parameters()),
        "head_parameters": sum(weight.numel() for weight in model.projection_head.parameters()),
        "num_prototypes": model.config.num_prototypes,
        "images": describe_images(processor),
        "volumes": describe_volumes(processor),
        "widget": EXAMPLE,
        **FEATURES_ENDPOINT,
    }


def processor_of(settings: PretrainingSettings) -> MiTImageProcessor:
    """The image processor that is published with a run's model."""
    height, width = settings.image_size
    return MiTImageProcessor(
        image_size={"height": height, "width": width},
        grey_window=settings.grey_levels(),
        spacing=list(settings.spacing),
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
