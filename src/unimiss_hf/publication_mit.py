"""How published code is opened: which class serves which Auto class and which pipeline task.

`save_pretrained` of transformers copies the file of a class and the files that it imports
relatively, and notes the saved class alone. Here the configuration, which every model saves, notes
all of them, and its imports reach every published file; so a folder opens through each Auto class
and in each pipeline, whichever model saved it, and also where the published files are all there is.
"""

from typing import Any

AUTO_MAP: dict[str, str] = {
    "AutoConfig": "configuration_mit.MiTConfig",
    "AutoModel": "modeling_mit.MiTModel",
    "AutoBackbone": "modeling_mit.MiTBackbone",
    "AutoModelForPreTraining": "modeling_mit.MiTForPreTraining",
    "AutoModelForImageClassification": "classification_mit.MiTForImageClassification",
    "AutoModelForSemanticSegmentation": "segmentation_mit.MiTForSemanticSegmentation",
    "AutoImageProcessor": "image_processing_mit.MiTImageProcessor",
}
"""The class, as `module.Class`, that each Auto class opens a saved folder with."""

CUSTOM_PIPELINES: dict[str, dict[str, Any]] = {
    "medical-feature-extraction": {
        "impl": "pipeline_mit.MedicalFeatureExtractionPipeline",
        "pt": ["AutoModel"],
    },
    "medical-image-classification": {
        "impl": "pipeline_mit.MedicalImageClassificationPipeline",
        "pt": ["AutoModelForImageClassification"],
    },
    "medical-image-segmentation": {
        "impl": "pipeline_mit.MedicalImageSegmentationPipeline",
        "pt": ["AutoModelForSemanticSegmentation"],
    },
}
"""The pipeline, as `module.Class`, of each task, and the Auto class that loads its model."""


def register_with_transformers() -> None:
    """Make the Auto classes and `pipeline` of transformers know the classes of this package.

    Folders then open without `trust_remote_code`, and with it too the classes of the package serve
    rather than the code in the folder.
    """
    import transformers
    from transformers import (
        AutoBackbone,
        AutoConfig,
        AutoImageProcessor,
        AutoModel,
        AutoModelForImageClassification,
        AutoModelForPreTraining,
        AutoModelForSemanticSegmentation,
    )
    from transformers.models.auto import modeling_auto, video_processing_auto
    from transformers.pipelines import PIPELINE_REGISTRY

    # Saving follows the text of such lines from file to file: from here they reach every one.
    from .classification_mit import MiTForImageClassification
    from .configuration_mit import MiTConfig
    from .image_processing_mit import MiTImageProcessor
    from .modeling_mit import MiTBackbone, MiTForPreTraining, MiTModel
    from .pipeline_mit import (
        MedicalFeatureExtractionPipeline,
        MedicalImageClassificationPipeline,
        MedicalImageSegmentationPipeline,
    )
    from .segmentation_mit import MiTForSemanticSegmentation

    AutoConfig.register(MiTConfig.model_type, MiTConfig)
    AutoModel.register(MiTConfig, MiTModel)
    AutoBackbone.register(MiTConfig, MiTBackbone)
    AutoModelForPreTraining.register(MiTConfig, MiTForPreTraining)
    AutoModelForImageClassification.register(MiTConfig, MiTForImageClassification)
    AutoModelForSemanticSegmentation.register(MiTConfig, MiTForSemanticSegmentation)
    AutoImageProcessor.register(MiTConfig, image_processor_classes={"pil": MiTImageProcessor})
    MiTImageProcessor.register_for_auto_class("AutoImageProcessor")
    # There is none. Unless that is known, transformers' image pipelines take it to be in a folder's
    # code, and ask the user whether to run that.
    video_processing_auto.AutoVideoProcessor.register(MiTConfig, video_processor_classes={})

    # The tables that transformers' own image pipelines look a model up in.
    for names, model_class in (
        (modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES, MiTForImageClassification),
        (modeling_auto.MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES, MiTForSemanticSegmentation),
    ):
        names[MiTConfig.model_type] = model_class.__name__

    pipelines = {
        pipeline.__name__: pipeline
        for pipeline in (
            MedicalFeatureExtractionPipeline,
            MedicalImageClassificationPipeline,
            MedicalImageSegmentationPipeline,
        )
    }
    for task, entry in CUSTOM_PIPELINES.items():
        PIPELINE_REGISTRY.register_pipeline(
            task,
            pipeline_class=pipelines[entry["impl"].rpartition(".")[2]],
            pt_model=tuple(getattr(transformers, name) for name in entry["pt"]),
        )


__all__ = ["AUTO_MAP", "CUSTOM_PIPELINES", "register_with_transformers"]
