"""The pretraining loop: phases, steps, log, checkpoints."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from accelerate import Accelerator
from accelerate.utils import set_seed

from ..modeling_mit import MiTForPreTraining
from ..training.checkpoints import CheckpointStore
from ..training.gradients import average_gradients_
from ..training.progress import Progress
from ..training.run_log import RunLog
from ..training.signals import StopRequest, follow_parent
from .distillation import SelfDistillation, StepReport, make_teacher
from .feed import Batch, Feed, open_dataset
from .monitoring import CollapseMonitor
from .objective import SelfDistillationObjective
from .plan import Phase, Plan
from .schedules import Hyperparameters, Schedules
from .settings import PretrainingSettings
from .state import TrainingState, publish
from .update import StudentUpdate, make_optimizer

logger = logging.getLogger(__name__)


class NonFiniteLossError(RuntimeError):
    """The loss is not a number any more; the state before the step has been saved."""


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    Args:
        output: The run's folder.
        step: Optimiser steps taken in all.
        total_steps: Optimiser steps of the whole run.
    """

    output: Path
    step: int
    total_steps: int

    @property
    def finished(self) -> bool:
        """Whether all steps have been taken."""
        return self.step >= self.total_steps

    @property
    def model(self) -> Path:
        """The folder that `AutoModel.from_pretrained` opens, once the run is finished."""
        return self.output / "model"


