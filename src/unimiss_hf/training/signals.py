"""Stopping a run between two steps when the system or the user asks for it."""

import contextlib
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

_Handler = Callable[[int, FrameType | None], object] | int | None

_PR_SET_PDEATHSIG = 1
_LAUNCHERS = {
    "accelerate",
    "accelerate-launch",
    "accelerate.commands.launch",
    "accelerate.commands.accelerate_cli",
}


# A closed terminal sends SIGHUP, which not every system knows.
STOP_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)
)


class StopRequest:
    """Turns SIGTERM, SIGHUP and the first SIGINT into a flag that a loop looks at after each step.

    The first signal is answered with one line on standard error. A second SIGINT (Ctrl-C) raises
    `KeyboardInterrupt`; a SIGTERM never does, as batch systems and launchers may send several. The
    handlers of before are back when the context ends. Outside the main thread, where Python allows
    no handlers, only [`request`] sets the flag.

    Args:
        announce: Whether to print the line.
        work: What the line calls the piece of work behind which the loop looks.

    ```python
    >>> with StopRequest() as stop:
    ...     while not finished and not stop.requested:
    ...         step()
    ```
    """

    def __init__(self, announce: bool = True, work: str = "step"):
        self.announce = announce
        self.work = work
        self.requested = False
        self.signal_name: str | None = None
        self._interrupted = False
        self._previous: dict[signal.Signals, _Handler] = {}

    def request(self, name: str | None = None) -> None:
        """Ask to stop, from any thread.

        Args:
            name: What `signal_name` is to say, if nothing has asked before.
        """
        if not self.requested:
            self.signal_name = name
        self.requested = True

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in STOP_SIGNALS:
                self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        while self._previous:
            number, handler = self._previous.popitem()
            # None: a handler that was not set from Python, which Python cannot put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            if self._interrupted:
                raise KeyboardInterrupt
            self._interrupted = True
        first = not self.requested
        self.request(signal.Signals(number).name)
        if first and self.announce:
            _print_at_once(
                f"{self.signal_name}: the state will be saved after this {self.work}. "
                "A second SIGINT (Ctrl-C) quits at once, without saving.\n"
            )


def follow_parent(any_parent: bool = False) -> bool:
    """Have the kernel send SIGTERM to this process when its launcher dies.

    For a single process, `accelerate launch` starts the script as a child and passes no SIGTERM on
    to it. A batch system or `kill` that stops the launcher would thus leave the training to run on
    unseen, or to be killed later without having saved. With this, the end of the launcher arrives
    as the SIGTERM that [`StopRequest`] waits for. Linux only (`prctl(PR_SET_PDEATHSIG)`); elsewhere
    nothing happens.

    A parent that is no launcher, such as the shell that started `nohup python ... &`, is not
    followed: its end is no reason to stop.

    Args:
        any_parent: Whether to follow the parent whatever it is.

    Returns:
        Whether the parent is followed.

    Raises:
        OSError: If the kernel refuses.
    """
    if not sys.platform.startswith("linux"):
        return False
    parent = os.getppid()
    if not any_parent and not _is_launcher(parent):
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = [ctypes.c_ulong(value) for value in (signal.SIGTERM, 0, 0, 0)]
    if libc.prctl(_PR_SET_PDEATHSIG, *arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(
            number, f"The kernel refuses to signal the end of the parent: {os.strerror(number)}"
        )
    if os.getppid() != parent:
        # It died before the kernel knew; no signal will come.
        signal.raise_signal(signal.SIGTERM)
    return True


def _is_launcher(process: int) -> bool:
    try:
        command = Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return False
    # The interpreter, its options, then the script or module; the rest is the script's own.
    words = command.decode(errors="replace").split("\0")[:6]
    return any(Path(word).name in _LAUNCHERS for word in words)


def _print_at_once(text: str) -> None:
    # A handler may run in the middle of a print, whose buffer it must not enter again.
    with contextlib.suppress(OSError):
        # On a terminal, a progress bar is on the current line.
        os.write(2, (f"\n{text}" if os.isatty(2) else text).encode())
