"""UniMiSS for Hugging Face: one network that learns from radiographs and CT volumes together.

Importing the package registers its classes with the Auto classes of transformers, and its pipelines
with `transformers.pipeline`.
"""

from .classification_mit import MiTForImageClassification
from .configuration_mit import MiTConfig
from .hub.model_pushing import push_model
from .image_processing_mit import MiTImageProcessor
from .modeling_mit import MiTBackbone, MiTForPreTraining, MiTForPreTrainingOutput, MiTModel
from .pipeline_mit import (
    MedicalFeatureExtractionPipeline,
    MedicalImageClassificationPipeline,
    MedicalImageSegmentationPipeline,
)
from .publication_mit import register_with_transformers
from .pushing_mit import PushToHubMixin
from .segmentation_mit import MiTForSemanticSegmentation

__version__ = "0.1.0"

register_with_transformers()
PushToHubMixin.publisher = staticmethod(push_model)

__all__ = [
    "MedicalFeatureExtractionPipeline",
    "MedicalImageClassificationPipeline",
    "MedicalImageSegmentationPipeline",
    "MiTBackbone",
    "MiTConfig",
    "MiTForImageClassification",
    "MiTForPreTraining",
    "MiTForPreTrainingOutput",
    "MiTForSemanticSegmentation",
    "MiTImageProcessor",
    "MiTModel",
]