class Pretrainer:
    """Pretrains MiT on two dimensions in turn, by self-distillation.

    Args:
        settings: Settings of the run.
        accelerator: Devices, processes and mixed precision; by default what `accelerate launch`
            or `accelerate config` say.

    Raises:
        ValueError: If there is no data, if a data set's length is not known and not given, or if
            the output folder holds another run.
        OSError: If a data set cannot be found, or the output folder cannot be written.
    """

    def __init__(self, settings: PretrainingSettings, accelerator: Accelerator | None = None):
        self.settings = settings
        self.output = Path(settings.output)
        self.output.mkdir(parents=True, exist_ok=True)
        self.accelerator = accelerator or Accelerator(
            log_with=settings.report_to or None, project_dir=str(self.output)
        )
        # Data first: nothing is built for a run that has none.
        if not settings.dimensions:
            raise ValueError(
                "There is no data to train on. Give dataset_2d, dataset_3d or both: a Hub name, a "
                "local folder, or files."
            )
        sources = {name: open_dataset(settings, name) for name in settings.dimensions}
        samples = {name: source.num_samples for name, source in sources.items()}
        self.plan = make_plan(settings, samples, self.accelerator.num_processes)
        self.schedules = make_schedules(settings, self.plan, self.accelerator.num_processes)
        self.checkpoints = CheckpointStore(self.output / "checkpoints", settings.max_checkpoints)
        self.log = RunLog(self.output / "log.jsonl")
        feeds = {
            name: Feed(
                settings,
                name,
                source,
                self.accelerator.device,
                self.accelerator.process_index,
                self.accelerator.num_processes,
            )
            for name, source in sources.items()
        }
        self.state = self._build(feeds)
        self._resume()

    def run(self) -> RunResult:
        """Train until the plan is done or a signal asks to stop; save in either case.

        Raises:
            NonFiniteLossError: If the loss is not finite. The state before that step is saved.
            RuntimeError: If too many records of a data set are bad.
        """
        state, accelerator = self.state, self.accelerator
        if accelerator.is_main_process:
            (self.output / "settings.yaml").write_text(
                yaml.safe_dump(self.settings.to_dict(), sort_keys=False)
            )
        accelerator.init_trackers("unimiss", config=_flat(self.settings))
        saved_at = state.step
        with (
            StopRequest(announce=accelerator.is_main_process) as stop,
            Progress(
                total=self.plan.total_steps,
                initial=state.step,
                enabled=accelerator.is_main_process,
            ) as progress,
        ):
            follow_parent()
            stopped = False
            while state.step < self.plan.total_steps and not stopped:
                self._step(progress)
                if state.step % self.settings.checkpoint_every == 0:
                    self._save()
                    saved_at = state.step
                stopped = self._agreed(stop.requested)
            if saved_at != state.step:
                self._save()
            result = RunResult(self.output, state.step, self.plan.total_steps)
            if result.finished and accelerator.is_main_process:
                publish(state.teacher, self.settings, result.model)
        accelerator.end_training()
        return result

    # ------------------------------------------------------------------------------- building

    def _build(self, feeds: dict[str, Feed]) -> TrainingState:
        settings, accelerator = self.settings, self.accelerator
        set_seed(settings.seed)
        if settings.initial_checkpoint:
            student = MiTForPreTraining.from_pretrained(
                settings.initial_checkpoint, attn_implementation=settings.attn_implementation
            )
        else:
            student = MiTForPreTraining._from_config(
                settings.model_config(), attn_implementation=settings.attn_implementation
            )
        if settings.gradient_checkpointing:
            student.activation_checkpointing_enable()
        teacher = make_teacher(student).to(accelerator.device)
        student.train()
        objective = SelfDistillationObjective(
            student.config.num_prototypes, settings.objective(), self._mean
        ).to(accelerator.device)

        self._wrapped = accelerator.prepare(student)
        student = accelerator.unwrap_model(self._wrapped)
        optimizer = accelerator.prepare(make_optimizer(student))
        self._distillation = SelfDistillation(
            student,
            teacher,
            objective,
            forward=self._wrapped,
            backward=accelerator.backward,
            autocast=accelerator.autocast,
            samples_per_backward=settings.samples_per_backward,
        )
        self._update = StudentUpdate(
            student, teacher, optimizer, settings.gradient_clip, self._finish_gradients
        )
        monitor = CollapseMonitor(student.config.num_prototypes)
        return TrainingState(
            settings, accelerator, student, teacher, objective, optimizer, monitor, feeds
        )

    def _resume(self) -> None:
        latest = self.checkpoints.latest()
        if latest is None:
            if self.checkpoints.steps():
                raise ValueError(
                    f"No checkpoint in {self.checkpoints.folder} is intact. Restore one, or give "
                    "another --output to start a new run."
                )
            return
        if self.settings.resume == "never":
            raise ValueError(
                f"{self.output} already holds a run, up to {latest.name}, and resume is 'never'. "
                "Give another --output, or --resume auto to continue it."
            )
        self.state.load(latest)
        if self.accelerator.is_main_process:
            self.log.truncate_after(self.state.step - 1)
            logger.info("Continuing %s at step %d.", self.output, self.state.step)

    # ------------------------------------------------------------------------------- one step

    def _step(self, progress: Progress) -> None:
        state = self.state
        start = time.perf_counter()
        position = self.plan.position(state.step)
        dimension = position.dimension
        hyperparameters = self.schedules.at(state.step)
        batches, values = self._accumulate(dimension, hyperparameters)
        norms = self._update(
            hyperparameters.learning_rate,
            hyperparameters.weight_decay,
            hyperparameters.teacher_momentum,
            hyperparameters.prototypes_frozen,
        )
        samples = sum(len(batch) for batch in batches) * self.accelerator.num_processes
        seconds = time.perf_counter() - start
        entropies = _with_prefix(values, "entropy/")
        spreads = _with_prefix(values, "spread/")
        for sentence in state.monitor.warnings(entropies, spreads):
            if self.accelerator.is_main_process:
                progress.write(f"Warning: {sentence}")
        line = {
            "step": state.step,
            "epoch": position.epoch,
            "dimension": dimension,
            **values,
            "learning_rate": hyperparameters.learning_rate,
            "weight_decay": hyperparameters.weight_decay,
            "teacher_momentum": hyperparameters.teacher_momentum,
            "gradient_norm": norms.norm().item(),
            "samples": samples,
            "seconds": round(seconds, 4),
            "bad_records": max(batch.bad_records for batch in batches),
        }
        if state.step % self.settings.log_every == 0:
            if self.accelerator.is_main_process:
                self.log.write(line)
            numbers = {k: v for k, v in line.items() if k not in ("step", "dimension")}
            self.accelerator.log(numbers, step=state.step)
        state.step += 1
        progress.update(
            loss=values["loss"],
            lr=hyperparameters.learning_rate,
            samples=samples,
            kind=dimension,
            remaining=self.plan.remaining(state.step),
        )

    def _accumulate(
        self, dimension: str, hyperparameters: Hyperparameters
    ) -> tuple[list[Batch], dict[str, float]]:
        """Run the batches of one optimiser step forward and backward."""
        state = self.state
        accumulation = self.settings.of("accumulation", dimension)
        centre = state.objective.centre.clone()
        batches, reports = [], []
        for _ in range(accumulation):
            batch = state.feeds[dimension].next_batch()
            # Gradients are averaged over processes once, when all of them are there.
            with self.accelerator.no_sync(self._wrapped):
                report = self._distillation.accumulate(
                    batch.views, hyperparameters.prototypes_frozen, 1 / accumulation
                )
            batches.append(batch)
            reports.append(report)
        values = self._reduce(reports)
        if not torch.isfinite(torch.tensor(values["loss"])):
            state.objective.centre.copy_(centre)
            state.optimizer.zero_grad()
            self._save()
            names = sorted({name for batch in batches for name in batch.names})
            raise NonFiniteLossError(
                f"The loss is {values['loss']} at step {state.step} ({dimension}), with a learning "
                f"rate of {hyperparameters.learning_rate:.3g}. The state before this step is saved "
                f"in {self.checkpoints.folder}; running again goes on behind this batch, which was "
                f"read from {', '.join(names)}. Look at these files, or lower "
                "base_learning_rate, or use bf16 instead of fp16."
            )
        return batches, values

    def _reduce(self, reports: list[StepReport]) -> dict[str, float]:
        """Average losses and signs over batches and processes, with one exchange."""
        scalars = {}
        for name in reports[0].losses:
            scalars[f"loss/{name}"] = torch.stack([r.losses[name] for r in reports]).mean()
            scalars[f"entropy/{name}"] = torch.stack([r.entropies[name] for r in reports]).mean()
        means = {
            output: torch.stack([report.mean_bottlenecks[output] for report in reports]).mean(0)
            for output in reports[0].mean_bottlenecks
        }
        flat = torch.cat([torch.stack(list(scalars.values())).float(), *means.values()])
        flat = self._mean(flat.float()).cpu()
        values = dict(zip(scalars, flat[: len(scalars)].tolist(), strict=True))
        loss = sum(value for name, value in values.items() if name.startswith("loss/"))
        pieces = flat[len(scalars) :].chunk(len(means))
        spreads = {
            f"spread/{output}": self.state.monitor.spread(output, piece)
            for output, piece in zip(means, pieces, strict=True)
        }
        return {"loss": loss, **values, **spreads}

    def _finish_gradients(self) -> None:
        if self.accelerator.num_processes > 1:
            average_gradients_(self.state.student.parameters(), self._mean)
        self.accelerator.unscale_gradients(self.state.optimizer)

    # ------------------------------------------------------------------------------- processes

    def _mean(self, tensor: torch.Tensor) -> torch.Tensor:
        if self.accelerator.num_processes == 1:
            return tensor
        return self.accelerator.reduce(tensor, reduction="mean")

    def _agreed(self, requested: bool) -> bool:
        """Whether any process was asked to stop: all stop at the same step."""
        if self.accelerator.num_processes == 1:
            return requested
        flag = torch.tensor(float(requested), device=self.accelerator.device)
        return self.accelerator.reduce(flag, reduction="sum").item() > 0

    def _save(self) -> None:
        processes = self.state.gather()
        if self.accelerator.is_main_process:
            self.checkpoints.save(
                self.state.step, lambda folder: self.state.save(folder, processes)
            )
        self.accelerator.wait_for_everyone()


