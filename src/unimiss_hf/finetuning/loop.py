"""The fine-tuning loop: steps, validation, the best checkpoint, scores at the end."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, DynamoBackend, gather_object, set_seed

from ..data.labelled.label_bits import unpack_masks
from ..training.failures import NonFiniteLossError
from ..training.gradients import average_gradients_
from ..training.host_memory import keep_freed_memory
from ..training.optimizers import parameter_groups, set_hyperparameters
from ..training.progress import Progress
from ..training.ranking import Ranking
from ..training.run_folder import RunFolder, make_folder
from ..training.signals import StopRequest, follow_parent
from ..training.trackers import begin_trackers, check_trackers
from .augmentation import Augmentation, AugmentationSettings
from .description import window_settings
from .model import learning_rate_factors, open_model, open_processor
from .prepared_cases import CaseCache, PreparedCase, require_every_class
from .samples import SampleBatch, SampleDataset, SampleOrder, batches_from
from .schedule import learning_rate_at
from .settings import FinetuningSettings
from .state import FinetuningState
from .task_data import TaskData, check_mirror, open_task_data
from .validation import PREFIX, default_metric, number_names, validate


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    Attributes:
        output: the run's folder.
        step: optimiser steps taken in all.
        total_steps: those of the whole run.
        stopped_early: whether validation had not become better for long enough.
        best: the best checkpoint's folder; `None` where nothing was validated yet.
        best_value: what it was judged by.
    """

    output: Path
    step: int
    total_steps: int
    stopped_early: bool
    best: Path | None
    best_value: float | None

    @property
    def finished(self) -> bool:
        """Whether no step is to come."""
        return self.stopped_early or self.step >= self.total_steps

    @property
    def model(self) -> Path:
        """The folder with the best checkpoint's model, once the run is finished."""
        return self.output / "model"


