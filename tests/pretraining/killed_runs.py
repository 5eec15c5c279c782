"""Runs in processes of their own that are killed at a chosen moment.

The processes are forked from one that has imported everything, so that each starts at once. A run
that has reached its moment stands still there until it is killed: SIGKILL comes from outside, and
finds it exactly where it was meant to.
"""

import json
import multiprocessing
import os
import signal
import sys
import zlib
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

import pytest
import torch

from unimiss_hf.pretraining import Pretrainer, PretrainingSettings
from unimiss_hf.pretraining.feed import Batch, Feed
from unimiss_hf.pretraining.schedules import Hyperparameters, Schedules
from unimiss_hf.training.checkpoints import CheckpointStore

SECONDS = 300


@dataclass(frozen=True, order=True)
class Moment:
    """So many calls of Python functions into a step, or into the writing of a checkpoint.

    Attributes:
        step: optimiser steps taken before.
        within_step: whether it lies in the step that follows, rather than in the checkpoint of
            those before.
        calls: calls of functions before it.
        rank: of which process.
    """

    step: int
    within_step: bool = True
    calls: int = 1
    rank: int = 0


class RunInProcesses:
    """A run in one process, or in several over gloo, each with one thread.

    Args:
        settings: Of the run.
        moment: Where it stops to be killed; `None`: it goes on to its end.
        world_size: Number of processes.
    """

    def __init__(
        self, settings: PretrainingSettings, moment: Moment | None = None, world_size: int = 1
    ):
        self.output = Path(settings.output)
        self.output.mkdir(parents=True, exist_ok=True)
        self.moment = moment
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["pytest", "killed_runs"])
        with pytest.MonkeyPatch.context() as patch:
            # What cannot be imported for all processes is imported by each, without a word.
            patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
            forkserver.ensure_running()
        # The processes meet at a store of this one, whose port the system chooses.
        self._store = (
            torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
            if world_size > 1
            else None
        )
        self._processes, self._connections = [], []
        for rank in range(world_size):
            own, other = context.Pipe(duplex=False)
            environment = {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
            if self._store is not None:
                environment |= {
                    "RANK": str(rank),
                    "LOCAL_RANK": str(rank),
                    "WORLD_SIZE": str(world_size),
                    "MASTER_ADDR": "127.0.0.1",
                    "MASTER_PORT": str(self._store.port),
                    "TORCHELASTIC_USE_AGENT_STORE": "True",
                }
            process = context.Process(
                target=_run, args=(settings, moment, rank, environment, other)
            )
            process.start()
            other.close()
            self._processes.append(process)
            self._connections.append(own)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()

    def wait(self, rank: int = 0) -> Any:
        """Wait until a process says something, and return what."""
        connection = self._connections[rank]
        try:
            if connection.poll(SECONDS):
                return connection.recv()
        except EOFError:
            pass
        raise AssertionError(f"The run said nothing: {(self.output / f'said-{rank}').read_text()}")

    def kill_at_its_moment(self) -> None:
        """Kill all processes with SIGKILL once the run stands at its moment."""
        assert self.wait(self.moment.rank) == self.moment
        self.kill()

    def finish(self) -> None:
        """Wait until all processes have come to the end of the run."""
        for rank, process in enumerate(self._processes):
            assert self.wait(rank) == "finished"
            process.join(SECONDS)
            assert process.exitcode == 0

    def kill(self) -> None:
        """Kill all processes with SIGKILL."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.join()


def _run(
    settings: PretrainingSettings,
    moment: Moment | None,
    rank: int,
    environment: dict[str, str],
    connection: Connection,
) -> None:
    # As it is in a run that nobody watches
    multiprocessing.set_start_method("fork", force=True)
    os.environ.update(environment)
    with (Path(settings.output) / f"said-{rank}").open("ab", buffering=0) as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    torch.set_num_threads(1)
    pretrainer = Pretrainer(settings)
    schedules = _WatchedSchedules(pretrainer.schedules)
    if moment is not None and moment.rank == rank:
        schedules.watch(moment, connection)
    pretrainer.schedules = schedules
    with (Path(settings.output) / f"seen-{rank}.jsonl").open("ab", buffering=0) as seen:
        for dimension, feed in pretrainer.state.feeds.items():
            pretrainer.state.feeds[dimension] = _WatchedFeed(feed, schedules, seen)
        assert pretrainer.run().finished
    connection.send("finished")


class _WatchedSchedules:
    """Schedules that know which step was asked for last, as the loop does at each step's start."""

    def __init__(self, schedules: Schedules):
        self._schedules = schedules
        self._moment: Moment | None = None
        self.step = 0

    def watch(self, moment: Moment, connection: Connection) -> None:
        self._moment, self._connection = moment, connection

    def at(self, step: int) -> Hyperparameters:
        self.step = step
        if self._moment is not None and step == self._moment.step - (not self._moment.within_step):
            self._count_calls()
        return self._schedules.at(step)

    def _count_calls(self) -> None:
        calls, counting = 0, self._moment.within_step

        def profile(frame: FrameType, event: str, _: object) -> None:
            nonlocal calls, counting
            if event != "call":
                return
            counting = counting or frame.f_code is CheckpointStore.save.__code__
            calls += counting
            if calls == self._moment.calls:
                sys.setprofile(None)
                self._connection.send(self._moment)
                while True:
                    signal.pause()

        sys.setprofile(profile)


class _WatchedFeed:
    """A feed that writes down what comes out of it."""

    def __init__(self, feed: Feed, schedules: _WatchedSchedules, seen: Any):
        self._feed, self._schedules, self._seen = feed, schedules, seen

    def next_batch(self) -> Batch:
        batch = self._feed.next_batch()
        checksums = [zlib.crc32(view.numpy().tobytes()) for view in batch.views]
        line = {"step": self._schedules.step, "names": batch.names, "views": checksums}
        self._seen.write(json.dumps(line).encode() + b"\n")
        return batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._feed, name)
