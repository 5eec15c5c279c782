"""Predictions of many images and volumes, which a stopped run goes on with."""

from .loop import PredictionResult, run_prediction
from .settings import PredictionSettings, parse_settings

__all__ = ["PredictionResult", "PredictionSettings", "parse_settings", "run_prediction"]
