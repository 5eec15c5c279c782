"""The fine-tuned model of predictions, and what makes them what they are."""

import json
from dataclasses import dataclass
from typing import Any, Literal

from transformers import PreTrainedModel

from .. import __version__
from ..classification_mit import MiTForImageClassification
from ..image_processing_mit import MiTImageProcessor
from ..saved_models import (
    choose_device,
    digest_of,
    locate,
    open_config,
    open_processor,
    require_weights,
)
from ..segmentation_mit import MiTForSemanticSegmentation
from .settings import PredictionSettings

_TASKS: dict[str, tuple[Literal["classification", "segmentation"], type[PreTrainedModel]]] = {
    "MiTForImageClassification": ("classification", MiTForImageClassification),
    "MiTForSemanticSegmentation": ("segmentation", MiTForSemanticSegmentation),
}


@dataclass(frozen=True)
class Network:
    """A fine-tuned model in evaluation mode, on its device, and the processor of its inputs.

    Attributes:
        model: The model.
        processor: The processor that is saved with it.
        task: What it does.
    """

    model: PreTrainedModel
    processor: MiTImageProcessor
    task: Literal["classification", "segmentation"]

    @property
    def class_names(self) -> list[str]:
        """The names of the classes in the order of their numbers."""
        labels = self.model.config.id2label
        return [str(labels[number]) for number in range(len(labels))]

    @property
    def is_multi_label(self) -> bool:
        """Whether an input or voxel may have several classes, or none."""
        return self.model.config.problem_type == "multi_label_classification"


def load_network(settings: PredictionSettings) -> Network:
    """Load the fine-tuned model of a folder or a repository on the Hub.

    Raises:
        OSError: If there is no such model, or it comes without a processor.
        ValueError: If it is no MiT, if it has no head for a task, if weights are missing, if there
            is no such device, or if a setting of the processor cannot be had.
        TypeError: If the processor has no such setting.
    """
    device = choose_device(settings.device)
    config = open_config(settings.model)
    saved = list(config.architectures or [])
    known = [_TASKS[name] for name in saved if name in _TASKS]
    if not known:
        raise ValueError(
            f"{settings.model} holds {', '.join(saved) or 'a model of unknown kind'}, which has no "
            f"head for a task; wanted a fine-tuned {' or '.join(_TASKS)}. Fine-tune it first: its "
            "predictions would be random."
        )
    task, model_class = known[0]
    processor = open_processor(settings.model, settings.processor or {})
    # Only training needs auxiliary heads.
    options = {"deep_supervision": False} if task == "segmentation" else {}
    model, report = model_class.from_pretrained(
        locate(settings.model), output_loading_info=True, ignore_mismatched_sizes=True, **options
    )
    wanted = f"the weights of a {model_class.__name__}"
    require_weights(settings.model, wanted, "predictions", report)
    return Network(model.to(device).eval(), processor, task)


def describe_predictions(network: Network, settings: PredictionSettings) -> dict[str, Any]:
    """Return all that predictions depend on, as it is kept beside them.

    Predictions whose descriptions agree may stand side by side, even if the names in them
    (`model`, `package_version`) differ.
    """
    saved = network.processor.to_dict()
    segments = network.task == "segmentation"
    description = {
        "package_version": __version__,
        "model": settings.model,
        "weights": digest_of(network.model),
        "task": network.task,
        "classes": network.class_names,
        "problem_type": network.model.config.problem_type,
        "processor": {name: saved[name] for name in network.processor.valid_kwargs.__annotations__},
        "source_spacing": settings.source_spacing,
        "overlap": settings.overlap if segments else None,
        "mirror": settings.mirror if segments else None,
        "probabilities": settings.probabilities if segments else None,
    }
    # Tuples become the lists that they are read back as.
    return json.loads(json.dumps(description))
