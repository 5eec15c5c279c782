"""Folders on their way to the Hub, while training goes on."""

import contextlib
import json
import math
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

# Its file, not its module: importing this package takes seconds.
_PROGRAM = Path(__file__).with_name("upload_attempt.py")
# Between two attempts (seconds)
_LONGEST_WAIT = 600.0
# An attempt that takes longer (seconds) hangs: connections to the Hub have no time limit.
_LONGEST_ATTEMPT = 3600.0
# At the end of a run: attempts, and the wait between them (seconds).
_LAST_ATTEMPTS = 3
_LAST_WAIT = 1.0
_POLL_SECONDS = 0.05


class HubQueue:
    """Uploads folders to one repository in the background, the newest first and only.

    Training is never held up: an attempt is a process of its own (`upload_attempt.py`), and all
    that happens in this one is a look at it in [`poll`], between two steps. What fails is told
    once, and tried again later and later, until it is there. A newer folder takes the place of one
    that still waits.

    Folders wait in `folder`, under names in their order, and are deleted when they are uploaded:
    what is there was not, and the next run takes it up.

    Args:
        repo: `"owner/name"`, or `"name"` for the owner of the token.
        folder: Where folders wait.
        private: Whether a new repository is private; `None` leaves that to the Hub.
        tell: Takes a sentence for the user.
        first_wait: Seconds between a first failure and the next attempt; twice as long after each
            further one, up to ten minutes.

    ```python
    >>> queue = HubQueue("owner/name", Path("run/to_upload"))
    >>> queue.start()
    >>> queue.add("step-00000120", {"model.safetensors": checkpoint / "model.safetensors"})
    >>> queue.poll()  # now and then
    >>> queue.finish(seconds=60)
    ```
    """

    def __init__(
        self,
        repo: str,
        folder: Path,
        private: bool | None = None,
        tell: Callable[[str], None] = print,
        first_wait: float = 5.0,
    ):
        self.repo = repo
        self.folder = Path(folder)
        self.private = private
        self.tell = tell
        self.first_wait = first_wait
        self._process: subprocess.Popen | None = None
        self._uploading: Path | None = None
        self._started = 0.0
        self._longest_attempt = _LONGEST_ATTEMPT
        self._next_attempt = 0.0
        self._failures = 0
        self._told: set[str] = set()
        self._reason = "it was not tried"
        # The first attempt shows, before there is anything to upload, whether that may be.
        self._made = False

    @property
    def waiting(self) -> Path | None:
        """The newest folder that is not on the Hub yet."""
        return max(self._folders(), key=lambda path: (len(path.name), path.name), default=None)

    def start(self) -> None:
        """Begin with what an earlier run left, or with an empty repository."""
        for path in self.folder.glob(".*.partial"):
            # What cannot be deleted now is in nobody's way.
            with contextlib.suppress(OSError):
                _delete(path)
        self.poll()

    def add(self, name: str, files: Mapping[str, Path]) -> None:
        """Queue files, which may be deleted where they are; no error of the disk gets out.

        Args:
            name: What the commit is called. Later names sort behind earlier ones of their length.
            files: Where each file of the repository is now. They are linked rather than copied,
                where the file system allows that, and must not be changed in place.
        """
        target, partial = self.folder / name, self.folder / f".{name}.partial"
        if target == self._uploading:
            return
        try:
            _delete(partial)
            for path_in_repo, source in files.items():
                place = partial / path_in_repo
                place.parent.mkdir(parents=True, exist_ok=True)
                _link(source, place)
            _delete(target)
            partial.rename(target)
        except OSError as error:
            self.tell(f"Warning: {name} cannot be queued for the Hub in {self.folder}: {error}.")
            return
        self._drop_superseded()
        if self._next_attempt == math.inf:
            self._next_attempt = 0.0
        self.poll()

    def poll(self) -> None:
        """Look after the attempt under way, and begin the next one if it is due; never waits."""
        if self._process is not None:
            if self._process.poll() is not None:
                self._take_answer()
            elif time.monotonic() - self._started > self._longest_attempt:
                # Perhaps it did not hang, and the link is slow.
                self._longest_attempt *= 2
                self._end_attempt()
                self._fail({"kind": "silent", "reason": "the Hub does not answer"})
        if self._process is None and time.monotonic() >= self._next_attempt:
            waiting = self.waiting
            if waiting is not None or not self._made:
                self._begin(waiting)
            else:
                # Nothing waits until something is added.
                self._next_attempt = math.inf

    def finish(self, seconds: float, stop: Callable[[], bool] = lambda: False) -> bool:
        """Wait for what is under way and make last attempts; say what is left, and where.

        Args:
            seconds: How long to wait at most.
            stop: Asked again and again; `True` ends the wait.

        Returns:
            Whether everything is on the Hub.
        """
        deadline = time.monotonic() + seconds
        self._failures, self._next_attempt = 0, 0.0
        while self.waiting is not None and time.monotonic() < deadline and not stop():
            failures = self._failures
            self.poll()
            if self._failures > failures:
                if self._failures >= _LAST_ATTEMPTS:
                    break
                self._next_attempt = time.monotonic() + _LAST_WAIT
            time.sleep(_POLL_SECONDS)
        return self.close()

    def close(self) -> bool:
        """End the attempt under way, and say what is not on the Hub; to be called twice at will.

        Returns:
            Whether everything is on the Hub.
        """
        if self._process is not None:
            self._end_attempt()
            self._reason = "it was not done in time"
        waiting = self.waiting
        if waiting is not None and "left" not in self._told:
            self._told.add("left")
            command = ["hf", "upload", self.repo, str(waiting)]
            if self.private:
                command.append("--private")
            self.tell(
                f"Warning: {waiting.name} is not on the Hub: {self._reason}. It stays in "
                f"{waiting}. Upload it with `{shlex.join(command)}`, or run the same command again."
            )
        return waiting is None

    # ------------------------------------------------------------------------------- one attempt

    def _begin(self, folder: Path | None) -> None:
        request = {
            "repo": self.repo,
            "folder": None if folder is None else str(folder),
            "private": self.private,
            "message": "" if folder is None else f"Upload {folder.name}",
            "parent": os.getpid(),
        }
        command = [sys.executable, "-P", str(_PROGRAM), json.dumps(request)]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**os.environ, "HF_HUB_DISABLE_PROGRESS_BARS": "1"},
                # Ctrl-C is for the process that trains.
                start_new_session=True,
            )
        except OSError as error:
            self._fail({"kind": "process", "reason": f"no process can be started ({error})"})
            return
        self._uploading, self._started = folder, time.monotonic()

    def _take_answer(self) -> None:
        # Few lines, which a pipe holds, however long nobody reads them.
        printed, _ = self._process.communicate()
        uploaded, self._process, self._uploading = self._uploading, None, None
        answer = _decode(printed.decode(errors="replace").split("\n"))
        if "repo" in answer:
            self._succeed(answer["repo"], uploaded)
        else:
            self._fail(answer)

    def _end_attempt(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._process = self._uploading = None

    def _succeed(self, repo: str, uploaded: Path | None) -> None:
        if self._told or not self._made:
            self.tell(f"{repo} on the Hub can be written to, and gets the newest checkpoints.")
        self._made = True
        self._told.clear()
        self._failures, self._next_attempt = 0, 0.0
        if uploaded is None:
            return
        try:
            _delete(uploaded)
        except OSError as error:
            self.tell(f"Warning: {uploaded} is on the Hub, and cannot be deleted: {error}.")

    def _fail(self, answer: dict[str, str]) -> None:
        wait = min(self.first_wait * 2**self._failures, _LONGEST_WAIT)
        self._failures += 1
        self._next_attempt = time.monotonic() + wait
        self._reason = answer["reason"]
        self._drop_superseded()
        if answer["kind"] not in self._told:
            self._told.add(answer["kind"])
            self.tell(
                f"Warning: {self.repo} cannot be uploaded to: {self._reason}. Training goes on; "
                f"the newest checkpoint waits in {self.folder}, and is tried again."
            )

    # ------------------------------------------------------------------------------- the folder

    def _folders(self) -> list[Path]:
        with contextlib.suppress(OSError):
            return [path for path in self.folder.iterdir() if not path.name.startswith(".")]
        return []

    def _drop_superseded(self) -> None:
        """Delete all but the newest folder and the one that is being uploaded."""
        keep = (self.waiting, self._uploading)
        for path in self._folders():
            if path not in keep:
                with contextlib.suppress(OSError):
                    _delete(path)


def _decode(lines: list[str]) -> dict[str, str]:
    """Find the answer among what a process printed."""
    for line in reversed(lines):
        with contextlib.suppress(ValueError):
            answer = json.loads(line)
            if isinstance(answer, dict) and ("repo" in answer or "reason" in answer):
                return answer
    said = next((line for line in reversed(lines) if line.strip()), "nothing")
    return {"kind": "died", "reason": f"the process that uploads died, and said: {said}"}


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        # Not every file system has hard links.
        shutil.copyfile(source, target)


def _delete(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
