"""Features of many images and volumes, as a table that a stopped run goes on with."""

from .loop import ExtractionResult, run_extraction
from .settings import ExtractionSettings, parse_settings

__all__ = ["ExtractionResult", "ExtractionSettings", "parse_settings", "run_extraction"]
