"""Fine-tuning MiT: classification and segmentation, in 2D and in 3D."""

from .settings import FinetuningSettings, parse_settings

__all__ = ["FinetuningSettings", "parse_settings"]
