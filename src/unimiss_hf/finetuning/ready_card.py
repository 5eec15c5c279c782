"""The card of the model that a recipe of fine-tuning makes, before there are weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..data.labelled.btcv import ORGANS as BTCV_ORGANS
from ..data.labelled.catalog import LABELLED_LAYOUTS
from ..data.labelled.chestxray14 import FINDINGS
from ..data.labelled.mmwhs import STRUCTURES
from ..data.labelled.totalsegmentator_classes import ALL_2
from ..data.organ_map import ORGANS as SAMPLE_ORGANS
from ..data.sample_terms import SAMPLE_LICENSE, sample_data
from ..data.sample_views import VIEW_CLASSES
from ..hub.card_editing import PLACEHOLDER
from ..hub.results_in_cards import with_results
from ..hub.training_data import TrainingData
from ..image_processing_mit import MiTImageProcessor
from ..training.recipes import read_recipe
from .description import window_settings
from .settings import FinetuningSettings
from .task_card import TaskCard, TaskOrigin

PREFIX = "finetune_"

_MULTI_LABEL = "multi_label_classification"
_SINGLE_LABEL = "single_label_classification"
# Of the recipes' models; a recipe whose data say it by themselves is not here.
_CLASSES: dict[str, tuple[str, ...]] = {
    "btcv": ("background", *BTCV_ORGANS),
    "chaos": ("background", "liver", "right kidney", "left kidney", "spleen"),
    "chestxr": ("normal", "pneumonia", "covid"),
    "chestxray14": FINDINGS,
    "jsrt": ("heart", "lung", "clavicle"),
    "mmwhs": ("background", *STRUCTURES),
    "msd_spleen": ("background", "spleen"),
    "nlst": ("benign", "malignant"),
    "ricord": ("negative", "positive"),
    "sample_ct": ("background", *SAMPLE_ORGANS),
    "sample_views": VIEW_CLASSES,
    "sample_xray": SAMPLE_ORGANS,
    "totalsegmentator": ("background", *ALL_2),
}
_OVERLAPPING = ("chestxray14", "jsrt", "sample_xray")
_SAMPLE_NOTES = {
    "sample_ct": "sample_organs.json",
    "sample_xray": "sample_organs.json",
    "sample_views": "sample_views.json",
}
# Pretraining's, in voxels and pixels: what `MiTConfig` has.
_NATIVE = {2: (224, 224), 3: (16, 96, 96)}


def ready_card(recipe: Path, results: Mapping[str, Any] | None = None) -> str:
    """Write the card of the model that a recipe makes from a pretrained checkpoint.

    Args:
        recipe: A `finetune_NAME.yaml`; the model is called `unimiss-mit-NAME`, with hyphens.
        results: The `results.json` of a run of it, if there is one.

    Returns:
        The text of the card.

    Raises:
        FileNotFoundError: If there is no such recipe.
        ValueError: If it is none of fine-tuning, or names no layout; if the results are none.
    """
    name = recipe_name(recipe)
    settings = FinetuningSettings(**read_recipe(recipe, FinetuningSettings))
    if settings.layout not in LABELLED_LAYOUTS:
        raise ValueError(
            f"{recipe} has the layout {settings.layout!r}; a card needs one of "
            f"{', '.join(LABELLED_LAYOUTS)}. Write it into the recipe."
        )
    processor = MiTImageProcessor(**(settings.processor or {}))
    num_axes = _num_axes(settings)
    window = window_settings(settings, num_axes, processor).window
    card = TaskCard(
        name=PLACEHOLDER,
        origin=_origin(name, settings),
        num_axes=num_axes,
        class_names=_CLASSES.get(name),
        problem_type=_MULTI_LABEL if name in _OVERLAPPING else _SINGLE_LABEL,
        processor=processor,
        window=window or _NATIVE[num_axes],
        settings=settings,
        title=model_name(recipe),
        recipe=f"recipes/{recipe.name}",
    ).render()
    text = str(card)
    return text if results is None else with_results(text, results, model_name(recipe))


def recipe_name(recipe: Path) -> str:
    """What a recipe's name says it is fine-tuned on: "btcv" of `finetune_btcv.yaml`.

    Raises:
        ValueError: If it is called otherwise.
    """
    if not recipe.stem.startswith(PREFIX):
        raise ValueError(f"{recipe} is no recipe of fine-tuning: those are {PREFIX}NAME.yaml.")
    return recipe.stem.removeprefix(PREFIX)


def model_name(recipe: Path) -> str:
    """What the model of a recipe is called: `unimiss-mit-sample-ct`."""
    return f"unimiss-mit-{recipe_name(recipe).replace('_', '-')}"


def _num_axes(settings: FinetuningSettings) -> int:
    """2 or 3, by what the recipe has sizes of, as a format may hold either."""
    if settings.patch_size is not None:
        return len(settings.patch_size)
    processor = settings.processor or {}
    if "image_size" in processor:
        return 2
    if {"spacing", "volume_size"} & processor.keys():
        return 3
    return int(LABELLED_LAYOUTS[settings.layout].dimension[0])


def _origin(name: str, settings: FinetuningSettings) -> TaskOrigin:
    layout = LABELLED_LAYOUTS[settings.layout]
    note = _SAMPLE_NOTES.get(name)
    if note is None:
        return TaskOrigin(layout, TrainingData.of(layout), layout.license)
    return TaskOrigin(layout, sample_data(note), SAMPLE_LICENSE, is_sample=True)
