"""What a fine-tuned model's folder says of its task, for scoring and predicting to repeat it."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..image_processing_mit import MiTImageProcessor
from .prediction import WindowSettings
from .settings import FinetuningSettings
from .task_data import TaskData

DESCRIPTION = "finetuning.json"
_SPLIT = (
    "label_fraction",
    "folds",
    "fold",
    "validation_fraction",
    "test_fraction",
    "split_seed",
)


@dataclass(frozen=True)
class TaskDescription:
    """A fine-tuned model's task. It holds no path, as it is published with the model.

    Attributes:
        layout: name of the data set.
        layout_options: options of its reader.
        task: "classification" or "segmentation".
        split: the settings that its cases were split with.
        window: `([depth,] height, width)` of sliding windows; `None`: the native size.
        window_overlap: share of a window that the next one covers again.
        withheld: names of the reader's options that are paths of the machine of training.
    """

    layout: str
    layout_options: dict[str, Any]
    task: str
    split: dict[str, Any]
    window: list[int] | None
    window_overlap: float
    withheld: list[str]

    @classmethod
    def of(
        cls, settings: FinetuningSettings, task: TaskData, processor: MiTImageProcessor
    ) -> TaskDescription:
        """Describe the task of a run."""
        windows = window_settings(settings, task.num_axes, processor)
        options = settings.layout_options or {}
        withheld = sorted(name for name, value in options.items() if is_path(value))
        return cls(
            layout=task.layout.name,
            layout_options={k: v for k, v in options.items() if k not in withheld},
            task=task.layout.task,
            split={name: getattr(settings, name) for name in _SPLIT},
            window=None if windows.window is None else list(windows.window),
            window_overlap=settings.window_overlap,
            withheld=withheld,
        )

    @classmethod
    def load(cls, folder: Path) -> TaskDescription:
        """Read the description of a fine-tuned model's folder.

        Raises:
            FileNotFoundError: If the folder has none.
            ValueError: If it is not what this version writes.
        """
        path = folder / DESCRIPTION
        if not path.is_file():
            raise FileNotFoundError(
                f"{folder} has no {DESCRIPTION}: it is no model that examples/finetune.py wrote."
            )
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path} does not describe a task ({error}).") from error

    def save(self, folder: Path) -> None:
        """Write the description into a folder."""
        text = json.dumps(dataclasses.asdict(self), indent=2) + "\n"
        (folder / DESCRIPTION).write_text(text, encoding="utf-8")


def is_path(value: Any) -> bool:
    """Whether an option of a reader is a path, which is not published."""
    return isinstance(value, str) and ("/" in value or "\\" in value)


def window_settings(
    settings: FinetuningSettings, num_axes: int, processor: MiTImageProcessor
) -> WindowSettings:
    """How whole cases of a run go through the network: in windows of what it was trained on.

    Raises:
        ValueError: If `window` or `patch_size` have other axes than the cases.
    """
    for name in ("patch_size", "window"):
        size = getattr(settings, name)
        if size is not None and len(size) != num_axes:
            axes = "height, width" if num_axes == 2 else "depth, height, width"
            raise ValueError(f"{name} is {size}, but cases are {num_axes}D; wanted {axes}.")
    window = settings.window or settings.patch_size
    if window is None:
        size = processor.image_size if num_axes == 2 else processor.volume_size
        window = None if size is None else list(size.values())
    return WindowSettings(
        None if window is None else tuple(window),
        settings.window_overlap,
        settings.window_batch_size,
        tuple(settings.mirror),
    )
