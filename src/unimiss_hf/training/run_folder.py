"""The folder of a run: what is written there, and by which run."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import yaml
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from filelock import FileLock

from ..folder_locks import take_lock
from .checkpoints import CheckpointStore
from .publishing import Publisher, PublishingSettings, files_of
from .ranking import Ranking
from .run_log import RunLog

logger = logging.getLogger(__name__)

# How long a run that was just stopped may take to save before another begins.
_LOCK_SECONDS = 30


class RunSettings(PublishingSettings, Protocol):
    """What a run's settings say of its folder; see those of pretraining."""

    max_checkpoints: int
    log_every: int
    resume: str

    def to_dict(self) -> dict[str, Any]:
        """Return all settings as plain values."""


class RunState(Protocol):
    """Everything that changes while a run goes on, and that a checkpoint holds."""

    step: int

    def gather(self) -> Any:
        """Collect what lies in different processes; every process calls it."""

    def save(self, folder: Path, snapshot: Any) -> None:
        """Write a checkpoint with its card; the main process calls it with what `gather` gave."""

    def load(self, folder: Path) -> None:
        """Continue from a checkpoint."""


def make_folder(output: str) -> Path:
    """Make the folder of a run, unless it is there.

    Raises:
        OSError: If it cannot be made.
    """
    path = Path(output)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _explained(error, path) from error
    return path


