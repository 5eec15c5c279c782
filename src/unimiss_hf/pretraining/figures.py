"""The figures of a finished run, from its folder and its data sets."""

from pathlib import Path

import numpy as np
import torch

from ..data.reading import BadSampleError, read_record
from ..hounsfield_mit import HU_SCALE
from ..modeling_mit import MiTForPreTraining, MiTModel
from .curves import draw_curves
from .feature_figure import draw_features, figure_inputs
from .feed import open_dataset
from .settings import PretrainingSettings


def draw_figures(settings: PretrainingSettings) -> list[Path]:
    """Draw `curves.png`, and `features.png` where the run had data of both dimensions.

    Args:
        settings: Settings of a finished run.

    Returns:
        The files written.

    Raises:
        FileNotFoundError: If the run has left no model.
        ImportError: If matplotlib is missing; it is in the extra `viz`.
    """
    output = Path(settings.output)
    model_folder = output / "model"
    if not model_folder.is_dir():
        raise FileNotFoundError(f"{output} holds no finished model.")
    pretrained = MiTModel.from_pretrained(model_folder)
    figures = [
        draw_curves(
            output / "log.jsonl",
            output / "curves.png",
            num_prototypes=pretrained.config.num_prototypes,
        )
    ]
    if settings.dimensions == ["2d", "3d"]:
        volume, radiograph = (_first_readable(settings, name) for name in ("3d", "2d"))
        # the weights that a run from this seed begins with
        torch.manual_seed(settings.seed)
        untrained = MiTForPreTraining(pretrained.config).encoder
        inputs = figure_inputs(volume[0] * HU_SCALE, radiograph)
        models = {"random weights": untrained, "pretrained": pretrained}
        figures.append(draw_features(models, *inputs, output / "features.png"))
    return figures


def _first_readable(settings: PretrainingSettings, dimension: str) -> np.ndarray:
    for record in open_dataset(settings, dimension).records:
        try:
            return read_record(
                record,
                dimension,
                spacing=tuple(settings.spacing),
                source_spacing=settings.source_spacing and tuple(settings.source_spacing),
                grey_window=settings.grey_levels(),
            )
        except BadSampleError:
            continue
    raise ValueError(f"dataset_{dimension} holds nothing that can be read.")
