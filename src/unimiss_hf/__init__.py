"""UniMiSS for Hugging Face: one network that learns from radiographs and CT volumes together.

Importing the package registers its classes with the Auto classes of transformers.
"""

from transformers import (
    AutoBackbone,
    AutoConfig,
    AutoModel,
    AutoModelForPreTraining,
)

from .configuration_mit import MiTConfig
from .modeling_mit import MiTBackbone, MiTForPreTraining, MiTForPreTrainingOutput, MiTModel

__version__ = "0.1.0"

AutoConfig.register(MiTConfig.model_type, MiTConfig)
AutoModel.register(MiTConfig, MiTModel)
AutoBackbone.register(MiTConfig, MiTBackbone)
AutoModelForPreTraining.register(MiTConfig, MiTForPreTraining)

MiTConfig.register_for_auto_class()
MiTModel.register_for_auto_class("AutoModel")
MiTBackbone.register_for_auto_class("AutoBackbone")
MiTForPreTraining.register_for_auto_class("AutoModelForPreTraining")

__all__ = [
    "MiTBackbone",
    "MiTConfig",
    "MiTForPreTraining",
    "MiTForPreTrainingOutput",
    "MiTModel",
]