class Finetuner:
    """Fine-tunes MiT for classification or segmentation, in 2D or 3D.

    Args:
        settings: Settings of the run.
        accelerator: Devices, processes and mixed precision; by default what `accelerate launch`
            or `accelerate config` say.

    Raises:
        ValueError: If data or model cannot be had, do not fit each other, or a setting does not
            fit them; if a class has no training case; if the output folder holds another run.
        OSError: If the data set or the checkpoint cannot be found, the output folder cannot be
            written, or another run is writing into it.
    """

    def __init__(self, settings: FinetuningSettings, accelerator: Accelerator | None = None):
        self.settings = settings
        self.output = make_folder(settings.output)
        self.accelerator = accelerator or Accelerator(
            log_with=settings.report_to or None, project_dir=str(self.output)
        )
        _check_accelerator(self.accelerator)
        keep_freed_memory()
        check_trackers(self.accelerator, settings.report_to)
        self.task = open_task_data(settings)
        self.processor = open_processor(settings)
        check_mirror(settings.mirror, self.task)
        self.windows = window_settings(settings, self.task.num_axes, self.processor)
        self.augmentation = None
        if settings.augment:
            self.augmentation = Augmentation(
                AugmentationSettings.of(settings.augmentation), self.task.num_axes
            )
        self.metric, self.mode = _metric(settings, self.task)
        self.total_steps = self._count_steps()
        self.state = self._build()
        self.folder = RunFolder(
            settings,
            self.accelerator,
            self.total_steps,
            Ranking(f"{PREFIX}{self.metric}", self.mode),
        )
        self.folder.claim()
        try:
            self.folder.resume(self.state)
        except BaseException:
            self.folder.release()
            raise

    def run(self) -> RunResult:
        """Train until the steps are done, patience is at its end, or a signal asks to stop.

        The state is saved in any case. Call it once; trackers and processes stay as they are, until
        the caller ends them with `accelerator.end_training()`.

        Raises:
            ValueError: If cases cannot be prepared, or validation cases lack a class.
            NonFiniteLossError: If the loss or a gradient is not finite. The state before that step
                is saved.
        """
        with (
            StopRequest(announce=self.accelerator.is_main_process) as stop,
            Progress(
                total=self.total_steps,
                initial=self.state.step,
                enabled=self.accelerator.is_main_process,
            ) as progress,
            self.folder,
        ):
            result = self._train(stop, progress)
            self.folder.finish_uploads(result.finished, lambda: stop.requested)
        return result

    # ------------------------------------------------------------------------------- building

    def _count_steps(self) -> int:
        settings = self.settings
        if settings.max_steps is not None:
            return settings.max_steps
        samples = len(self.task.split.train) * settings.patches_per_case
        in_a_step = settings.batch_size * settings.accumulation * self.accelerator.num_processes
        return settings.epochs * math.ceil(samples / in_a_step)

    def _build(self) -> FinetuningState:
        settings, accelerator = self.settings, self.accelerator
        set_seed(settings.seed)
        opened = open_model(
            settings,
            self.task.data,
            self.task.layout.task,
            self.windows.window,
            self.task.num_axes,
        )
        self.new_weights = opened.new_weights
        self._wrapped = accelerator.prepare(opened.model)
        model = accelerator.unwrap_model(self._wrapped)
        factors = learning_rate_factors(model, settings.layer_decay)
        groups = parameter_groups(model, settings.weight_decay, factors.__getitem__)
        optimizer = accelerator.prepare(torch.optim.AdamW(groups, lr=0.0, fused=True))
        # From here on, what is random in training differs between processes.
        set_seed(settings.seed, device_specific=True)
        return FinetuningState(settings, accelerator, model, optimizer, self.processor, self.task)

    def _prepare(self, progress: Progress) -> tuple[list[PreparedCase], list[PreparedCase]]:
        """Prepare all cases, in shares; give those of training and validation."""
        settings, accelerator, split = self.settings, self.accelerator, self.task.split
        folder = Path(settings.cache_folder or self.output / "prepared")
        cache = CaseCache(folder, self.processor, self.task.data, self.task.is_segmentation)
        # Those that will be scored too: a bad one is to be told before training.
        scored = split.test if settings.evaluate else ()
        wanted = [*split.train, *split.validation, *scored]
        last_told = time.monotonic()

        def tell(done: int) -> None:
            nonlocal last_told
            if time.monotonic() - last_told > 10:
                last_told = time.monotonic()
                progress.write(f"Prepared {done} of {len(own)} cases.")

        own = wanted[accelerator.process_index :: accelerator.num_processes]
        failure = None
        try:
            cache.prepare(own, settings.num_workers, tell)
        except (ValueError, OSError) as error:
            # No process waits for one that has gone: all learn of it, and all raise.
            failure = str(error)
        failures = [text for text in gather_object([failure]) if text]
        if failures:
            raise ValueError("\n".join(failures))
        train = cache.prepare(split.train)
        if self.task.is_segmentation:
            require_every_class(train, self.task.data)
        return train, cache.prepare(split.validation)

    # ------------------------------------------------------------------------------- the loop

    def _train(self, stop: StopRequest, progress: Progress) -> RunResult:
        state, accelerator, settings = self.state, self.accelerator, self.settings
        begin_trackers(accelerator, settings.to_dict(), state.step)
        self.folder.begin(progress.write)
        follow_parent()
        if not self._is_finished():
            self._describe(progress)
            train, validation = self._prepare(progress)
            dataset = SampleDataset(
                train,
                SampleOrder(len(train), settings.seed),
                settings.patch_size,
                settings.foreground_fraction,
            )
            batches = batches_from(
                dataset,
                state.step,
                self.total_steps,
                settings.batch_size,
                settings.accumulation,
                accelerator.process_index,
                accelerator.num_processes,
                settings.num_workers,
            )
            stopped = stop.requested
            while not self._is_finished() and not stopped:
                stopped = self._step(batches, validation, stop, progress)
                if state.step % settings.validate_every == 0:
                    self.folder.save(state)
        self.folder.save(state, last=True)
        stop.announce = False
        best = self.folder.checkpoints.best()
        result = RunResult(
            self.output,
            state.step,
            self.total_steps,
            state.is_out_of_patience and state.step < self.total_steps,
            None if best is None else self.folder.checkpoints.folder_of(best[0]),
            None if best is None else best[1],
        )
        if result.finished and accelerator.is_main_process:
            self.folder.write_model(result.best)
        accelerator.wait_for_everyone()
        return result

    def _is_finished(self) -> bool:
        return self.state.step >= self.total_steps or self.state.is_out_of_patience

    def _describe(self, progress: Progress) -> None:
        task, split = self.task, self.task.split
        unlabelled = f"; {split.unlabelled} without labels" if split.unlabelled else ""
        progress.write(
            f"{task.layout.title}: {task.num_axes}D {task.layout.task} into "
            f"{len(task.data.class_names)} classes; {len(split.train)} cases train, "
            f"{len(split.validation)} validate, {len(split.test)} test{unlabelled}."
        )
        for problem in task.data.problems:
            progress.write(f"Warning: {problem.name} {problem.reason}")
        if self.settings.model is not None and self.state.step == 0:
            new = ", ".join(self.new_weights) or "none"
            progress.write(f"New weights, not in {self.settings.model}: {new}.")

    def _step(
        self,
        batches: Iterator[SampleBatch],
        validation: list[PreparedCase],
        stop: StopRequest,
        progress: Progress,
    ) -> bool:
        """Take a step, and validate where that is due; return whether all are to stop."""
        state, settings, accelerator = self.state, self.settings, self.accelerator
        start = time.perf_counter()
        rate = learning_rate_at(
            state.step,
            self.total_steps,
            settings.learning_rate,
            settings.warmup_fraction,
            settings.decay_power,
        )
        losses, names, waited = [], set(), 0.0
        for _ in range(settings.accumulation):
            before = time.perf_counter()
            batch = next(batches)
            waited += time.perf_counter() - before
            names.update(batch.names)
            losses.append(self._backward(batch))
        norm = self._finish_gradients()
        loss, norm, stopped = self._read(torch.stack(losses).mean(), norm, stop.requested)
        if not math.isfinite(loss) or (accelerator.scaler is None and not math.isfinite(norm)):
            raise NonFiniteLossError(self._explain(loss, norm, rate, names))
        set_hyperparameters(state.optimizer, rate, settings.weight_decay)
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        samples = settings.batch_size * settings.accumulation * accelerator.num_processes
        seconds = time.perf_counter() - start
        line: dict[str, Any] = {
            "step": state.step,
            "loss": loss,
            "learning_rate": rate,
            "gradient_norm": norm,
            "samples": samples,
            "seconds": round(seconds, 4),
            "data_wait": round(waited / seconds, 4),
        }
        state.step += 1
        is_due = state.step % settings.validate_every == 0 or state.step == self.total_steps
        if is_due:
            line |= self._validate(validation, progress)
        self.folder.note(line, always=is_due)
        if is_due or line["step"] % settings.log_every == 0:
            accelerator.log({k: v for k, v in line.items() if k != "step"}, step=line["step"])
        progress.update(loss=loss, lr=rate, samples=samples)
        return stop.requested if accelerator.num_processes == 1 else stopped

    def _backward(self, batch: SampleBatch) -> torch.Tensor:
        """Run one batch forward and backward; return its loss."""
        device = self.accelerator.device
        images, labels = batch.pixel_values.to(device), batch.labels.to(device)
        overlap = self.task.is_segmentation and self.task.is_multi_label
        if overlap:
            labels = unpack_masks(labels, len(self.task.data.class_names))
        if self.augmentation is not None:
            maps = None
            if self.task.is_segmentation:
                maps = labels if overlap else labels[:, None].float()
            images, maps = self.augmentation(images, maps, batch.seeds)
            if maps is not None:
                labels = maps if overlap else maps[:, 0].long()
        with self.accelerator.no_sync(self._wrapped):
            with self.accelerator.autocast():
                loss = self._wrapped(pixel_values=images, labels=labels).loss
            self.accelerator.backward(loss / self.settings.accumulation)
        return loss.detach()

    def _finish_gradients(self) -> torch.Tensor:
        """Average gradients over processes, unscale and clip them; return their norm."""
        accelerator, parameters = self.accelerator, list(self.state.model.parameters())
        if accelerator.num_processes > 1:
            average_gradients_(parameters, lambda t: accelerator.reduce(t, reduction="mean"))
        accelerator.unscale_gradients(self.state.optimizer)
        limit = self.settings.gradient_clip
        return torch.nn.utils.clip_grad_norm_(parameters, math.inf if limit is None else limit)

    def _read(
        self, loss: torch.Tensor, norm: torch.Tensor, asked_to_stop: bool
    ) -> tuple[float, float, bool]:
        """Average over processes, with one exchange: all stop at the same step."""
        asked = loss.new_tensor(float(asked_to_stop))
        values = torch.stack([loss, norm.to(loss), asked])
        if self.accelerator.num_processes > 1:
            values = self.accelerator.reduce(values, reduction="mean")
        mean_loss, mean_norm, stopping = values.tolist()
        return mean_loss, mean_norm, stopping > 0

    def _validate(self, cases: list[PreparedCase], progress: Progress) -> dict[str, float]:
        state = self.state
        numbers = validate(state.model, cases, self.task, self.windows, self.accelerator)
        value = numbers.get(f"{PREFIX}{self.metric}")
        state.judge(value, self.mode)
        state.validation = numbers
        shown = "undefined" if value is None else f"{value:.4f}"
        progress.write(f"Step {state.step}: validation {self.metric} {shown}.")
        return numbers

    def _explain(self, loss: float, norm: float, rate: float, names: set[str]) -> str:
        """Save the state before a step that went wrong, and say what to do."""
        state = self.state
        state.optimizer.zero_grad(set_to_none=True)
        found = f"The loss is {loss}" if not math.isfinite(loss) else "A gradient is not finite"
        everyone = sorted(set(gather_object(sorted(names))))
        if state.is_finite():
            self.folder.save(state)
            advice = f"The state before it is saved in {self.folder.checkpoints.folder}"
        else:
            advice = "The weights are not finite either, so they are not saved"
        return (
            f"{found}, at step {state.step}, with a learning rate of {rate:.3g}, on the cases "
            f"{', '.join(everyone)}. {advice}. Look at these cases, lower learning_rate, or use "
            "bf16 instead of fp16."
        )


