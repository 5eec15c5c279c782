"""UniMiSS for Hugging Face: one network that learns from radiographs and CT volumes together.

Importing the package registers its classes with the Auto classes of transformers.
"""

from transformers import (
    AutoBackbone,
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForPreTraining,
)

from .configuration_mit import MiTConfig
from .image_processing_mit import MiTImageProcessor
from .modeling_mit import MiTBackbone, MiTForPreTraining, MiTForPreTrainingOutput, MiTModel

__version__ = "0.1.0"

AutoConfig.register(MiTConfig.model_type, MiTConfig)
AutoModel.register(MiTConfig, MiTModel)
AutoBackbone.register(MiTConfig, MiTBackbone)
AutoModelForPreTraining.register(MiTConfig, MiTForPreTraining)
AutoImageProcessor.register(MiTConfig, image_processor_classes={"pil": MiTImageProcessor})

MiTConfig.register_for_auto_class()
MiTModel.register_for_auto_class("AutoModel")
MiTBackbone.register_for_auto_class("AutoBackbone")
MiTForPreTraining.register_for_auto_class("AutoModelForPreTraining")
MiTImageProcessor.register_for_auto_class("AutoImageProcessor")

__all__ = [
    "MiTBackbone",
    "MiTConfig",
    "MiTForPreTraining",
    "MiTForPreTrainingOutput",
    "MiTImageProcessor",
    "MiTModel",
]