def make_plan(
    settings: PretrainingSettings, samples: dict[str, int | None], world_size: int
) -> Plan:
    """Lay out the phases of a run.

    Args:
        settings: Settings of the run.
        samples: How many records each dimension's data set has, or `None` where it is not known.
        world_size: Number of processes.

    Raises:
        ValueError: If the length of an epoch is neither known nor given.
    """
    phases = []
    for dimension in settings.dimensions:
        steps = settings.of("steps_per_epoch", dimension)
        if steps is None:
            if samples[dimension] is None:
                raise ValueError(
                    f"dataset_{dimension} is a stream whose length is not known. Give "
                    f"steps_per_epoch_{dimension}, the optimiser steps of an epoch."
                )
            per_record = settings.crops_per_volume if dimension == "3d" else 1
            steps = (
                samples[dimension] * per_record // _global_batch(settings, dimension, world_size)
            )
        phases.append(Phase(dimension, settings.of("epochs_per_phase", dimension), steps))
    return Plan(phases, epochs=settings.epochs, max_steps=settings.max_steps)


def make_schedules(settings: PretrainingSettings, plan: Plan, world_size: int) -> Schedules:
    """Make the schedules of a run over its plan."""
    return Schedules(
        plan,
        {name: _global_batch(settings, name, world_size) for name in settings.dimensions},
        settings.base_learning_rate,
        settings.final_learning_rate,
        settings.warmup_epochs,
        settings.weight_decay,
        settings.final_weight_decay,
        settings.teacher_momentum,
        settings.final_teacher_momentum,
        settings.frozen_prototype_epochs,
    )


def _global_batch(settings: PretrainingSettings, dimension: str, world_size: int) -> int:
    return (
        settings.of("batch_size", dimension) * settings.of("accumulation", dimension) * world_size
    )


def _with_prefix(values: dict[str, float], prefix: str) -> dict[str, float]:
    return {k.removeprefix(prefix): v for k, v in values.items() if k.startswith(prefix)}


def _flat(settings: PretrainingSettings) -> dict[str, int | float | str | bool]:
    """Settings as trackers take them: scalars and text."""
    return {
        name: value if isinstance(value, (int, float, str, bool)) else str(value)
        for name, value in settings.to_dict().items()
    }
