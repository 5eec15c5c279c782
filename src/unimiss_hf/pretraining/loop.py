"""The pretraining loop: phases, steps, log, checkpoints."""

import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, set_seed

from ..data.stream import TooManyBadRecordsError
from ..modeling_mit import MiTForPreTraining
from ..saved_models import locate
from ..training.failures import NonFiniteLossError
from ..training.host_memory import keep_freed_memory
from ..training.progress import Progress
from ..training.ranking import Ranking
from ..training.run_folder import RunFolder, make_folder
from ..training.signals import StopRequest, follow_parent
from ..training.trackers import begin_trackers, check_trackers
from .acceleration import choose_float32_arithmetic, compile_blocks
from .distillation import SelfDistillation, StepReport, make_teacher
from .feed import Batch, Feed, open_dataset
from .log_line import number_names, step_line
from .monitoring import CollapseMonitor
from .objective import SelfDistillationObjective
from .parallelism import check_accelerator, mean_over_processes, place
from .schedules import Hyperparameters
from .settings import PretrainingSettings
from .state import TrainingState
from .teacher_probe import TeacherProbe
from .update import NonFiniteGradientError, StudentUpdate


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    Args:
        output: The run's folder.
        step: Optimiser steps taken in all.
        total_steps: Optimiser steps of the whole run.
        best: The best checkpoint's folder, if `best_metric` says what that is.
    """

    output: Path
    step: int
    total_steps: int
    best: Path | None = None

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

    The process and those that read for it keep memory that they free (see `keep_freed_memory`).

    Args:
        settings: Settings of the run.
        accelerator: Devices, processes and mixed precision; by default what `accelerate launch`
            or `accelerate config` say.

    Raises:
        ValueError: If there is no data, if a data set's length is not known and not given, if
            the output folder holds another run, or if Accelerate is configured for what
            pretraining cannot run with.
        OSError: If a data set cannot be found, the output folder cannot be written, or another run
            is writing into it.
    """

    def __init__(self, settings: PretrainingSettings, accelerator: Accelerator | None = None):
        self.settings = settings
        self.output = make_folder(settings.output)
        self.accelerator = accelerator or Accelerator(
            log_with=settings.report_to or None, project_dir=str(self.output)
        )
        check_accelerator(self.accelerator)
        keep_freed_memory()
        check_trackers(self.accelerator, settings.report_to)
        # Data first: nothing is built for a run that has none.
        if not settings.dimensions:
            raise ValueError(
                "There is no data to train on. Give dataset_2d, dataset_3d or both: a Hub name, a "
                "local folder, or files."
            )
        sources = {name: open_dataset(settings, name) for name in settings.dimensions}
        self._probe = (
            None if settings.probe_every is None else TeacherProbe(settings, self.accelerator)
        )
        samples = {name: source.num_samples for name, source in sources.items()}
        self.plan = settings.plan(samples, self.accelerator.num_processes)
        self.schedules = settings.schedules(self.plan, self.accelerator.num_processes)
        self.folder = RunFolder(
            settings, self.accelerator, self.plan.total_steps, _ranking(settings)
        )
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
        self.folder.claim()
        try:
            self.folder.resume(self.state)
        except BaseException:
            self.folder.release()
            raise

    def run(self) -> RunResult:
        """Train until the plan is done or a signal asks to stop; save in either case. Call it once.

        Raises:
            NonFiniteLossError: If the loss or a gradient is not finite. The state before that step
                is saved.
            TooManyBadRecordsError: If too many records of a data set are bad. The state before that
                step is saved.
        """
        accelerator = self.accelerator
        with (
            StopRequest(announce=accelerator.is_main_process) as stop,
            Progress(
                total=self.plan.total_steps,
                initial=self.state.step,
                enabled=accelerator.is_main_process,
            ) as progress,
            self.folder,
        ):
            try:
                result = self._train(stop, progress)
            finally:
                for feed in self.state.feeds.values():
                    feed.close()
                # What still holds the process group when the interpreter ends may abort the
                # process.
                self._placement = self._distillation = self._update = None
                accelerator.free_memory()
                accelerator.end_training()
            # No other process waits for the Hub: all have left the group.
            self.folder.finish_uploads(result.finished, lambda: stop.requested)
        return result

    def _train(self, stop: StopRequest, progress: Progress) -> RunResult:
        state, accelerator = self.state, self.accelerator
        begin_trackers(accelerator, self.settings.to_dict(), state.step)
        self.folder.begin(progress.write)
        follow_parent()
        stopped = False
        while state.step < self.plan.total_steps and not stopped:
            stopped = self._step(progress, stop)
            if state.step % self.settings.checkpoint_every == 0:
                self.folder.save(state)
        self.folder.save(state, last=True)
        # From here on, a signal only ends the wait for the Hub, which says what is left.
        stop.announce = False
        result = RunResult(self.output, state.step, self.plan.total_steps, self.folder.best)
        if result.finished and accelerator.is_main_process:
            self.folder.write_model()
        return result

    # ------------------------------------------------------------------------------- building

    def _build(self, feeds: dict[str, Feed]) -> TrainingState:
        settings, accelerator = self.settings, self.accelerator
        set_seed(settings.seed)
        if settings.initial_checkpoint:
            student = MiTForPreTraining.from_pretrained(
                locate(settings.initial_checkpoint),
                attn_implementation=settings.attn_implementation,
                dtype=torch.float32,
            )
        else:
            student = MiTForPreTraining._from_config(
                settings.model_config(), attn_implementation=settings.attn_implementation
            )
        if settings.gradient_checkpointing:
            student.activation_checkpointing_enable()
        teacher = make_teacher(student)
        student.train()
        choose_float32_arithmetic(settings.tf32)
        if settings.compile_blocks:
            compile_blocks(student)
            compile_blocks(teacher)
        objective = SelfDistillationObjective(
            student.config.num_prototypes, settings.objective(), self._mean
        ).to(accelerator.device)

        self._placement = place(accelerator, student, teacher)
        student, teacher = self._placement.student, self._placement.teacher
        self._distillation = SelfDistillation(
            student,
            teacher,
            objective,
            forward=self._placement.forward,
            backward=self._placement.backward,
            autocast=self._placement.autocast,
            samples_per_backward=settings.samples_per_backward,
            slice_stride=settings.slice_stride,
        )
        self._update = StudentUpdate(
            student,
            teacher,
            self._placement.optimizer,
            settings.gradient_clip,
            self._placement.finish_gradients,
            passes_over_non_finite=accelerator.scaler is not None,
        )
        # From here on, what is random in training differs between processes.
        set_seed(settings.seed, device_specific=True)
        monitor = CollapseMonitor(student.config.num_prototypes)
        optimizer = self._placement.optimizer
        return TrainingState(
            settings,
            accelerator,
            student,
            teacher,
            objective,
            optimizer,
            monitor,
            feeds,
            self.plan.total_steps,
        )

    # ------------------------------------------------------------------------------- one step

    def _step(self, progress: Progress, stop: StopRequest) -> bool:
        """Take an optimiser step; return whether all are to stop behind it."""
        state = self.state
        start = time.perf_counter()
        position = self.plan.position(state.step)
        dimension = position.dimension
        hyperparameters = self.schedules.at(state.step)
        centre = state.objective.centre.clone()
        batches, reports = self._accumulate(dimension, hyperparameters)
        norm = self._update.clip().norm()
        # The one time in a step that a GPU is waited for.
        values, gradient_norm, stopped = self._read(
            reports, norm, batches[-1].bad_records, stop.requested
        )
        try:
            if not math.isfinite(values["loss"]):
                raise NonFiniteLossError(f"The loss is {values['loss']}.")
            self._update.require_finite(gradient_norm)
            self._update.step(
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
        line = step_line(
            state.step,
            position,
            values,
            hyperparameters,
            gradient_norm,
            batches,
            samples,
            seconds,
        )
        probed = self._probe is not None and self._probe.is_due(state.step + 1)
        if probed:
            line |= self._probe.measure(state)
        self.folder.note(line, always=probed)
        if probed or state.step % self.settings.log_every == 0:
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
        return stop.requested if self.accelerator.num_processes == 1 else stopped

    def _accumulate(
        self, dimension: str, hyperparameters: Hyperparameters
    ) -> tuple[list[Batch], list[StepReport]]:
        """Run the batches of one optimiser step forward and backward."""
        accumulation = self.settings.of("accumulation", dimension)
        batches, reports = [], []
        for _ in range(accumulation):
            batch = self._next_batch(dimension)
            with self._placement.accumulating():
                report = self._distillation.accumulate(
                    batch.views, hyperparameters.prototypes_frozen, 1 / accumulation
                )
            batches.append(batch)
            reports.append(report)
        return batches, reports

    def _next_batch(self, dimension: str) -> Batch:
        try:
            return self.state.feeds[dimension].next_batch()
        except TooManyBadRecordsError:
            # Other processes may still be training, so only a run of one can save here.
            if self.accelerator.num_processes == 1:
                self.folder.save(self.state)
            raise

    def _explain(
        self, error: Exception, batches: list[Batch], hyperparameters: Hyperparameters
    ) -> str:
        """Save the state before a step that went wrong, and say what to do."""
        state = self.state
        names = gather_object(sorted({name for batch in batches for name in batch.names}))
        checkpoints = self.folder.checkpoints.folder
        if state.is_finite():
            self.folder.save(self.state)
            advice = (
                f"The state before this step is saved in {checkpoints}; running again goes on "
                "behind this batch"
            )
        else:
            advice = (
                "The weights are not finite either, so they are not saved; running again goes on "
                f"from the newest checkpoint in {checkpoints}"
            )
        return (
            f"{error} At step {state.step} ({self.plan.position(state.step).dimension}), with a "
            f"learning rate of {hyperparameters.learning_rate:.3g}. {advice}. It was read from "
            f"{', '.join(names)}: look at these files, lower base_learning_rate, or use bf16 "
            "instead of fp16."
        )

    def _read(
        self, reports: list[StepReport], norm: torch.Tensor, bad_records: int, asked_to_stop: bool
    ) -> tuple[dict[str, float], float, bool]:
        """Average losses and signs over batches and processes, with one exchange.

        Args:
            reports: What the batches told.
            norm: The norm of all gradients, the same in all processes.
            bad_records: Records that this process could not read so far.
            asked_to_stop: Whether this process was.

        Returns:
            Losses and signs by name, the norm, and whether any process was asked to stop: all stop
            at the same step.
        """
        scalars = {}
        for name in reports[0].losses:
            scalars[f"loss/{name}"] = torch.stack([r.losses[name] for r in reports]).mean()
            scalars[f"entropy/{name}"] = torch.stack([r.entropies[name] for r in reports]).mean()
        means = {
            output: torch.stack([report.mean_bottlenecks[output] for report in reports]).mean(0)
            for output in reports[0].mean_bottlenecks
        }
        own = torch.tensor([float(bad_records), float(asked_to_stop)])
        own = own.to(self.accelerator.device, non_blocking=True)
        flat = torch.cat([own, torch.stack(list(scalars.values())).float(), *means.values()])
        flat = torch.cat([norm.reshape(1).to(flat), self._mean(flat.float())]).cpu()
        gradient_norm, bad_share, stop_share, *numbers = flat[: 3 + len(scalars)].tolist()
        values = {
            "bad_records": round(bad_share * self.accelerator.num_processes),
            **dict(zip(scalars, numbers, strict=True)),
        }
        loss = sum(value for name, value in values.items() if name.startswith("loss/"))
        pieces = flat[3 + len(scalars) :].chunk(len(means))
        spreads = {
            f"spread/{output}": self.state.monitor.spread(output, piece)
            for output, piece in zip(means, pieces, strict=True)
        }
        return {"loss": loss, **values, **spreads}, gradient_norm, stop_share > 0

    # ------------------------------------------------------------------------------- processes

    def _mean(self, tensor: torch.Tensor) -> torch.Tensor:
        return mean_over_processes(self.accelerator, tensor)


def _with_prefix(values: dict[str, float], prefix: str) -> dict[str, float]:
    return {k.removeprefix(prefix): v for k, v in values.items() if k.startswith(prefix)}


def _ranking(settings: PretrainingSettings) -> Ranking | None:
    if settings.best_metric is None:
        return None
    names = number_names(settings.dimensions, probed=settings.probe_every is not None)
    if settings.best_metric not in names:
        raise ValueError(
            f"best_metric is {settings.best_metric!r}, and the log of this run has no such number. "
            f"It has {', '.join(names)}; with probe_every, it has numbers of probes, too."
        )
    return Ranking(settings.best_metric, settings.best_mode)
