"""Fine-tuning MiT: classification and segmentation, in 2D and in 3D."""

from ..training.failures import NonFiniteLossError
from .evaluation import EvaluationSettings, evaluate_model, parse_evaluation_settings
from .loop import Finetuner, RunResult
from .results import comparison_table, main_numbers, write_results
from .runs import Outcome, run_finetuning
from .settings import FinetuningSettings, parse_settings

__all__ = [
    "EvaluationSettings",
    "Finetuner",
    "FinetuningSettings",
    "NonFiniteLossError",
    "Outcome",
    "RunResult",
    "comparison_table",
    "evaluate_model",
    "main_numbers",
    "parse_evaluation_settings",
    "parse_settings",
    "run_finetuning",
    "write_results",
]
