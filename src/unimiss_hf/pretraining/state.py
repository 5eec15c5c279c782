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

from ..hub.compute_record import read_compute
from ..hub.endpoint_files import add_endpoint
from ..modeling_mit import MiTForPreTraining
from ..training.continuation import require_same_processes, require_same_run
from ..training.publishing import TRAINING_STATE
from ..training.sharding import (
    is_split,
    load_whole_optimizer_state,
    load_whole_state_dict,
    own_part,
    whole_optimizer_state,
    whole_state_dict,
)
from .card import make_card, processor_of
from .feed import Feed
from .monitoring import CollapseMonitor
from .objective import SelfDistillationObjective
from .parallelism import precision_of
from .settings import PretrainingSettings


@dataclass(frozen=True)
class Snapshot:
    """What a checkpoint is written from: on the main process, whole; on others, next to nothing.

    Args:
        teacher: The teacher, in one piece.
        student: The student's weights, each in one piece.
        optimizer: What `optimizer.state_dict()` returns, with each tensor in one piece.
        processes: What differs between processes, one entry for each.
    """

    teacher: MiTForPreTraining
    student: dict[str, torch.Tensor]
    optimizer: dict[str, Any]
    processes: list[dict[str, Any]]


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
    total_steps: int
    step: int = 0

    def is_finite(self) -> bool:
        """Whether every weight of student and teacher is a number; every process must call it."""
        finite = all(
            own_part(parameter.detach()).isfinite().all()
            for model in (self.student, self.teacher)
            for parameter in model.parameters()
        )
        return all(gather_object([finite]))

    def whole_teacher(self) -> MiTForPreTraining:
        """Return the teacher in one piece, on the main process; every process must call it."""
        if not is_split(self.teacher):
            return self.teacher
        is_main = self.accelerator.is_main_process
        weights = whole_state_dict(self.teacher, keep=is_main)
        with torch.device("meta"):
            teacher = MiTForPreTraining(self.teacher.config)
        if is_main:
            teacher.load_state_dict(weights, assign=True)
        return teacher

    def gather(self) -> Snapshot:
        """Collect what lies in different processes; every process must call it."""
        is_main = self.accelerator.is_main_process
        own = {
            "feeds": {dimension: feed.state_dict() for dimension, feed in self.feeds.items()},
            "random": torch.get_rng_state(),
            "cuda_random": (
                torch.cuda.get_rng_state() if self.accelerator.device.type == "cuda" else None
            ),
        }
        return Snapshot(
            self.whole_teacher(),
            whole_state_dict(self.student, keep=is_main),
            whole_optimizer_state(self.optimizer, keep=is_main),
            gather_object([own]),
        )

    def save(self, folder: Path, snapshot: Snapshot) -> None:
        """Write a checkpoint; the main process calls it with what [`gather`] returned."""
        publish(snapshot.teacher, self.settings, folder)
        compute = read_compute(
            Path(self.settings.output) / "log.jsonl",
            self.step,
            self.accelerator.num_processes,
            self.accelerator.device,
        )
        card = make_card(snapshot.teacher, self.settings, self.step, self.total_steps, compute)
        card.save(folder / "README.md")
        folder = folder / TRAINING_STATE
        folder.mkdir()
        save_file(
            {name: tensor.contiguous() for name, tensor in snapshot.student.items()},
            folder / "student.safetensors",
        )
        save_file({"centre": self.objective.centre}, folder / "objective.safetensors")
        scaler = self.accelerator.scaler
        torch.save(
            {
                "optimizer": snapshot.optimizer,
                "scaler": scaler.state_dict() if scaler is not None else None,
                "monitor": self.monitor.state_dict(),
                "processes": snapshot.processes,
            },
            folder / "state.pt",
        )
        description = {
            "step": self.step,
            "mixed_precision": precision_of(self.accelerator),
            "settings": self.settings.to_dict(),
        }
        (folder / "run.json").write_text(json.dumps(description, indent=2) + "\n")

    def load(self, folder: Path) -> None:
        """Continue from a checkpoint.

        Raises:
            ValueError: If it belongs to a run with other settings or other processes.
        """
        description = json.loads((folder / TRAINING_STATE / "run.json").read_text())
        require_same_run(
            folder,
            self.settings.differences(description["settings"]),
            description["mixed_precision"],
            precision_of(self.accelerator),
        )
        device = self.accelerator.device
        state = torch.load(
            folder / TRAINING_STATE / "state.pt", map_location="cpu", weights_only=True
        )
        require_same_processes(folder, len(state["processes"]), self.accelerator.num_processes)
        load_whole_state_dict(self.teacher, load_file(folder / "model.safetensors"))
        load_whole_state_dict(
            self.student, load_file(folder / TRAINING_STATE / "student.safetensors")
        )
        self.objective.centre.copy_(
            load_file(folder / TRAINING_STATE / "objective.safetensors")["centre"]
        )
        load_whole_optimizer_state(self.optimizer, state["optimizer"])
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
    processor_of(settings).save_pretrained(folder)
    add_endpoint(folder)
