"""Settings of fine-tuning: one flat dataclass, filled from a YAML recipe and the command."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..training.ranking import MODES
from ..training.recipes import (
    check_at_least,
    check_repository,
    check_types,
    differences,
    json_mapping,
    parse_recipe_and_options,
    setting,
)

FREEZES = ("none", "encoder", "backbone")

# May differ between a run and its continuation: they do not change what is computed.
_CHANGEABLE = {
    "output",
    "dataset",
    "cache_folder",
    "report_to",
    "log_every",
    "max_checkpoints",
    "push_to_hub",
    "hub_private",
    "push_every",
    "hub_training_state",
    "resume",
    "figures",
    "evaluate",
    "score_before",
    "num_workers",
    "window_batch_size",
    "gradient_checkpointing",
    # of the scores at the end
    "mirror",
    "surface_tolerance",
    "specificity",
    "bootstrap",
}
_MAPPINGS = {
    "layout_options": '{"modality": "ct"}',
    "processor": '{"spacing": [1.5, 1.0, 1.0]}',
    "augmentation": '{"rotation": 10}',
}


@dataclass
class FinetuningSettings:
    """Everything that defines a run of fine-tuning, for all four kinds of task.

    What the task is follows from the data set: its reader says whether cases have classes or label
    maps, and of which dimension they are. Sizes are in the order ([depth,] height, width); spacings
    in mm in the same order. Batch sizes are per process.

    Raises:
        ValueError: If a setting, or two together, cannot be had.
    """

    output: str = setting("runs/finetuning", "folder for checkpoints, log, scores and figures")
    seed: int = setting(0, "seed of the head's weights, order, patches and augmentation")

    # model
    model: str | None = setting(None, "folder or owner/name[@revision] of a pretrained checkpoint")
    model_size: str | None = setting(
        None, "tiny or small, with random weights, instead of a checkpoint: a baseline"
    )
    freeze: str = setting(
        "none",
        "what is not trained: none; encoder; backbone (all but the head: a linear probe)",
    )
    drop_path_rate: float = setting(0.0, "stochastic depth")
    dropout: float = setting(0.0, "dropout in front of the classifier")
    gradient_checkpointing: bool = setting(False, "recompute blocks backward, to save memory")

    # data
    dataset: str | None = setting(None, "the data set's folder, as it is downloaded")
    layout: str | None = setting(
        None, "which data set that is; default: what the folder looks like"
    )
    layout_options: dict | str | None = setting(None, "options of its reader, as JSON")
    processor: dict | str | None = setting(
        None, "settings of the image processor that replace the checkpoint's, as JSON"
    )
    label_fraction: float = setting(
        1.0, "share of the training patients whose labels are used: 0.2, 0.4, 1.0"
    )
    folds: int | None = setting(
        None,
        "cross-validation: split the labelled patients into so many folds, each once the test "
        "split of a run",
    )
    fold: int | None = setting(None, "run this fold alone, from 0")
    validation_fraction: float = setting(
        0.2, "share of the training patients that validate, where the data set has no such split"
    )
    test_fraction: float = setting(
        0.2, "share of the patients that test, where the data set has no such split"
    )
    split_seed: int = setting(0, "seed of these choices")
    cache_folder: str | None = setting(
        None, "where prepared cases are kept; default: prepared, in the output folder"
    )
    num_workers: int = setting(0, "processes that prepare cases and cut patches")

    # samples
    patch_size: list[int] | None = setting(
        None, "([depth,] height, width) that is cut from a case; default: all of it"
    )
    foreground_fraction: float = setting(
        0.67, "share of patches that are centred on a class that is not the background"
    )
    patches_per_case: int = setting(1, "patches of a case in an epoch")
    augment: bool = setting(True, "whether to augment at all")
    augmentation: dict | str | None = setting(None, "other settings of augmentation, as JSON")

    # optimisation
    epochs: int | None = setting(None, "epochs; 100 if max_steps is not given")
    max_steps: int | None = setting(None, "optimiser steps, instead of epochs")
    batch_size: int = setting(2, "samples of a batch")
    accumulation: int = setting(1, "batches of an optimiser step")
    learning_rate: float = setting(5e-4, "learning rate of the head, after the warm-up")
    layer_decay: float = setting(
        1.0, "factor of the learning rate from each layer to the one below it"
    )
    weight_decay: float = setting(0.05, "weight decay; none on biases and 1-D parameters")
    warmup_fraction: float = setting(0.05, "share of all steps in which the learning rate rises")
    decay_power: float = setting(0.9, "power of the polynomial by which it falls to 0")
    gradient_clip: float | None = setting(1.0, "norm of all gradients together at most")

    # validation and prediction
    validate_every: int = setting(250, "steps between validations, each with a checkpoint")
    best_metric: str | None = setting(
        None, "number of the validation that tells the best checkpoint; default: dice, auroc or mae"
    )
    best_mode: str | None = setting(None, "max if more of it is better; min if less is")
    patience: int | None = setting(
        None, "validations without a better one after which the run stops early"
    )
    window: list[int] | None = setting(
        None, "([depth,] height, width) of sliding windows; default: patch_size"
    )
    window_overlap: float = setting(0.5, "share of a window that the next one covers again")
    window_batch_size: int = setting(4, "windows that go through the network at once")
    mirror: list[int] = setting([], "axes (0: the first) that the last scores are averaged over")

    # scores
    evaluate: bool = setting(True, "score the best checkpoint on the test split at the end")
    score_before: bool = setting(False, "score the test split before training too, to compare")
    surface_tolerance: float = setting(2.0, "tolerance of the surface Dice, mm")
    specificity: float = setting(0.9, "specificity at which the sensitivity is told")
    bootstrap: int = setting(1000, "resamples of the intervals")

    # running
    max_checkpoints: int = setting(1, "newest checkpoints that are kept, beside the best")
    push_to_hub: str | None = setting(
        None, "repository on the Hub, OWNER/NAME, that checkpoints are uploaded to meanwhile"
    )
    push_every: int = setting(1, "every how many checkpoints one is uploaded; the last always")
    hub_private: bool = setting(False, "make that repository private, if it is new")
    hub_training_state: bool = setting(
        False, "also upload what continues the run: optimiser, settings, with paths in them"
    )
    log_every: int = setting(1, "steps between lines of log.jsonl")
    report_to: list[str] = setting([], "trackers: tensorboard, trackio, wandb")
    resume: str = setting("auto", "auto: continue what is in the output folder; never: refuse")
    figures: bool = setting(True, "draw curves and pictures of cases at the end")

    def __post_init__(self):
        if isinstance(self.report_to, str):
            self.report_to = [self.report_to]
        for name, example in _MAPPINGS.items():
            if isinstance(getattr(self, name), str):
                setattr(self, name, json_mapping(name, getattr(self, name), example))
        check_types(self)
        if self.epochs is None and self.max_steps is None:
            self.epochs = 100
        if self.epochs is not None and self.max_steps is not None:
            raise ValueError(
                f"Give either epochs or max_steps, got epochs={self.epochs} and "
                f"max_steps={self.max_steps}."
            )
        self._check_choices()
        self._check_ranges()
        if self.push_to_hub is not None:
            check_repository(self.push_to_hub)

    def _check_choices(self) -> None:
        for name, choices in {
            "freeze": FREEZES,
            "model_size": (None, "tiny", "small"),
            "resume": ("auto", "never"),
            "best_mode": (None, *MODES),
        }.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be one of {choices}.")
        if self.model is not None and self.model_size is not None:
            raise ValueError(
                f"Give either a model or a model_size, got {self.model!r} and {self.model_size!r}."
            )
        if self.freeze != "none" and self.model_size is not None:
            raise ValueError(f"freeze is {self.freeze!r}, but a model_size has random weights.")
        if (self.best_metric is None) != (self.best_mode is None):
            raise ValueError("Give best_metric and best_mode together, or neither.")
        if self.fold is not None and not 0 <= self.fold < (self.folds or 0):
            raise ValueError(
                f"fold is {self.fold} and folds {self.folds}; a fold is 0 or more, and below folds."
            )

    def _check_ranges(self) -> None:
        at_least_one = (
            "batch_size",
            "accumulation",
            "patches_per_case",
            "validate_every",
            "max_checkpoints",
            "push_every",
            "log_every",
            "patience",
            "epochs",
            "max_steps",
            "window_batch_size",
        )
        check_at_least(self, 1, at_least_one)
        check_at_least(self, 2, ("folds",))
        check_at_least(self, 0, ("num_workers", "bootstrap", "weight_decay", "surface_tolerance"))
        for name, (low, high) in {
            "label_fraction": (0, 1),
            "validation_fraction": (0, 0.9),
            "test_fraction": (0, 0.9),
            "layer_decay": (0, 1),
            "learning_rate": (0, 10),
        }.items():
            if not low < getattr(self, name) <= high:
                raise ValueError(
                    f"{name} is {getattr(self, name)}; it must be above {low} and at most {high}."
                )
        for name in ("foreground_fraction", "drop_path_rate", "dropout", "warmup_fraction"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must lie in [0, 1].")
        if not 0 <= self.window_overlap < 1:
            raise ValueError(f"window_overlap is {self.window_overlap}; it must lie in [0, 1).")
        for name in ("patch_size", "window"):
            size = getattr(self, name)
            if size is not None and (len(size) not in (2, 3) or min(size) < 1):
                raise ValueError(
                    f"{name} is {size}; wanted ([depth,] height, width), each 1 or more."
                )

    @property
    def checkpoint_every(self) -> int:
        """Steps between checkpoints: one behind each validation."""
        return self.validate_every

    def to_dict(self) -> dict[str, Any]:
        """Return all settings as plain values."""
        return dataclasses.asdict(self)

    def differences(self, other: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
        """List what would make a continuation another run: `{name: (other's, ours)}`."""
        return differences(self, other, _CHANGEABLE)


def parse_settings(arguments: Sequence[str] | None = None) -> FinetuningSettings:
    """Read settings from a command line.

    Args:
        arguments: The words behind the program's name; those of the process by default. `--config
            FILE` names a YAML recipe; every other setting is an option of its own and wins.

    Raises:
        ValueError: If the recipe holds what is not a setting, or a value that cannot be.
        FileNotFoundError: If there is no such recipe.
        SystemExit: If an option is unknown, with a message of how it is spelt.
    """
    return parse_recipe_and_options(
        FinetuningSettings,
        "Fine-tunes MiT for classification or segmentation of images or volumes.",
        arguments,
        instead={
            "epochs": "max_steps",
            "max_steps": "epochs",
            "model": "model_size",
            "model_size": "model",
        },
    )
