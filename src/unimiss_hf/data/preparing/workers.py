"""Processes that write shards: one may die, and the others go on."""

import contextlib
import multiprocessing
import signal
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from ...training.signals import STOP_SIGNALS
from .planning import Shard
from .settings import PreparationSettings
from .shard_writing import Outcome, ShardRecord, write_shard

# How often a question whether to stop is asked, at least.
_SECONDS_BETWEEN_QUESTIONS = 0.2
_MOST_DEATHS_OF_A_SAMPLE = 2
_MOST_DEATHS_WITHOUT_WORK = 3
# Where there is one, a server that has imported everything forks processes that work at once.
_SERVED = "forkserver" in multiprocessing.get_all_start_methods()
_METHOD = "forkserver" if _SERVED else "spawn"


@dataclass(frozen=True)
class SampleDone:
    """A sample was dealt with; its shard is not complete yet."""

    key: str
    outcome: Outcome


@dataclass(frozen=True)
class ShardDone:
    """A shard is complete on the disk."""

    record: ShardRecord


@dataclass(frozen=True)
class ShardLost:
    """A process died; the shard that it was at is begun again.

    Attributes:
        key: The shard's key.
        name: The sample that was being converted; "" if none was.
        reason: How the process ended.
    """

    key: str
    name: str
    reason: str


@dataclass(frozen=True)
class _Begun:
    name: str


@dataclass(frozen=True)
class _CannotWrite:
    number: int | None
    reason: str


@dataclass
class _Task:
    shard: Shard
    lost: dict[str, str] = field(default_factory=dict)


@dataclass
class _Worker:
    process: Any
    connection: Connection
    task: _Task | None = None
    sample: str = ""


def write_shards(
    shards: Sequence[Shard],
    settings: PreparationSettings,
    folder: Path,
    partial: Path,
    stop: Callable[[], bool],
) -> Iterator[SampleDone | ShardDone | ShardLost]:
    """Write shards in several processes.

    A process that dies, as one does that the system kills for want of memory, is replaced, and its
    shard is begun again; the sample that it was at is tried once more, and then noted as failed.

    Args:
        shards: What to write.
        settings: How, and in how many processes.
        folder: Where to.
        partial: A folder on the same disk, where files lie until they are complete.
        stop: Asked several times a second whether to end; what is incomplete then is lost.

    Yields:
        What has happened, as it happens.

    Raises:
        OSError: If a shard cannot be written; those that are complete remain.
        RuntimeError: If processes die before they have done anything.
    """
    get_ready()
    crew = _Crew(settings, folder, partial)
    waiting = deque(_Task(shard) for shard in shards)
    deaths: Counter[str] = Counter()
    idle_deaths = 0
    try:
        while not stop():
            crew.hire(min(settings.num_workers(), len(waiting) + crew.num_busy))
            crew.hand_out(waiting)
            if not crew.num_busy:
                return
            for worker, message in crew.messages():
                if isinstance(message, _CannotWrite):
                    raise OSError(message.number, message.reason)
                if message is None:
                    reason = crew.bury(worker)
                    idle_deaths = 0 if worker.sample else idle_deaths + 1
                    if idle_deaths == _MOST_DEATHS_WITHOUT_WORK:
                        raise RuntimeError(f"Processes cannot work: {reason} before any work.")
                    task = worker.task
                    deaths[worker.sample] += 1
                    if worker.sample and deaths[worker.sample] >= _MOST_DEATHS_OF_A_SAMPLE:
                        task.lost[worker.sample] = reason
                    waiting.append(task)
                    yield ShardLost(task.shard.key, worker.sample, reason)
                else:
                    yield message
    finally:
        crew.dismiss()


def get_ready() -> None:
    """Begin to import what processes need, in the background, so that they start at once."""
    if _SERVED:
        multiprocessing.get_context(_METHOD).set_forkserver_preload([__name__])
        with _signals_held_back():
            forkserver.ensure_running()


class _Crew:
    """The processes, and what each is at."""

    def __init__(self, settings: PreparationSettings, folder: Path, partial: Path):
        self._arguments = (settings, folder, partial)
        self._context = multiprocessing.get_context(_METHOD)
        self._workers: list[_Worker] = []

    @property
    def num_busy(self) -> int:
        return sum(worker.task is not None for worker in self._workers)

    def hire(self, count: int) -> None:
        """Start processes until there are `count`."""
        while len(self._workers) < count:
            ours, theirs = self._context.Pipe()
            process = self._context.Process(
                target=_work, args=(theirs, *self._arguments), daemon=True
            )
            with _signals_held_back():
                process.start()
            theirs.close()
            self._workers.append(_Worker(process, ours))

    def hand_out(self, waiting: deque[_Task]) -> None:
        """Give a task to each process that has none."""
        for worker in self._workers:
            if worker.task is None and waiting:
                worker.task, worker.sample = waiting.popleft(), ""
                # If it has died, its connection will tell.
                with contextlib.suppress(OSError):
                    worker.connection.send(worker.task)

    def messages(self) -> Iterator[tuple[_Worker, Any]]:
        """What processes have to say now; `None` of one that has died."""
        by_connection = {worker.connection: worker for worker in self._workers}
        for connection in wait(list(by_connection), _SECONDS_BETWEEN_QUESTIONS):
            worker = by_connection[connection]
            try:
                message = connection.recv()
            except (EOFError, OSError):
                if worker.task is not None:
                    yield worker, None
                else:
                    self.bury(worker)
                continue
            if isinstance(message, _Begun):
                worker.sample = message.name
                continue
            if isinstance(message, ShardDone):
                worker.task, worker.sample = None, ""
            yield worker, message

    def bury(self, worker: _Worker) -> str:
        """Forget a process that has died, and say how it ended."""
        self._workers.remove(worker)
        worker.connection.close()
        worker.process.join()
        code = worker.process.exitcode
        if code is not None and code < 0:
            name = signal.Signals(-code).name
            hint = " (out of memory? give fewer workers)" if name == "SIGKILL" else ""
            return f"the process that read it was killed by {name}{hint}"
        return f"the process that read it ended with exit code {code}"

    def dismiss(self) -> None:
        """End all processes at once."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.connection.close()


@contextlib.contextmanager
def _signals_held_back() -> Iterator[None]:
    """Start processes that a Ctrl-C, which reaches all of a terminal, or a batch system cannot end.

    Only this process is to answer; it ends the others.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # Starting it later would let the signals through again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(
    connection: Connection, settings: PreparationSettings, folder: Path, partial: Path
) -> None:
    """Write shards until none comes, or nobody listens any more."""
    import torch

    torch.set_num_threads(1)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            task: _Task = connection.recv()
            key = task.shard.key
            try:
                with tempfile.TemporaryDirectory(dir=partial, prefix=f"{key}-") as own:
                    record = write_shard(
                        task.shard,
                        settings,
                        folder,
                        Path(own),
                        task.lost,
                        on_begun=lambda name: connection.send(_Begun(name)),
                        on_done=lambda done, key=key: connection.send(SampleDone(key, done)),
                    )
            except (BrokenPipeError, ConnectionResetError):
                raise
            except OSError as error:
                connection.send(_CannotWrite(error.errno, error.strerror or str(error)))
                return
            connection.send(ShardDone(record))
