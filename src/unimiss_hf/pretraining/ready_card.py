"""The cards of the pretrained models that the papers describe, before there are weights."""

from __future__ import annotations

from pathlib import Path

import torch

from ..data.layouts.catalog import LAYOUTS
from ..data.layouts.deeplesion import DEEPLESION
from ..hub.card_editing import PLACEHOLDER
from ..hub.card_rendering import render_card
from ..hub.training_data import TrainingData
from ..hub.widget import widget_field
from ..modeling_mit import MiTForPreTraining
from ..training.recipes import read_recipe
from .card import values_of
from .settings import MODEL_SIZES, PretrainingSettings

PLANNED = "unimiss-mit-plus"
"""What UniMiSS+'s network is to be called."""


def ready_cards(recipe: Path) -> dict[str, str]:
    """Write the cards of MiT-tiny and MiT-small, pretrained by a recipe, and of MiT+.

    Args:
        recipe: Of the paper's run, as `pretrain_small.yaml`.

    Returns:
        The cards' texts, by the models' names.

    Raises:
        FileNotFoundError: If there is no such recipe.
        ValueError: If it is none of pretraining.
    """
    cards = {f"unimiss-mit-{size}": _of_size(recipe, size) for size in MODEL_SIZES}
    return {**cards, PLANNED: _planned()}


def _of_size(recipe: Path, size: str) -> str:
    values = read_recipe(recipe, PretrainingSettings)
    settings = PretrainingSettings(**{**values, "model_size": size})
    with torch.device("meta"):
        model = MiTForPreTraining(settings.model_config())
    is_other = values.get("model_size") != size
    card = render_card(
        "pretrained.md",
        {"widget": widget_field()},
        title=f"unimiss-mit-{size}",
        name=PLACEHOLDER,
        not_published=True,
        recipe=f"recipes/{recipe.name}",
        recipe_options=f" with `--model_size {size}`" if is_other else "",
        epochs=settings.epochs,
        data={"2D": "radiographs, `--dataset_2d`", "3D": "CT volumes, `--dataset_3d`"},
        sources=[TrainingData.of(layout) for layout in LAYOUTS.values() if layout != DEEPLESION],
        is_sample=False,
        training_state=False,
        compute=None,
        **values_of(model, settings),
    )
    return str(card)


def _planned() -> str:
    # Nothing opens it, so it is of no library and no widget tries it.
    metadata = {"library_name": None}
    sources = [TrainingData.of(layout) for layout in LAYOUTS.values()]
    return str(render_card("planned.md", metadata, title=PLANNED, sources=sources))
