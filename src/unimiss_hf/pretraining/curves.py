"""Curves of a pretraining run, drawn from its log."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..drawing import new_figure, save_figure
from ..probing.patches import PATCH_CLASSES
from ..training.run_log import RunLog
from .log_line import PROBE_PREFIX

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colours that stay apart for colour-blind eyes (Okabe and Ito).
_COLOURS = {
    "image_to_image": "#0072B2",
    "volume_to_volume": "#D55E00",
    "volume_to_slices": "#E69F00",
    "slices_to_slices": "#009E73",
    "slices_to_volume": "#CC79A7",
    "image": "#0072B2",
    "volume": "#D55E00",
    "slices": "#009E73",
    "2d": "#0072B2",
    "3d": "#D55E00",
    "knn": "#0072B2",
    "linear": "#D55E00",
}
_PROBE_METHODS = {"knn": "k-NN", "linear": "linear"}
_PROBE_LINES = {"_2d": ":", "_3d": "-."}
_OTHER_COLOUR = "#555555"
_SHADE = "#EBEBEB"
_FAINT = 0.3
_DRAWN_POINTS = 4000


def draw_curves(
    log: RunLog | Path,
    target: Path,
    num_prototypes: int | None = None,
    smoothing: int | None = None,
) -> Path:
    """Draw the curves of a run, see [`curves_figure`], into a file.

    Args:
        log: The run's log, or the path of its `log.jsonl`.
        target: The picture to write, in the format that its suffix names (PNG without one).
        num_prototypes: Number of prototypes K, for a line at log K.
        smoothing: Window of the smoothed curves, in logged values.

    Returns:
        `target`.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If the log is missing, empty or not one of a pretraining run.
        OSError: If the picture cannot be written.
    """
    return save_figure(curves_figure(log, num_prototypes, smoothing), target)


def curves_figure(
    log: RunLog | Path, num_prototypes: int | None = None, smoothing: int | None = None
) -> Figure:
    """Draw four panels over the optimiser steps of a run, and a fifth if its teacher was probed.

    They are the loss terms and the teacher's entropies, both in nats and named
    "teacher → student", the spread of the teacher's features, what it knows of organs where the log
    has a probe (see `TeacherProbe`), and the learning rate. Lines end
    where a phase of the other dimension begins and at values that are not finite; the 3D phases are
    shaded. Logged values are faint, and over them lies the mean of the values around each, within
    its phase. Long logs are thinned in such a way that every extreme stays visible.

    Args:
        log: The run's log, or the path of its `log.jsonl`.
        num_prototypes: Number of prototypes K: an entropy of log K is that of a teacher which
            answers with all prototypes alike.
        smoothing: Window of the smoothed curves, in logged values; 1 draws none. By default a 50th
            of the lines, and at most a quarter of the longest phase.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If the log is missing, empty or not one of a pretraining run, or if
            `num_prototypes` or `smoothing` is not positive.
    """
    for name, value in (("num_prototypes", num_prototypes), ("smoothing", smoothing)):
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1.")
    curves = _Curves.read(log if isinstance(log, RunLog) else RunLog(log), smoothing)
    probes = curves.names_of(PROBE_PREFIX)
    figure = new_figure(10, 12.5 if probes else 11)
    heights = (3, 2, 2, *((1.5,) if probes else ()), 1.5)
    panels = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    losses, entropies, spreads, *probe, learning_rate = panels
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
        panel.broken_barh(
            curves.shaded(), (0, 1), transform=panel.get_xaxis_transform(), color=_SHADE, zorder=0
        )

    curves.draw_all(losses, "loss/")
    _label(losses, "Loss terms", "cross-entropy (nats)", "teacher → student")

    curves.draw_all(entropies, "entropy/")
    if num_prototypes is not None:
        entropies.axhline(
            math.log(num_prototypes),
            color="black",
            linestyle="--",
            linewidth=1,
            label=f"log K = {math.log(num_prototypes):.2f}",
        )
    entropies.set_ylim(0, 1.05 * entropies.get_ylim()[1])
    _label(entropies, "Entropy of the teacher", "entropy (nats)", "teacher → student")

    curves.draw_all(spreads, "spread/")
    spreads.set_ylim(0, 1.05)
    _label(
        spreads,
        "Spread of the teacher's features",
        "spread (no unit)\n0: all alike, 1: apart",
        "output",
    )

    for panel in probe:
        curves.draw_probes(panel, probes)

    values = curves.field("learning_rate")
    for dimension in sorted(set(curves.dimensions)):
        of_dimension = np.where(curves.dimensions == dimension, values, np.nan)
        _plot(learning_rate, curves.steps, of_dimension, dimension, dimension.upper())
    learning_rate.set_ylim(bottom=0)
    learning_rate.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2))
    _label(learning_rate, "Learning rate", "learning rate", "phase")
    learning_rate.set_xlabel("optimiser step")
    learning_rate.xaxis.get_major_locator().set_params(integer=True)
    learning_rate.xaxis.set_major_formatter("{x:,.0f}")
    figure.supxlabel(curves.caption(), fontsize=9, color="dimgray")
    return figure


@dataclass(frozen=True)
class _Curves:
    """The lines of a log as columns, and the phases they belong to.

    Args:
        lines: The lines.
        steps: The step of each line.
        dimensions: The dimension of each line, such as `"3d"`.
        phases: First and last line, plus one, of each phase.
        window: How many logged values a smoothed one is the mean of.
    """

    lines: list[dict[str, Any]]
    steps: np.ndarray
    dimensions: np.ndarray
    phases: list[tuple[int, int]]
    window: int

    @classmethod
    def read(cls, log: RunLog, smoothing: int | None) -> _Curves:
        lines = log.read()
        if not lines:
            raise ValueError(
                f"{log.path} holds no lines of a log{'' if log.path.exists() else ': no such file'}"
                ". Curves can be drawn once a run has logged its first step."
            )
        for line in lines:
            if "dimension" not in line or not any(name.startswith("loss/") for name in line):
                raise ValueError(
                    f"{log.path} is not the log of a pretraining run: the line of step "
                    f"{line['step']} needs a 'dimension' and 'loss/...', and has {sorted(line)}."
                )
        dimensions = np.array([line["dimension"] for line in lines])
        starts = [0, *(np.flatnonzero(dimensions[1:] != dimensions[:-1]) + 1).tolist()]
        phases = list(zip(starts, [*starts[1:], len(lines)], strict=True))
        longest = max(end - start for start, end in phases)
        window = smoothing or max(1, min(len(lines) // 50, longest // 4))
        # Odd, so that the mean lies at the value in its middle.
        window += 1 - window % 2
        steps = np.array([line["step"] for line in lines], dtype=float)
        return cls(lines, steps, dimensions, phases, window)

    def field(self, name: str) -> np.ndarray:
        """The values of a field, NaN where there is no finite one."""
        values = [line.get(name) for line in self.lines]
        column = np.array([math.nan if v is None else v for v in values], dtype=float)
        return np.where(np.isfinite(column), column, np.nan)

    def shaded(self) -> list[tuple[float, float]]:
        """First step and length of each 3D phase, ends halfway between logged steps."""
        middles = (self.steps[1:] + self.steps[:-1]) / 2
        margin = (self.steps[-1] - middles[-1]) if len(middles) else 0.5
        ends = self.steps[:1] - margin, self.steps[-1:] + margin
        bounds = np.concatenate([ends[0], middles, ends[1]])
        return [
            (bounds[start], bounds[end] - bounds[start])
            for start, end in self.phases
            if self.dimensions[start] == "3d"
        ]

    def caption(self) -> str:
        sentences = []
        if "3d" in self.dimensions:
            sentences.append("Shaded: 3D phases.")
        if self.window > 1:
            sentences.append(
                f"Faint: logged values. Strong: mean of the {self.window} logged values around, "
                "within a phase."
            )
        lines = [" ".join(sentences)] if sentences else []
        if "3d" in self.dimensions:
            lines.append(
                "volume → slices: the student predicts, from slices, the teacher's answer to the "
                "volume they are part of."
            )
        return "\n".join(lines)

    def smoothed(self, values: np.ndarray) -> np.ndarray:
        """The mean of the finite values in the window around each finite value of its phase."""
        finite = np.isfinite(values)
        sums = np.concatenate([[0.0], np.cumsum(np.where(finite, values, 0.0))])
        counts = np.concatenate([[0], np.cumsum(finite)])
        index = np.arange(len(values))
        starts, ends = (
            np.repeat([phase[side] for phase in self.phases], [b - a for a, b in self.phases])
            for side in (0, 1)
        )
        low = np.maximum(index - self.window // 2, starts)
        high = np.minimum(index + self.window // 2 + 1, ends)
        means = (sums[high] - sums[low]) / np.maximum(counts[high] - counts[low], 1)
        return np.where(finite, means, np.nan)

    def names_of(self, prefix: str) -> list[str]:
        """The fields whose names begin so, of any line, in order of appearance."""
        names = (name for line in self.lines for name in line if name.startswith(prefix))
        return list(dict.fromkeys(names))

    def draw_probes(self, panel: Axes, names: list[str]) -> None:
        """Draw measures that a few lines have, joined over phases."""
        for name in names:
            values, measure = self.field(name), name.removeprefix(PROBE_PREFIX)
            there = np.isfinite(values)
            method, _, rest = measure.partition("_accuracy")
            panel.plot(
                self.steps[there],
                values[there],
                color=_COLOURS.get(method, _OTHER_COLOUR),
                linestyle=_PROBE_LINES.get(rest, "-"),
                linewidth=1.6 if not rest else 0.9,
                marker=".",
                label=f"{_PROBE_METHODS.get(method, method)}{rest.replace('_', ', ').upper()}",
                gid=f"drawn {measure}",
            )
        chance = 1 / len(PATCH_CLASSES)
        panel.axhline(chance, color="black", linestyle="--", linewidth=1, label="chance")
        panel.set_ylim(0, 1)
        _label(panel, "Organs told by the teacher's features", "balanced\naccuracy", "probe")

    def draw_all(self, panel: Axes, prefix: str) -> None:
        """Draw each field whose name begins so, in order of appearance."""
        names = dict.fromkeys(
            name
            for start, _ in self.phases
            for name in self.lines[start]
            if name.startswith(prefix)
        )
        for name in names:
            values, term = self.field(name), name.removeprefix(prefix)
            label = term.replace("_to_", " → ")
            if self.window > 1:
                _plot(panel, self.steps, values, term, None, alpha=_FAINT, linewidth=0.8)
                values = self.smoothed(values)
            _plot(panel, self.steps, values, term, label, linewidth=1.6)


def _plot(
    panel: Axes, steps: np.ndarray, values: np.ndarray, name: str, label: str | None, **style: Any
) -> None:
    """Draw a line with gaps at NaN; a value between two gaps becomes a dot."""
    steps, values = _thinned(steps, values)
    colour = _COLOURS.get(name, _OTHER_COLOUR)
    gaps = np.concatenate([[True], ~np.isfinite(values), [True]])
    lonely = np.flatnonzero(~gaps[1:-1] & gaps[:-2] & gaps[2:])
    panel.plot(
        steps,
        values,
        color=colour,
        label=label,
        gid=f"{'logged' if label is None else 'drawn'} {name}",
        marker="." if len(lonely) else None,
        markevery=lonely.tolist(),
        **style,
    )


def _thinned(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keep the lowest and highest value and a gap of each of as many parts as can be seen."""
    if len(values) <= _DRAWN_POINTS:
        return steps, values
    kept = []
    for part in np.array_split(np.arange(len(values)), _DRAWN_POINTS // 2):
        finite = np.isfinite(values[part])
        if finite.any():
            kept += [part[np.nanargmin(values[part])], part[np.nanargmax(values[part])]]
        if not finite.all():
            kept.append(part[np.argmin(finite)])
    kept = np.unique(kept)
    return steps[kept], values[kept]


def _label(panel: Axes, title: str, unit: str, names: str) -> None:
    panel.set_title(title, loc="left", fontsize=11)
    panel.set_ylabel(unit)
    if panel.get_legend_handles_labels()[0]:
        panel.legend(
            title=names, loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=9
        )
