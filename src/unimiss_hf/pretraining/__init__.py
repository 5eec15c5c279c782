"""Cross-dimension self-distillation: objective, views, schedules and the loop."""

from ..training.failures import NonFiniteLossError
from .figures import draw_figures
from .loop import Pretrainer, RunResult
from .settings import PretrainingSettings, parse_settings

__all__ = [
    "NonFiniteLossError",
    "Pretrainer",
    "PretrainingSettings",
    "RunResult",
    "draw_figures",
    "parse_settings",
]
