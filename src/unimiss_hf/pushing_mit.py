"""`model.push_to_hub`: all that a repository needs, where the package is there to add it."""

from collections.abc import Callable
from typing import Any, ClassVar


class PushToHubMixin:
    """Gives `push_to_hub` to whatever the package registered as its publisher.

    Where this file travels with a checkpoint and the package is not installed, there is none, and
    transformers' own `push_to_hub` puts weights, configuration and code on the Hub.
    """

    publisher: ClassVar[Callable[..., Any] | None] = None

    def push_to_hub(self, repo_id: str, **options: Any) -> Any:
        """Put the model on the Hub, in one commit.

        Args:
            repo_id: `"owner/name"`; made if it is not there.
            **options: With the package imported, those of [`unimiss_hf.hub.push_model`]
                (`image_processor`, `private`, `revision`, `license`, `dry_run`, ...); else those of
                transformers.

        Raises:
            TypeError: If there is no such option.
            ValueError, OSError: If the model cannot be published; says what to do.
        """
        publisher = type(self).publisher
        if publisher is None:
            return super().push_to_hub(repo_id, **options)
        return publisher(self, repo_id, **options)


__all__ = ["PushToHubMixin"]
