"""The pretraining loop: phases, steps, log, checkpoints."""

import logging
import math
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from accelerate import Accelerator
from accelerate.utils import DistributedType, broadcast_object_list, gather_object, set_seed
from filelock import FileLock, Timeout

from ..data.stream import TooManyBadRecordsError
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
from .schedules import Hyperparameters
from .settings import PretrainingSettings
from .state import TrainingState, publish
from .update import NonFiniteGradientError, StudentUpdate, make_optimizer

logger = logging.getLogger(__name__)

# How long a run that was just stopped may take to save before another begins.
_LOCK_SECONDS = 30


class NonFiniteLossError(RuntimeError):
    """The loss or a gradient is not a number; nothing has been updated with it."""


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
        OSError: If a data set cannot be found, the output folder cannot be written, or another run
            is writing into it.
    """

    def __init__(self, settings: PretrainingSettings, accelerator: Accelerator | None = None):
        self.settings = settings
        self.output = Path(settings.output)
        self.output.mkdir(parents=True, exist_ok=True)
        self.accelerator = accelerator or Accelerator(
            log_with=settings.report_to or None, project_dir=str(self.output)
        )
        _check_accelerator(self.accelerator, settings)
        # Data first: nothing is built for a run that has none.
        if not settings.dimensions:
            raise ValueError(
                "There is no data to train on. Give dataset_2d, dataset_3d or both: a Hub name, a "
                "local folder, or files."
            )
        sources = {name: open_dataset(settings, name) for name in settings.dimensions}
        samples = {name: source.num_samples for name, source in sources.items()}
        self.plan = settings.plan(samples, self.accelerator.num_processes)
        self.schedules = settings.schedules(self.plan, self.accelerator.num_processes)
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
        self._saved_at: int | None = None
        self._lock = FileLock(self.output / ".lock")
        self._claim()
        try:
            self._resume()
        except BaseException:
            self._lock.release()
            raise

    def run(self) -> RunResult:
        """Train until the plan is done or a signal asks to stop; save in either case. Call it once.

        Raises:
            NonFiniteLossError: If the loss or a gradient is not finite. The state before that step
                is saved.
            TooManyBadRecordsError: If too many records of a data set are bad. The state before that
                step is saved.
        """
        try:
            return self._run()
        finally:
            for feed in self.state.feeds.values():
                feed.close()
            # What still holds the process group when the interpreter ends may abort the process.
            self._wrapped = self._distillation = None
            self.accelerator.free_memory()
            self.accelerator.end_training()
            self._lock.release()

    def _run(self) -> RunResult:
        state, accelerator = self.state, self.accelerator
        if accelerator.is_main_process:
            (self.output / "settings.yaml").write_text(
                yaml.safe_dump(self.settings.to_dict(), sort_keys=False), encoding="utf-8"
            )
        accelerator.init_trackers("unimiss", config=_flat(self.settings))
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
                stopped = self._agreed(stop.requested)
            self._save()
            result = RunResult(self.output, state.step, self.plan.total_steps)
            if result.finished and accelerator.is_main_process:
                self._publish(result.model)
        return result

    def _publish(self, folder: Path) -> None:
        """Write the model beside its place first, so that a whole one is there or none."""
        partial = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        publish(self.state.teacher, self.settings, partial)
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)

    # ------------------------------------------------------------------------------- building

    def _build(self, feeds: dict[str, Feed]) -> TrainingState:
        settings, accelerator = self.settings, self.accelerator
        set_seed(settings.seed)
        if settings.initial_checkpoint:
            student = MiTForPreTraining.from_pretrained(
                settings.initial_checkpoint,
                attn_implementation=settings.attn_implementation,
                dtype=torch.float32,
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
            slice_stride=settings.slice_stride,
        )
        self._update = StudentUpdate(
            student,
            teacher,
            optimizer,
            settings.gradient_clip,
            self._finish_gradients,
            passes_over_non_finite=accelerator.scaler is not None,
        )
        # From here on, what is random in training differs between processes.
        set_seed(settings.seed, device_specific=True)
        monitor = CollapseMonitor(student.config.num_prototypes)
        return TrainingState(
            settings, accelerator, student, teacher, objective, optimizer, monitor, feeds
        )

    def _claim(self) -> None:
        """Make sure that no other run writes into the folder."""
        if self.accelerator.is_main_process:
            try:
                self._lock.acquire(timeout=_LOCK_SECONDS)
            except Timeout as error:
                raise OSError(
                    f"Another run is writing into {self.output}; one that was just stopped may "
                    "still be saving. Wait for it, or give another --output."
                ) from error

    def _resume(self) -> None:
        # One process chooses for all: they may not see the same files.
        chosen = [self.checkpoints.latest() if self.accelerator.is_main_process else None]
        broadcast_object_list(chosen)
        latest = chosen[0]
        if latest is None:
            if self.checkpoints.steps():
                raise ValueError(
                    f"No checkpoint in {self.checkpoints.folder} is intact. Restore one, or give "
                    "another --output to start a new run."
                )
        elif self.settings.resume == "never":
            raise ValueError(
                f"{self.output} already holds a run, up to {latest.name}, and resume is 'never'. "
                "Give another --output, or --resume auto to continue it."
            )
        else:
            if not latest.is_dir():
                raise FileNotFoundError(
                    f"Process {self.accelerator.process_index} does not see {latest}, which the "
                    "main process does. All processes need the same output folder."
                )
            self.state.load(latest)
            self._saved_at = self.state.step
        if self.accelerator.is_main_process:
            # Lines of steps that are taken again would be there twice.
            self.log.truncate_after(self.state.step - 1)
            if latest is not None and self.state.step >= self.plan.total_steps:
                logger.info("%s is finished already.", self.output)
            elif latest is not None:
                logger.info("Continuing %s at step %d.", self.output, self.state.step)

    # ------------------------------------------------------------------------------- one step

    def _step(self, progress: Progress) -> None:
        state = self.state
        start = time.perf_counter()
        position = self.plan.position(state.step)
        dimension = position.dimension
        hyperparameters = self.schedules.at(state.step)
        centre = state.objective.centre.clone()
        batches, values = self._accumulate(dimension, hyperparameters)
        try:
            if not math.isfinite(values["loss"]):
                raise NonFiniteLossError(f"The loss is {values['loss']}.")
            norms = self._update(
                hyperparameters.learning_rate,
                hyperparameters.weight_decay,
                hyperparameters.teacher_momentum,
                hyperparameters.prototypes_frozen,
            )
        except (NonFiniteLossError, NonFiniteGradientError) as error:
            state.objective.centre.copy_(centre)
            state.optimizer.zero_grad()
            raise NonFiniteLossError(self._explain(error, batches, hyperparameters)) from error
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
            "data_wait": round(sum(batch.seconds_waited for batch in batches) / seconds, 4),
            "view_share": round(sum(batch.seconds_on_views for batch in batches) / seconds, 4),
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
        accumulation = self.settings.of("accumulation", dimension)
        batches, reports = [], []
        for _ in range(accumulation):
            batch = self._next_batch(dimension)
            # Gradients are averaged over processes once, when all of them are there.
            with self.accelerator.no_sync(self._wrapped):
                report = self._distillation.accumulate(
                    batch.views, hyperparameters.prototypes_frozen, 1 / accumulation
                )
            batches.append(batch)
            reports.append(report)
        return batches, self._reduce(reports, batches[-1].bad_records)

    def _next_batch(self, dimension: str) -> Batch:
        try:
            return self.state.feeds[dimension].next_batch()
        except TooManyBadRecordsError:
            # Other processes may still be training, so only a run of one can save here.
            if self.accelerator.num_processes == 1:
                self._save()
            raise

    def _explain(
        self, error: Exception, batches: list[Batch], hyperparameters: Hyperparameters
    ) -> str:
        """Save the state before a step that went wrong, and say what to do."""
        state = self.state
        names = gather_object(sorted({name for batch in batches for name in batch.names}))
        if state.is_finite():
            self._save()
            advice = (
                f"The state before this step is saved in {self.checkpoints.folder}; running again "
                "goes on behind this batch"
            )
        else:
            advice = (
                "The weights are not finite either, so they are not saved; running again goes on "
                f"from the newest checkpoint in {self.checkpoints.folder}"
            )
        return (
            f"{error} At step {state.step} ({self.plan.position(state.step).dimension}), with a "
            f"learning rate of {hyperparameters.learning_rate:.3g}. {advice}. It was read from "
            f"{', '.join(names)}: look at these files, lower base_learning_rate, or use bf16 "
            "instead of fp16."
        )

    def _reduce(self, reports: list[StepReport], bad_records: int) -> dict[str, float]:
        """Average losses and signs over batches and processes, with one exchange."""
        device = self.accelerator.device
        scalars = {"bad_records": torch.tensor(float(bad_records), device=device)}
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
        values["bad_records"] = round(values["bad_records"] * self.accelerator.num_processes)
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
        if self._saved_at == self.state.step:
            return
        processes = self.state.gather()
        if self.accelerator.is_main_process:
            self.checkpoints.save(
                self.state.step, lambda folder: self.state.save(folder, processes)
            )
        self.accelerator.wait_for_everyone()
        self._saved_at = self.state.step


def _check_accelerator(accelerator: Accelerator, settings: PretrainingSettings) -> None:
    if accelerator.gradient_accumulation_steps != 1:
        raise ValueError(
            f"Accelerate is configured for {accelerator.gradient_accumulation_steps} gradient "
            "accumulation steps. Leave that at 1, and give --accumulation_2d and "
            "--accumulation_3d instead."
        )
    # The teacher and the averaging of gradients need whole parameters in each process.
    sharding = (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM)
    if accelerator.distributed_type in sharding:
        raise ValueError(
            f"Accelerate is configured for {accelerator.distributed_type}; pretraining runs on one "
            "process or on several with data parallelism (DDP)."
        )
    missing = set(settings.report_to) - {str(tracker) for tracker in accelerator.log_with}
    if missing:
        raise ValueError(
            f"The trackers {sorted(missing)} are not installed or not known. Install them, as with "
            "pip install tensorboard, or leave them out of report_to."
        )


def _with_prefix(values: dict[str, float], prefix: str) -> dict[str, float]:
    return {k.removeprefix(prefix): v for k, v in values.items() if k.startswith(prefix)}


def _flat(settings: PretrainingSettings) -> dict[str, int | float | str | bool]:
    """Settings as trackers take them: scalars and text."""
    return {
        name: value if isinstance(value, (int, float, str, bool)) else str(value)
        for name, value in settings.to_dict().items()
    }
