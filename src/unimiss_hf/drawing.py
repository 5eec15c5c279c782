"""Figures that no window and no global state knows of; matplotlib is loaded when one is made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float) -> Figure:
    """Make an empty figure of a size in inches.

    Raises:
        ImportError: If matplotlib is missing.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "Drawing needs matplotlib: pip install matplotlib, or switch figures off."
        ) from error
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, target: Path) -> Path:
    """Write a figure in the format that the suffix names, PNG without one; return the path."""
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, format=target.suffix.lstrip(".") or "png", dpi=150)
    return target