class RunFolder:
    """Checkpoints, log, settings and model of a run, in a folder that one run at a time writes to.

    All processes of a run have one, and call [`resume`] and [`save`] together; the main process
    writes. As a context, it is let go of at the end.

    Args:
        settings: Settings of the run.
        accelerator: Its processes.
        total_steps: Optimiser steps of the whole run.
        ranking: Which checkpoint is the best; `None`: nothing says so.

    Raises:
        OSError: If the folder cannot be written.
    """

    def __init__(
        self,
        settings: RunSettings,
        accelerator: Accelerator,
        total_steps: int,
        ranking: Ranking | None = None,
    ):
        self.settings = settings
        self.accelerator = accelerator
        self.total_steps = total_steps
        self.path = Path(settings.output)
        self.ranking = ranking
        self.checkpoints = CheckpointStore(
            self.path / "checkpoints", settings.max_checkpoints, self.ranking
        )
        self.log = RunLog(self.path / "log.jsonl")
        self._publisher: Publisher | None = None
        self._tell: Callable[[str], None] = logger.info
        self._saved_at: int | None = None
        self._lock = FileLock(self.path / ".lock", timeout=_LOCK_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    @property
    def model(self) -> Path:
        """Where a finished run leaves its model."""
        return self.path / "model"

    @property
    def best(self) -> Path | None:
        """The best checkpoint, if `best_metric` says what that is."""
        found = self.checkpoints.best()
        return None if found is None else self.checkpoints.folder_of(found[0])

    def claim(self) -> None:
        """Make sure that no other run writes into the folder.

        Raises:
            OSError: If one does, or if the folder cannot be written.
        """
        if self.accelerator.is_main_process:
            try:
                take_lock(
                    self._lock,
                    f"Another run is writing into {self.path}; one that was just stopped may "
                    "still be saving. Wait for it, or give another --output.",
                )
            except BlockingIOError:
                raise
            except OSError as error:
                raise _explained(error, self.path) from error

    def release(self) -> None:
        """End what is under way, and let other runs write into the folder."""
        if self._publisher is not None:
            self._publisher.close()
        self.log.close()
        self._lock.release()

    def resume(self, state: RunState) -> None:
        """Continue from the newest intact checkpoint, if there is any.

        Args:
            state: What is brought to where the run stopped.

        Raises:
            ValueError: If no checkpoint is intact, if they belong to another run, or if settings
                say not to continue one.
            FileNotFoundError: If processes do not see the same folder.
        """
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
                f"{self.path} already holds a run, up to {latest.name}, and resume is 'never'. "
                "Give another --output, or --resume auto to continue it."
            )
        else:
            if not latest.is_dir():
                raise FileNotFoundError(
                    f"Process {self.accelerator.process_index} does not see {latest}, which the "
                    "main process does. All processes need the same output folder."
                )
            state.load(latest)
            self._saved_at = state.step
        if self.accelerator.is_main_process:
            # Lines of steps that are taken again would be there twice.
            self.log.truncate_after(state.step - 1)
            if latest is not None and state.step >= self.total_steps:
                logger.info("%s is finished already.", self.path)
            elif latest is not None:
                logger.info("Continuing %s at step %d.", self.path, state.step)

    def begin(self, tell: Callable[[str], None]) -> None:
        """Write the settings, and begin to upload, if that is wanted.

        Args:
            tell: Takes a sentence for the user, from here on.
        """
        if not self.accelerator.is_main_process:
            return
        self._tell = tell
        (self.path / "settings.yaml").write_text(
            yaml.safe_dump(self.settings.to_dict(), sort_keys=False), encoding="utf-8"
        )
        if self.settings.push_to_hub:
            self._publisher = Publisher(self.settings, tell)

    def note(self, line: dict[str, Any], always: bool = False) -> None:
        """Take in the numbers of a step, and write them into the log where that is due.

        Args:
            line: The numbers, with the `"step"`.
            always: Whether it is due at any step, as behind a validation.
        """
        if not self.accelerator.is_main_process:
            return
        if self.ranking is not None:
            self.ranking.observe(line)
        if always or line["step"] % self.settings.log_every == 0:
            self.log.write(line)
        if self._publisher is not None:
            self._publisher.poll()

    def save(self, state: RunState, last: bool = False) -> None:
        """Write a checkpoint, unless this step has one; every process must call it.

        Args:
            state: What is saved.
            last: Whether this run ends with it.
        """
        if self._saved_at != state.step:
            snapshot = state.gather()
            if self.accelerator.is_main_process:
                # What a checkpoint has behind it must not be missing from the log.
                self.log.flush()
                self._write_checkpoint(state, snapshot)
            self.accelerator.wait_for_everyone()
            self._saved_at = state.step
        if self._publisher is not None:
            checkpoint = self.checkpoints.folder_of(state.step)
            self._publisher.offer(checkpoint, state.step, last)

    def _write_checkpoint(self, state: RunState, snapshot: Any) -> None:
        before = self.checkpoints.best(until=state.step)
        value = None if self.ranking is None else self.ranking.take()
        self.checkpoints.save(state.step, lambda folder: state.save(folder, snapshot), value)
        best = self.checkpoints.best(until=state.step)
        if best is not None and best != before:
            was = "" if before is None else f" (before: {before[1]:.6g}, at step {before[0]})"
            self._tell(
                f"Best checkpoint so far: step {best[0]}, {self.ranking.metric} {best[1]:.6g}{was}."
            )

    def write_model(self, checkpoint: Path | None = None) -> None:
        """Put the model of a finished run, as a checkpoint holds it, in its own place.

        The main process calls it. It is written beside its place first, so that a whole one is
        there or none.

        Args:
            checkpoint: Its folder; the last step's by default.

        Raises:
            OSError: If it cannot be written.
        """
        checkpoint = checkpoint or self.checkpoints.folder_of(self.total_steps)
        partial = self.model.with_name(f".{self.model.name}.partial")
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            for name, path in files_of(checkpoint, training_state=False).items():
                shutil.copyfile(path, partial / name)
            if self.model.exists():
                shutil.rmtree(self.model)
            partial.rename(self.model)
        except OSError as error:
            raise _explained(error, self.model) from error

    def finish_uploads(self, finished: bool, stop: Callable[[], bool]) -> None:
        """Wait for the Hub, for a limited time, and say what is left; no other process need wait.

        Args:
            finished: Whether the run took all its steps.
            stop: Ends the wait of a finished run when it returns `True`.
        """
        if self._publisher is not None:
            self._publisher.finish(finished, stop)


def _explained(error: OSError, path: Path) -> OSError:
    return OSError(
        error.errno,
        f"Cannot write {path}: {error.strerror} ({error.filename}). Checkpoints written before "
        "remain. Put this right (make room, give write permission) and run again.",
    )