def _metric(settings: FinetuningSettings, task: TaskData) -> tuple[str, str]:
    if settings.best_metric is None:
        return default_metric(task)
    metric = settings.best_metric.removeprefix(PREFIX)
    names = number_names(task)
    if metric not in names:
        raise ValueError(
            f"best_metric is {settings.best_metric!r}, and validation has no such number. It has "
            f"{', '.join(names)}."
        )
    return metric, settings.best_mode


def _check_accelerator(accelerator: Accelerator) -> None:
    allowed = (DistributedType.NO, DistributedType.MULTI_GPU, DistributedType.MULTI_CPU)
    if accelerator.distributed_type not in allowed:
        raise ValueError(
            f"Accelerate is configured for {accelerator.distributed_type}. Fine-tuning runs on one "
            "process, or on several with whole copies (MULTI_GPU, MULTI_CPU)."
        )
    if accelerator.gradient_accumulation_steps != 1:
        raise ValueError(
            f"Accelerate is configured for {accelerator.gradient_accumulation_steps} gradient "
            "accumulation steps. Leave that at 1, and give --accumulation instead."
        )
    if accelerator.state.dynamo_plugin.backend != DynamoBackend.NO:
        raise ValueError(
            "Accelerate is configured for dynamo_backend "
            f"{accelerator.state.dynamo_plugin.backend}, which renames the weights. Leave it at no."
        )
