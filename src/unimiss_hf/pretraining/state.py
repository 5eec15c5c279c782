"""What a pretraining checkpoint holds, and how a run continues from it.

A checkpoint is a folder that `AutoModel.from_pretrained` opens: the teacher's weights, the config,
the image processor and the code. Beside them, `training_state/` holds what a continuation needs.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from safetensors.torch import load_file, save_file

from ..image_processing_mit import MiTImageProcessor
from ..modeling_mit import MiTForPreTraining
from .feed import Feed
from .monitoring import CollapseMonitor
from .objective import SelfDistillationObjective
from .settings import PretrainingSettings

_FOLDER = "training_state"


@dataclass
class TrainingState:
    """Everything that changes while a run goes on."""

    settings: PretrainingSettings
    accelerator: Accelerator
    student: MiTForPreTraining
    teacher: MiTForPreTraining
    objective: SelfDistillationObjective
    optimizer: torch.optim.Optimizer
    monitor: CollapseMonitor
    feeds: dict[str, Feed]
    step: int = 0

    def is_finite(self) -> bool:
        """Whether every weight of student and teacher is a number."""
        return all(
            parameter.isfinite().all()
            for model in (self.student, self.teacher)
            for parameter in model.parameters()
        )

    def gather(self) -> list[dict[str, Any]]:
        """Collect what differs between processes; every process must call it."""
        own = {
            "feeds": {dimension: feed.state_dict() for dimension, feed in self.feeds.items()},
            "random": torch.get_rng_state(),
            "cuda_random": (
                torch.cuda.get_rng_state() if self.accelerator.device.type == "cuda" else None
            ),
        }
        return gather_object([own])

    def save(self, folder: Path, processes: list[dict[str, Any]]) -> None:
        """Write a checkpoint; the main process calls it with what [`gather`] returned."""
        publish(self.teacher, self.settings, folder)
        folder = folder / _FOLDER
        folder.mkdir()
        save_file(
            {name: tensor.contiguous() for name, tensor in self.student.state_dict().items()},
            folder / "student.safetensors",
        )
        save_file({"centre": self.objective.centre}, folder / "objective.safetensors")
        scaler = self.accelerator.scaler
        torch.save(
            {
                "optimizer": self.optimizer.state_dict(),
                "scaler": scaler.state_dict() if scaler is not None else None,
                "monitor": self.monitor.state_dict(),
                "processes": processes,
            },
            folder / "state.pt",
        )
        description = {
            "step": self.step,
            "mixed_precision": self.accelerator.mixed_precision,
            "settings": self.settings.to_dict(),
        }
        (folder / "run.json").write_text(json.dumps(description, indent=2) + "\n")

    def load(self, folder: Path) -> None:
        """Continue from a checkpoint.

        Raises:
            ValueError: If it belongs to a run with other settings or other processes.
        """
        description = json.loads((folder / _FOLDER / "run.json").read_text())
        differences = self.settings.differences(description["settings"])
        precisions = (description["mixed_precision"], self.accelerator.mixed_precision)
        if precisions[0] != precisions[1]:
            differences["mixed_precision"] = precisions
        if differences:
            listed = "; ".join(
                f"{name} was {old!r} and is now {new!r}" for name, (old, new) in differences.items()
            )
            raise ValueError(
                f"{folder} belongs to a run with other settings: {listed}. Give the old settings "
                "to continue it, or another --output to start a new run."
            )
        device = self.accelerator.device
        state = torch.load(folder / _FOLDER / "state.pt", map_location="cpu", weights_only=True)
        if len(state["processes"]) != self.accelerator.num_processes:
            raise ValueError(
                f"{folder} was written by {len(state['processes'])} processes, and there are "
                f"{self.accelerator.num_processes} now. Start as many as before, or give another "
                "--output to start a new run."
            )
        self.teacher.load_state_dict(load_file(folder / "model.safetensors"))
        self.student.load_state_dict(load_file(folder / _FOLDER / "student.safetensors"))
        self.objective.centre.copy_(load_file(folder / _FOLDER / "objective.safetensors")["centre"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.monitor.load_state_dict(state["monitor"])
        own = state["processes"][self.accelerator.process_index]
        for dimension, feed in self.feeds.items():
            feed.load_state_dict(own["feeds"][dimension])
        torch.set_rng_state(own["random"])
        if own["cuda_random"] is not None and device.type == "cuda":
            torch.cuda.set_rng_state(own["cuda_random"])
        self.step = description["step"]


def publish(model: MiTForPreTraining, settings: PretrainingSettings, folder: Path) -> None:
    """Write a model as it goes to others: weights, config, image processor, code."""
    model.save_pretrained(folder)
    height, width = settings.image_size
    MiTImageProcessor(
        image_size={"height": height, "width": width},
        grey_window=settings.grey_levels(),
        spacing=list(settings.spacing),
    ).save_pretrained(folder)
