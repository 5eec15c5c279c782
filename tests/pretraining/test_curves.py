import math
import sys

import numpy as np
import pytest
from PIL import Image

from unimiss_hf.pretraining.curves import curves_figure, draw_curves
from unimiss_hf.pretraining.objective import TERMS, term_name
from unimiss_hf.training.run_log import RunLog


def write_log(path, phases, value=lambda step: 9.0 - 0.01 * step):
    """A log of phases such as `[("2d", 4), ("3d", 3)]`, a line each step."""
    log = RunLog(path)
    step = 0
    for dimension, length in phases:
        for _ in range(length):
            outputs = {output for term in TERMS[dimension] for output in term}
            log.write(
                {
                    "step": step,
                    "epoch": 0,
                    "dimension": dimension,
                    "loss": value(step),
                    **{f"loss/{term_name(term)}": value(step) for term in TERMS[dimension]},
                    **{f"entropy/{term_name(term)}": 2.0 for term in TERMS[dimension]},
                    **{f"spread/{output}": 0.8 for output in sorted(outputs)},
                    "learning_rate": 1e-4 * (step + 1),
                }
            )
            step += 1
    return log


def lines_of(panel):
    return {line.get_gid(): line for line in panel.lines if line.get_gid()}


def test_panels_show_all_terms_under_readable_names(tmp_path):
    log = write_log(tmp_path / "log.jsonl", [("2d", 4), ("3d", 3)])
    figure = curves_figure(log, num_prototypes=64)
    losses, entropies, spreads, learning_rate = figure.axes
    names = [text.get_text() for text in losses.get_legend().get_texts()]
    assert names == [
        "image → image",
        "volume → volume",
        "volume → slices",
        "slices → slices",
        "slices → volume",
    ]
    assert losses.get_legend().get_title().get_text() == "teacher → student"
    assert "nats" in losses.get_ylabel()
    assert "nats" in entropies.get_ylabel()
    assert [text.get_text() for text in entropies.get_legend().get_texts()] == [
        *names,
        "log K = 4.16",
    ]
    assert entropies.lines[-1].get_ydata()[0] == pytest.approx(math.log(64))
    assert set(lines_of(spreads)) == {"drawn image", "drawn volume", "drawn slices"}
    np.testing.assert_allclose(
        lines_of(learning_rate)["drawn 3d"].get_ydata()[4:], [5e-4, 6e-4, 7e-4]
    )
    assert learning_rate.get_xlabel() == "optimiser step"


def test_a_phase_of_the_other_dimension_breaks_lines_and_is_shaded(tmp_path):
    log = write_log(tmp_path / "log.jsonl", [("2d", 3), ("3d", 2), ("2d", 3), ("3d", 2)])
    losses = curves_figure(log, smoothing=3).axes[0]
    for line in ("logged image_to_image", "drawn image_to_image"):
        values = lines_of(losses)[line].get_ydata()
        assert np.isfinite(values).tolist() == [True] * 3 + [False] * 2 + [True] * 3 + [False] * 2
    (shades,) = losses.collections
    spans = [(path.vertices[:, 0].min(), path.vertices[:, 0].max()) for path in shades.get_paths()]
    assert spans == [(2.5, 4.5), (7.5, 9.5)]


def test_smoothing_is_the_mean_within_a_phase_and_its_window_is_told(tmp_path):
    values = [1.0, 2.0, 6.0, 100.0, 100.0, 4.0, 8.0]
    log = write_log(
        tmp_path / "log.jsonl", [("2d", 3), ("3d", 2), ("2d", 2)], lambda step: values[step]
    )
    figure = curves_figure(log, smoothing=3)
    smoothed = lines_of(figure.axes[0])["drawn image_to_image"].get_ydata()
    np.testing.assert_allclose(smoothed, [1.5, 3.0, 4.0, np.nan, np.nan, 6.0, 6.0])
    assert "mean of the 3 logged values" in figure.get_supxlabel()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_values_that_are_not_finite_are_gaps_and_lonely_ones_dots(tmp_path, bad):
    values = [5.0, 4.0, bad, 3.0, bad, 2.0, 1.0]
    log = write_log(tmp_path / "log.jsonl", [("2d", 7)], lambda step: values[step])
    line = lines_of(curves_figure(log).axes[0])["drawn image_to_image"]
    np.testing.assert_array_equal(line.get_ydata(), [5, 4, np.nan, 3, np.nan, 2, 1])
    assert (line.get_marker(), line.get_markevery()) == (".", [3])


def test_a_long_log_is_thinned_but_keeps_its_extremes_and_gaps(tmp_path):
    def value(step):
        return {12_345: 99.0, 6_789: -99.0, 15_000: math.nan}.get(step, math.sin(step))

    log = write_log(tmp_path / "log.jsonl", [("2d", 20_000)], value)
    figure = curves_figure(log)
    line = lines_of(figure.axes[0])["logged image_to_image"]
    steps, values = line.get_xdata(), line.get_ydata()
    assert len(steps) < 7_000
    assert np.all(np.diff(steps) > 0)
    assert (steps[np.nanargmax(values)], steps[np.nanargmin(values)]) == (12_345, 6_789)
    assert steps[np.isnan(values)].tolist() == [15_000]


def test_pictures_are_written_from_a_log_or_its_path(tmp_path):
    log = write_log(tmp_path / "log.jsonl", [("3d", 1)])
    target = tmp_path / "figures" / "curves.png"
    assert draw_curves(log, target, num_prototypes=64) == target
    with Image.open(target) as picture:
        assert picture.format == "PNG"
        assert np.asarray(picture.convert("L")).std() > 5
    vector = draw_curves(tmp_path / "log.jsonl", tmp_path / "curves.svg")
    assert "<svg" in vector.read_text()


def test_captions_and_legends_lie_on_the_page(tmp_path):
    log = write_log(tmp_path / "log.jsonl", [("2d", 60), ("3d", 60)])
    figure = curves_figure(log, num_prototypes=65_536)
    figure.draw_without_rendering()
    page = figure.bbox
    texts = [*figure.texts, *(panel.get_legend() for panel in figure.axes)]
    for box in (text.get_window_extent() for text in texts):
        assert page.x0 <= box.x0 < box.x1 <= page.x1
        assert page.y0 <= box.y0 < box.y1 <= page.y1


@pytest.mark.parametrize("content", [None, ""])
def test_an_empty_or_missing_log_is_named(tmp_path, content):
    path = tmp_path / "log.jsonl"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match=r"log\.jsonl holds no lines"):
        draw_curves(path, tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()


def test_a_log_of_something_else_is_refused(tmp_path):
    log = RunLog(tmp_path / "log.jsonl")
    log.write({"step": 3, "accuracy": 0.5})
    with pytest.raises(ValueError, match=r"log\.jsonl is not .*step 3 .*accuracy"):
        curves_figure(log)


@pytest.mark.parametrize("name", ["num_prototypes", "smoothing"])
def test_settings_that_are_not_positive_are_refused(tmp_path, name):
    log = write_log(tmp_path / "log.jsonl", [("2d", 2)])
    with pytest.raises(ValueError, match=f"{name} is 0"):
        curves_figure(log, **{name: 0})


def test_missing_matplotlib_says_what_to_install(tmp_path, monkeypatch):
    log = write_log(tmp_path / "log.jsonl", [("2d", 2)])
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install matplotlib"):
        draw_curves(log, tmp_path / "curves.png")
