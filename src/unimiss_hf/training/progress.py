"""The progress of a run: a bar on a terminal, a line now and then elsewhere."""

import contextlib
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self, TextIO

from tqdm import tqdm

# Weight of the newest loss in the loss that is shown.
_SMOOTHING = 0.1


class StepTimes:
    """Recent seconds per step of each kind, and the time that steps to come will take.

    Steps of one run may cost very different times, as those on images and volumes do, in phases of
    many steps: a mean over all steps says nothing of what is left.

    Args:
        window: How many of the latest steps of a kind count.
    """

    def __init__(self, window: int = 50):
        self._window = window
        self._seconds: dict[str, deque[float]] = {}
        self._warm: set[str] = set()

    def add(self, kind: str, seconds: float) -> None:
        """Note what a step took.

        The first of a kind, which starts readers and chooses kernels, counts until the second.
        """
        seen = self._seconds.setdefault(kind, deque(maxlen=self._window))
        if seen and kind not in self._warm:
            seen.clear()
            self._warm.add(kind)
        seen.append(seconds)

    def remaining(self, steps: Mapping[str, int]) -> tuple[float, list[str]]:
        """Estimate the time of steps to come.

        Args:
            steps: How many are left of each kind.

        Returns:
            Seconds for the kinds that have been seen, and the kinds that have not.
        """
        total, unknown = 0.0, []
        for kind, count in steps.items():
            seen = self._seconds.get(kind)
            if seen:
                total += count * sum(seen) / len(seen)
            elif count:
                unknown.append(kind)
        return total, unknown


class Progress:
    """Shows how far a run is: loss, learning rate, samples per second, time to go.

    Args:
        total: Steps of the whole run.
        initial: Steps taken before.
        enabled: Whether to show anything: only one process should.
        every_seconds: Time between lines where there is no terminal, as in the logs of batch
            systems; on a terminal there is a bar.
        window: How many of the latest steps (of each kind) the speeds are measured on.
        file: Where to show it; standard error by default.
        clock: Tells the time in seconds.

    ```python
    >>> with Progress(total=1000) as progress:
    ...     remaining = {"2d": 499, "3d": 500}
    ...     progress.update(loss=9.7, lr=1e-4, samples=32, kind="2d", remaining=remaining)
    ```
    """

    def __init__(
        self,
        total: int,
        initial: int = 0,
        enabled: bool = True,
        every_seconds: float = 30.0,
        window: int = 50,
        file: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.total = total
        self.step = initial
        self._initial = initial
        self._enabled = enabled
        self._every_seconds = every_seconds
        self._file = sys.stderr if file is None else file
        self._clock = clock
        self._times = StepTimes(window)
        self._recent: deque[tuple[float, int]] = deque(maxlen=window)
        self._losses: dict[str, float] = {}
        self._bar: tqdm | None = None
        self._last_update = self._last_line = self._clock()
        self._status = ""
        self._shown_step: int | None = None

    def __enter__(self) -> Self:
        self._last_update = self._clock()
        if self._enabled and self._file.isatty():
            # tqdm's own speed and time to go know one kind of step only.
            self._bar = tqdm(
                total=self.total,
                initial=self._initial,
                file=self._file,
                dynamic_ncols=True,
                bar_format="{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]",
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # What is shown may fail when the terminal has been closed; the run is not to.
        with contextlib.suppress(OSError):
            if self._bar is not None:
                self._bar.close()
                self._bar = None
            elif self._status and self._shown_step != self.step:
                self._show_line()

    def update(
        self,
        loss: float,
        lr: float,
        samples: int = 0,
        kind: str = "",
        remaining: Mapping[str, int] | None = None,
    ) -> None:
        """Note that a step has been taken.

        Args:
            loss: Its loss; shown smoothed over the steps of its kind.
            lr: Learning rate.
            samples: How many samples it took, over all processes.
            kind: What kind of step it was, such as `"3d"`.
            remaining: Steps still to come, of each kind; by default all are of this kind.
        """
        now = self._clock()
        seconds, self._last_update = now - self._last_update, now
        self.step += 1
        self._times.add(kind, seconds)
        self._recent.append((seconds, samples))
        if not self._enabled:
            return
        if remaining is None:
            remaining = {kind: max(0, self.total - self.step)}
        parts = [
            kind,
            f"loss {self._smooth(kind, loss):.4g}",
            f"lr {lr:.2e}",
            self._speed(),
            self._time_to_go(remaining),
        ]
        self._status = ", ".join(part for part in parts if part)
        with contextlib.suppress(OSError):
            if self._bar is not None:
                self._bar.set_postfix_str(self._status, refresh=False)
                self._bar.update()
            elif self._shown_step is None or now - self._last_line >= self._every_seconds:
                self._last_line = now
                self._show_line()

    def write(self, message: str) -> None:
        """Show a message above the bar; nothing if not enabled."""
        with contextlib.suppress(OSError):
            if self._enabled and self._bar is not None:
                tqdm.write(message, file=self._file)
            elif self._enabled:
                print(message, file=self._file, flush=True)

    def _smooth(self, kind: str, loss: float) -> float:
        if not math.isfinite(loss):
            # Shown as it is, and kept out of what follows.
            return loss
        previous = self._losses.get(kind, loss)
        self._losses[kind] = previous + _SMOOTHING * (loss - previous)
        return self._losses[kind]

    def _speed(self) -> str:
        seconds = sum(seconds for seconds, _ in self._recent)
        samples = sum(samples for _, samples in self._recent)
        return f"{samples / seconds:.3g} samples/s" if samples and seconds > 0 else ""

    def _time_to_go(self, remaining: Mapping[str, int]) -> str:
        seconds, unknown = self._times.remaining(remaining)
        if unknown:
            return f"over {_duration(seconds)} to go ({', '.join(unknown)} not timed yet)"
        return f"{_duration(seconds)} to go"

    def _show_line(self) -> None:
        self._shown_step = self.step
        percentage = 100 * self.step // max(1, self.total)
        print(
            f"step {self.step}/{self.total} ({percentage} %), {self._status}",
            file=self._file,
            flush=True,
        )


def _duration(seconds: float) -> str:
    days, seconds = divmod(round(seconds), 24 * 60 * 60)
    hours, seconds = divmod(seconds, 60 * 60)
    clock = f"{hours}:{seconds // 60:02d}:{seconds % 60:02d}"
    return f"{days} d {clock}" if days else clock
