"""What a checkpoint of fine-tuning holds, and how a run continues from it.

A checkpoint is a folder that the task's Auto class opens: weights, config, image processor, code,
card. What only training needs, the auxiliary heads too, is in `training_state/` beside them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from ..hub.compute_record import read_compute
from ..hub.endpoint_files import add_endpoint
from ..image_processing_mit import MiTImageProcessor
from ..training.continuation import require_same_processes, require_same_run
from ..training.publishing import TRAINING_STATE
from .card import make_card
from .description import TaskDescription
from .settings import FinetuningSettings
from .task_data import TaskData

_ONLY_IN_TRAINING = "auxiliary_heads."


@dataclass
class FinetuningState:
    """Everything that changes while a run goes on, and what a checkpoint says beside it.

    Attributes:
        settings: of the run.
        accelerator: its processes.
        model: unwrapped.
        optimizer: of the model.
        processor: what the model's inputs are prepared with.
        task: the data.
        step: optimiser steps taken.
        best: the best validation so far.
        since_best: validations since then.
        validation: the numbers of the last validation.
    """

    settings: FinetuningSettings
    accelerator: Accelerator
    model: PreTrainedModel
    optimizer: torch.optim.Optimizer
    processor: MiTImageProcessor
    task: TaskData
    step: int = 0
    best: float | None = None
    since_best: int = 0
    validation: dict[str, float] | None = None

    @property
    def is_out_of_patience(self) -> bool:
        """Whether so many validations were no better that the run stops early."""
        patience = self.settings.patience
        return patience is not None and self.since_best >= patience

    def judge(self, value: float | None, mode: str) -> None:
        """Count a validation as the best so far, or as one more since."""
        better = value is not None and (
            self.best is None or (value > self.best if mode == "max" else value < self.best)
        )
        if better:
            self.best, self.since_best = value, 0
        else:
            self.since_best += 1

    def is_finite(self) -> bool:
        """Whether every weight is a number; every process must call it."""
        finite = all(bool(weight.isfinite().all()) for weight in self.model.parameters())
        return all(gather_object([finite]))

    def gather(self) -> list[dict[str, Any]]:
        """Collect what differs between processes; every process must call it."""
        is_cuda = self.accelerator.device.type == "cuda"
        own = {
            "random": torch.get_rng_state(),
            "cuda_random": torch.cuda.get_rng_state() if is_cuda else None,
        }
        return gather_object([own])

    def save(self, folder: Path, snapshot: list[dict[str, Any]]) -> None:
        """Write a checkpoint; the main process calls it with what [`gather`] returned."""
        self._publish(folder)
        inner = folder / TRAINING_STATE
        inner.mkdir()
        auxiliary = {
            name: tensor
            for name, tensor in self.model.state_dict().items()
            if name.startswith(_ONLY_IN_TRAINING)
        }
        save_file(auxiliary, inner / "auxiliary_heads.safetensors")
        scaler = self.accelerator.scaler
        torch.save(
            {
                "optimizer": self.optimizer.state_dict(),
                "scaler": None if scaler is None else scaler.state_dict(),
                "processes": snapshot,
            },
            inner / "state.pt",
        )
        description = {
            "step": self.step,
            "best": self.best,
            "since_best": self.since_best,
            "validation": self.validation,
            "mixed_precision": self.accelerator.mixed_precision,
            "settings": self.settings.to_dict(),
        }
        (inner / "run.json").write_text(json.dumps(description, indent=2) + "\n")

    def _publish(self, folder: Path) -> None:
        """Write the model as it goes to others, without what only training needs."""
        config = self.model.config
        trained_with = config.deep_supervision
        try:
            config.deep_supervision = False
            weights = {
                name: tensor
                for name, tensor in self.model.state_dict().items()
                if not name.startswith(_ONLY_IN_TRAINING)
            }
            self.model.save_pretrained(folder, state_dict=weights)
        finally:
            config.deep_supervision = trained_with
        self.processor.save_pretrained(folder)
        add_endpoint(folder)
        TaskDescription.of(self.settings, self.task, self.processor).save(folder)
        card = make_card(
            self.model,
            self.processor,
            self.settings,
            self.task,
            self.step,
            self.validation,
            read_compute(
                Path(self.settings.output) / "log.jsonl",
                self.step,
                self.accelerator.num_processes,
                self.accelerator.device,
            ),
        )
        card.save(folder / "README.md")

    def load(self, folder: Path) -> None:
        """Continue from a checkpoint.

        Raises:
            ValueError: If it belongs to a run with other settings or other processes.
        """
        inner = folder / TRAINING_STATE
        description = json.loads((inner / "run.json").read_text())
        require_same_run(
            folder,
            self.settings.differences(description["settings"]),
            description["mixed_precision"],
            self.accelerator.mixed_precision,
        )
        saved = torch.load(inner / "state.pt", map_location="cpu", weights_only=True)
        require_same_processes(folder, len(saved["processes"]), self.accelerator.num_processes)
        weights = load_file(folder / "model.safetensors")
        self.model.load_state_dict(weights | load_file(inner / "auxiliary_heads.safetensors"))
        self.optimizer.load_state_dict(saved["optimizer"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(saved["scaler"])
        own = saved["processes"][self.accelerator.process_index]
        torch.set_rng_state(own["random"])
        if own["cuda_random"] is not None and self.accelerator.device.type == "cuda":
            torch.cuda.set_rng_state(own["cuda_random"])
        self.step = description["step"]
        self.best, self.since_best = description["best"], description["since_best"]
        self.validation = description["validation"]
