"""Cross-dimension self-distillation: objective, views, schedules and the loop."""

from .figures import draw_figures
from .loop import NonFiniteLossError, Pretrainer, RunResult
from .settings import PretrainingSettings, parse_settings

__all__ = [
    "NonFiniteLossError",
    "Pretrainer",
    "PretrainingSettings",
    "RunResult",
    "draw_figures",
    "parse_settings",
]
