"""Settings of a pretraining run: one flat dataclass, filled from a YAML recipe and the command."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from ..configuration_mit import MiTConfig
from ..grey_levels_mit import GreyWindow, require_grey_window
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
from .objective import ObjectiveSettings
from .plan import Phase, Plan
from .schedules import Schedules
from .view_settings import ImageViewSettings, VolumeViewSettings

MODEL_SIZES = {"tiny": MiTConfig.tiny, "small": MiTConfig.small}

_VIEWS_EXAMPLE = '{"blur_sigma": [0.1, 1.0]}'

# May differ between a run and its continuation: they do not change what is computed.
_CHANGEABLE = {
    "output",
    "report_to",
    "log_every",
    "checkpoint_every",
    "max_checkpoints",
    "best_metric",
    "best_mode",
    "push_to_hub",
    "hub_private",
    "push_every",
    "hub_training_state",
    "resume",
    "figures",
    "cache_gib",
    "max_bad_fraction",
    "probe_every",
    "probe_size",
    # the same numbers from less memory
    "samples_per_backward",
    "gradient_checkpointing",
    # the same numbers up to rounding, sooner
    "compile_blocks",
}


@dataclass
class PretrainingSettings:
    """Everything that defines a run. The defaults are the paper's recipe for MiT-small.

    Sizes are in the order depth, height, width; spacings in mm in the same order. Batch sizes are
    per process. Settings with `_2d` or `_3d` belong to that dimension's phases alone; leave a data
    set out to train on the other dimension only.

    Raises:
        ValueError: If a setting, or two together, cannot be had.
    """

    output: str = setting("runs/pretraining", "folder for checkpoints, log and figures")
    seed: int = setting(0, "seed of weights, order and views")

    # model
    model_size: str = setting("small", "tiny or small")
    num_prototypes: int = setting(65536, "number of prototypes K")
    drop_path_rate: float = setting(0.0, "stochastic depth; the paper writes 0.1")
    initializer_range: float = setting(
        0.02, "standard deviation of the linear layers' and embeddings' first weights"
    )
    initial_checkpoint: str | None = setting(
        None,
        "folder or Hub name whose weights to start from; its size and prototypes are kept, and "
        "model_size, num_prototypes, drop_path_rate and initializer_range play no part",
    )
    attn_implementation: str = setting("sdpa", "sdpa or eager")
    gradient_checkpointing: bool = setting(False, "recompute blocks backward, to save memory")
    compile_blocks: bool = setting(
        False, "compile each block with torch.compile: faster on a GPU, after minutes of compiling"
    )
    tf32: bool = setting(
        False, "round factors of float32 products to TF32 on a GPU: faster, and less exact"
    )

    # data
    dataset_2d: list[str] = setting([], "Hub name, local folder, or files of radiographs")
    dataset_3d: list[str] = setting([], "Hub name, local folder, or files of CT volumes")
    split_2d: str = setting("train", "split of a 2D data set that has them, or several: train+test")
    split_3d: str = setting("train", "split of a 3D data set that has them, or several: train+test")
    config_name_2d: str | None = setting(None, "configuration of a 2D Hub data set")
    config_name_3d: str | None = setting(None, "configuration of a 3D Hub data set")
    column_2d: str | None = setting(None, "image column of a 2D data set, when it has several")
    column_3d: str | None = setting(None, "volume column of a 3D data set, when it has several")
    streaming: bool = setting(False, "read Hub data sets as a stream, without downloading them")
    spacing: list[float] = setting([3.0, 1.0, 1.0], "spacing that volumes are resampled to, mm")
    source_spacing: list[float] | None = setting(
        None, "spacing in mm of the volumes' files, when their headers do not tell the truth"
    )
    grey_window: list[str] | None = setting(
        None,
        "grey levels of radiographs that become 0 and 1: LEVEL WIDTH, minmax or percentiles; "
        "default: what the file declares",
    )
    crops_per_volume: int = setting(1, "samples taken from a volume each time it is read")
    shuffle_buffer: int = setting(10_000, "records that are shuffled together")
    max_bad_fraction: float = setting(0.05, "share of unreadable records that ends the run")
    num_workers: int = setting(0, "processes that read data, per dimension and process")
    cache_gib: float = setting(1.0, "decoded files kept in memory per reader, GiB")

    # views
    image_size: list[int] = setting([224, 224], "height, width of 2D views")
    volume_size: list[int] = setting([16, 96, 96], "depth, height, width of 3D views")
    image_window: list[int] = setting([512, 512], "size images are fitted into before cropping")
    volume_window: list[int] = setting([24, 172, 172], "region cut from a volume before cropping")
    views_2d: dict | str | None = setting(None, "other settings of 2D views, as JSON")
    views_3d: dict | str | None = setting(None, "other settings of 3D views, as JSON")

    # order
    epochs: int | None = setting(
        None, "epochs, of both dimensions together; 200 if max_steps is not given"
    )
    max_steps: int | None = setting(None, "optimiser steps, instead of epochs")
    epochs_per_phase_2d: int = setting(2, "epochs of 2D before 3D's turn")
    epochs_per_phase_3d: int = setting(2, "epochs of 3D before 2D's turn")
    steps_per_epoch_2d: int | None = setting(None, "steps of a 2D epoch; default: its length")
    steps_per_epoch_3d: int | None = setting(None, "steps of a 3D epoch; default: its length")
    batch_size_2d: int = setting(24, "images of a batch")
    batch_size_3d: int = setting(24, "volumes of a batch")
    accumulation_2d: int = setting(1, "2D batches of an optimiser step")
    accumulation_3d: int = setting(1, "3D batches of an optimiser step")
    samples_per_backward: int | None = setting(
        None, "samples that go forward and backward at once; fewer take less memory"
    )

    slice_stride: int = setting(
        1, "every how many slices of a volume one is seen in 2D, from a random first one; 1: all"
    )

    # objective
    teacher_temperature: float = setting(0.04, "temperature of the teacher's softmax")
    student_temperature: float = setting(0.1, "temperature of the student's softmax")
    centre_momentum: float = setting(0.9, "share of the old centre kept at each use")

    # optimisation
    base_learning_rate: float = setting(8e-4, "learning rate per 256 samples of a step")
    final_learning_rate: float = setting(1e-6, "learning rate at the end")
    warmup_epochs: int = setting(10, "epochs of rising learning rate")
    weight_decay: float = setting(0.04, "weight decay at the start")
    final_weight_decay: float = setting(0.4, "weight decay at the end")
    teacher_momentum: float = setting(0.996, "share of the old teacher kept, at the start")
    final_teacher_momentum: float = setting(1.0, "share of the old teacher kept, at the end")
    gradient_clip: float | None = setting(0.3, "norm of each parameter's gradient at most")
    frozen_prototype_epochs: int = setting(1, "first epochs that leave the prototypes alone")

    # running
    checkpoint_every: int = setting(500, "steps between checkpoints")
    max_checkpoints: int = setting(3, "newest checkpoints that are kept")
    best_metric: str | None = setting(
        None,
        "number of log.jsonl, such as loss/volume_to_volume, whose mean since the last checkpoint "
        "tells the best one, which is kept beyond max_checkpoints",
    )
    best_mode: str = setting("min", "min if less of best_metric is better; max if more is")
    push_to_hub: str | None = setting(
        None, "repository on the Hub, OWNER/NAME, that checkpoints are uploaded to meanwhile"
    )
    push_every: int = setting(1, "every how many checkpoints one is uploaded; the last always")
    hub_private: bool = setting(False, "make that repository private, if it is new")
    hub_training_state: bool = setting(
        False,
        "also upload what continues the run: optimiser, student, settings, with paths in them",
    )
    log_every: int = setting(1, "steps between lines of log.jsonl")
    probe_every: int | None = setting(
        None,
        "steps between probes of the teacher, which need no labels: how well frozen features tell "
        "organs of the sample CT, as probe/knn_accuracy and probe/linear_accuracy of log.jsonl",
    )
    probe_size: int = setting(
        32, "patches of each class that a probe learns from; half as many are tested"
    )
    report_to: list[str] = setting([], "trackers: tensorboard, trackio, wandb")
    resume: str = setting("auto", "auto: continue what is in the output folder; never: refuse")
    figures: bool = setting(True, "draw curves.png and features.png at the end")

    def __post_init__(self):
        for name in ("dataset_2d", "dataset_3d", "report_to"):
            if isinstance(getattr(self, name), str):
                setattr(self, name, [getattr(self, name)])
        for name in ("views_2d", "views_3d"):
            if isinstance(getattr(self, name), str):
                setattr(self, name, json_mapping(name, getattr(self, name), _VIEWS_EXAMPLE))
        check_types(self)
        if self.epochs is None and self.max_steps is None:
            self.epochs = 200
        if (self.epochs is None) == (self.max_steps is None):
            raise ValueError(
                f"Give either epochs or max_steps, got epochs={self.epochs} and "
                f"max_steps={self.max_steps}."
            )
        if self.model_size not in MODEL_SIZES:
            raise ValueError(
                f"model_size is {self.model_size!r}; it must be one of {sorted(MODEL_SIZES)}."
            )
        if self.resume not in ("auto", "never"):
            raise ValueError(f"resume is {self.resume!r}; it must be 'auto' or 'never'.")
        if self.best_mode not in MODES:
            raise ValueError(f"best_mode is {self.best_mode!r}; it must be one of {MODES}.")
        if self.push_to_hub is not None:
            check_repository(self.push_to_hub)
        check_at_least(
            self,
            1,
            (
                "batch_size_2d",
                "batch_size_3d",
                "accumulation_2d",
                "accumulation_3d",
                "slice_stride",
                "checkpoint_every",
                "max_checkpoints",
                "push_every",
                "log_every",
                "probe_every",
            ),
        )
        check_at_least(self, 2, ("probe_size",))
        if self.slice_stride > self.volume_size[0]:
            raise ValueError(
                f"slice_stride is {self.slice_stride}, but volumes have {self.volume_size[0]} "
                "slices (volume_size). Give at most that."
            )
        # Built here so that a wrong setting is told before any data is read.
        self.image_views()
        self.volume_views()
        self.objective()
        self.grey_levels()

    @property
    def dimensions(self) -> list[str]:
        """The dimensions that have a data set, in the order of their phases."""
        return [name for name in ("2d", "3d") if getattr(self, f"dataset_{name}")]

    def of(self, name: str, dimension: str) -> Any:
        """Return the setting `name` of a dimension: `of("batch_size", "2d")`."""
        return getattr(self, f"{name}_{dimension}")

    def image_views(self) -> ImageViewSettings:
        """Return the settings of 2D views."""
        return _build(ImageViewSettings, "views_2d", self.views_2d, size=tuple(self.image_size))

    def volume_views(self) -> VolumeViewSettings:
        """Return the settings of 3D views."""
        return _build(VolumeViewSettings, "views_3d", self.views_3d, size=tuple(self.volume_size))

    def objective(self) -> ObjectiveSettings:
        """Return the settings of the objective."""
        return ObjectiveSettings(
            self.teacher_temperature, self.student_temperature, self.centre_momentum
        )

    def grey_levels(self) -> GreyWindow:
        """Return the grey levels of radiographs that become 0 and 1, as the processor takes them.

        Raises:
            ValueError: If they are neither a level and a width nor a name.
        """
        if self.grey_window is None:
            return None
        try:
            window = [float(number) for number in self.grey_window]
        except ValueError:
            window = " ".join(self.grey_window)
        if window == "hounsfield":
            raise ValueError("grey_window is 'hounsfield'; radiographs are not in HU.")
        return require_grey_window("grey_window", window)

    def model_config(self) -> MiTConfig:
        """Return the configuration of a new model."""
        return MODEL_SIZES[self.model_size](
            num_prototypes=self.num_prototypes,
            drop_path_rate=self.drop_path_rate,
            initializer_range=self.initializer_range,
        )

    def global_batch_size(self, dimension: str, world_size: int) -> int:
        """Count the samples of an optimiser step over all processes."""
        return self.of("batch_size", dimension) * self.of("accumulation", dimension) * world_size

    def plan(self, samples: dict[str, int | None], world_size: int) -> Plan:
        """Lay out the phases of the run.

        Args:
            samples: How many records each dimension's data set has; `None` where nobody knows.
            world_size: Number of processes.

        Raises:
            ValueError: If the length of an epoch is neither known nor given.
        """
        phases = []
        for dimension in self.dimensions:
            steps = self.of("steps_per_epoch", dimension)
            if steps is None:
                if samples[dimension] is None:
                    raise ValueError(
                        f"dataset_{dimension} is a stream whose length is not known. Give "
                        f"steps_per_epoch_{dimension}, the optimiser steps of an epoch."
                    )
                per_record = self.crops_per_volume if dimension == "3d" else 1
                available = samples[dimension] * per_record
                steps = available // self.global_batch_size(dimension, world_size)
            phases.append(Phase(dimension, self.of("epochs_per_phase", dimension), steps))
        return Plan(phases, epochs=self.epochs, max_steps=self.max_steps)

    def schedules(self, plan: Plan, world_size: int) -> Schedules:
        """Make the schedules of the run over its plan."""
        return Schedules(
            plan,
            {name: self.global_batch_size(name, world_size) for name in self.dimensions},
            self.base_learning_rate,
            self.final_learning_rate,
            self.warmup_epochs,
            self.weight_decay,
            self.final_weight_decay,
            self.teacher_momentum,
            self.final_teacher_momentum,
            self.frozen_prototype_epochs,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return all settings as plain values."""
        return dataclasses.asdict(self)

    def differences(self, other: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
        """List what would make a continuation another run: `{name: (other's, ours)}`."""
        return differences(self, other, _CHANGEABLE)


def _build(settings_class: type, name: str, values: dict | None, **sizes: Any) -> Any:
    known = {entry.name for entry in dataclasses.fields(settings_class)}
    unknown = sorted(set(values or {}) - known)
    if unknown:
        raise ValueError(f"{name} has no setting {unknown}; it has {sorted(known)}.")
    tuples = {k: tuple(v) if isinstance(v, list) else v for k, v in (values or {}).items()}
    return settings_class(**{**sizes, **tuples})


def parse_settings(arguments: list[str] | None = None) -> PretrainingSettings:
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
        PretrainingSettings,
        "Pretrains MiT on radiographs and CT volumes by self-distillation.",
        arguments,
        # either takes the other's place
        instead={"epochs": "max_steps", "max_steps": "epochs"},
    )
