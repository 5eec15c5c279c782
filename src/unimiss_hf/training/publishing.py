"""Which checkpoints of a run go to the Hub, and which of their files."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from ..hub.companion_files import companion_files
from ..hub.repository_files import CARD
from ..hub.upload_queue import HubQueue
from .checkpoints import MANIFEST

# The part of a checkpoint that only a continuation needs
TRAINING_STATE = "training_state"

# How long the end of a run waits for the Hub (seconds): a finished one has time, one that was
# asked to stop may be killed soon.
_FINISHED_SECONDS = 600.0
_STOPPED_SECONDS = 10.0


def files_of(checkpoint: Path, training_state: bool) -> dict[str, Path]:
    """List a checkpoint's files by their names in it.

    Args:
        checkpoint: Its folder.
        training_state: Whether to list what only a continuation needs: the training state, and the
            manifest, which lists that as well.
    """
    names = {
        path.relative_to(checkpoint).as_posix(): path
        for path in sorted(checkpoint.rglob("*"))
        if path.is_file()
    }
    if training_state:
        return names
    return {
        name: path
        for name, path in names.items()
        if name != MANIFEST and not name.startswith(f"{TRAINING_STATE}/")
    }


class PublishingSettings(Protocol):
    """What a run's settings say of uploads; see those of pretraining."""

    output: str
    checkpoint_every: int
    push_to_hub: str | None
    push_every: int
    hub_private: bool
    hub_training_state: bool


class Publisher:
    """Uploads checkpoints while training goes on; see [`HubQueue`].

    A checkpoint goes as it is opened by `AutoModel.from_pretrained`: weights, configuration, image
    processor, code, card. With `hub_training_state`, all of it goes.

    Args:
        settings: Settings of the run; `push_to_hub` must be given.
        tell: Takes a sentence for the user.
    """

    def __init__(self, settings: PublishingSettings, tell: Callable[[str], None]):
        self.settings = settings
        self._queue = HubQueue(
            settings.push_to_hub,
            Path(settings.output) / "to_upload",
            private=settings.hub_private or None,
            tell=tell,
        )
        self._queue.start()

    def offer(self, checkpoint: Path, step: int, last: bool) -> None:
        """Upload a checkpoint if it is its turn, or the last of the run.

        Which ones have their turn depends on the step alone, so it is the same after a restart.
        """
        steps = self.settings.checkpoint_every * self.settings.push_every
        if not last and step % steps != 0:
            return
        files = files_of(checkpoint, training_state=self.settings.hub_training_state)
        card = files.get(CARD)
        if card is not None:
            files = {**companion_files(card.read_text(encoding="utf-8")), **files}
        self._queue.add(checkpoint.name, files)

    def poll(self) -> None:
        """Look after uploads; to be called between two steps."""
        self._queue.poll()

    def finish(self, finished: bool, stop: Callable[[], bool]) -> None:
        """Wait for the last uploads, for a limited time, and say what is left.

        Args:
            finished: Whether the run took all its steps; one that was stopped has less time.
            stop: Ends the wait of a finished run when it returns `True`.
        """
        if finished:
            self._queue.finish(_FINISHED_SECONDS, stop)
        else:
            self._queue.finish(_STOPPED_SECONDS)

    def close(self) -> None:
        """End the upload under way; what is not on the Hub stays on the disk, and is told."""
        self._queue.close()
