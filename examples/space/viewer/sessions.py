"""What each visitor has open; nobody sees another's, and it does not stay."""

from __future__ import annotations

import tempfile
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

from .analysis import Analysis


@dataclass(frozen=True)
class View:
    """How the image is looked at.

    Attributes:
        axis: 0, 1, 2 for axial, coronal, sagittal.
        index: The slice, from 0.
        window: Its name; "own" if level and width were typed.
        level, width: Of the window.
        layer: What lies over the grey levels: "grey levels" (nothing), "features" or
            "segments".
        opacity: Of the layer, from 0 to 1.
    """

    axis: int
    index: int
    window: str
    level: float
    width: float
    layer: str
    opacity: float


@dataclass
class Session:
    """One visitor's image.

    Attributes:
        folder: For files of this visitor alone; it goes with the session.
        analysis: What is known of the image; `None` until it was read.
        view: How it is looked at.
        marked: The patch that was clicked.
        saved: The segmentation as a file.
        status: What the page says of the image.
        has_error: Whether it says what went wrong with a control instead.
        last_used: When, in seconds of `time.monotonic`.
    """

    folder: tempfile.TemporaryDirectory
    analysis: Analysis | None = None
    view: View | None = None
    marked: tuple[int, int, int] | None = None
    saved: Path | None = None
    status: str = ""
    has_error: bool = False
    last_used: float = field(default_factory=time.monotonic)

    @property
    def path(self) -> Path:
        """The folder's path."""
        return Path(self.folder.name)


class Sessions:
    """The sessions of all visitors, by keys that only they know.

    Args:
        folder: In which each session has a folder of its own.
        most: How many are kept; the one that was idle longest makes room.
        idle_seconds: After which a session is dropped.
    """

    def __init__(self, folder: Path, most: int = 8, idle_seconds: float = 3600.0):
        self._folder = folder
        self._most = most
        self._idle_seconds = idle_seconds
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._lock = threading.Lock()

    def start(self, key: str) -> Session:
        """Begin anew: what the visitor had open before is dropped."""
        self.drop(key)
        session = Session(tempfile.TemporaryDirectory(dir=self._folder))
        with self._lock:
            self._sessions[key] = session
            crowded = len(self._sessions) > self._most
            oldest = next(iter(self._sessions))
        if crowded:
            self.drop(oldest)
        return session

    def get(self, key: str) -> Session | None:
        """The visitor's session, if there is one."""
        with self._lock:
            now = time.monotonic()
            idle = [
                each
                for each, session in self._sessions.items()
                if now - session.last_used > self._idle_seconds
            ]
            session = self._sessions.get(key)
            if session is not None and key not in idle:
                session.last_used = now
                self._sessions.move_to_end(key)
        for each in idle:
            self.drop(each)
        return None if key in idle else session

    def drop(self, key: str) -> None:
        """Forget a session and delete its files."""
        with self._lock:
            session = self._sessions.pop(key, None)
        if session is not None:
            session.folder.cleanup()

    def __len__(self) -> int:
        return len(self._sessions)
