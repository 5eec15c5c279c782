"""Models of the Hub: downloaded once, found in the cache afterwards, or a sentence why not."""

import re
from functools import cache
from pathlib import Path

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

# What opening a model takes, and its card, which names the licence that a fine-tuned model
# inherits; figures, logs and what continues training stay on the Hub.
_WANTED = ["*.json", "*.safetensors", "*.py", "README.md"]
_NESTED = ["*/*"]
_COMMIT = re.compile(r"[0-9a-f]{40}")


def split_revision(name: str) -> tuple[str, str | None]:
    """Split `owner/name@revision` at its sign; a name without one has the revision `None`."""
    repository, sign, revision = name.partition("@")
    return repository, revision if sign else None


@cache
def fetch_model(name: str) -> Path:
    """Download what opening a model takes, unless the cache has it.

    The Hub is asked once in a process for each name, so that configuration, weights and processor
    are of one commit, even if a branch moves meanwhile.

    A download that was cut off goes on with the files that are missing. Without a network, or with
    `HF_HUB_OFFLINE=1`, the cache serves alone.

    Args:
        name: `"owner/name"`, or `"owner/name@revision"` for a branch, a tag or a commit.

    Returns:
        The folder in the cache.

    Raises:
        ValueError: If it is no name of a repository.
        OSError: If the Hub does not give the model, or cannot be reached and the cache lacks it;
            says why, and what to do.
    """
    repository, revision = split_revision(name)
    if revision == "":
        raise ValueError(f"{name} names no revision after the @. Give one, or leave the @ out.")
    try:
        folder = snapshot_download(
            repository,
            revision=revision,
            allow_patterns=_WANTED,
            ignore_patterns=_NESTED,
            library_name="unimiss_hf",
        )
    except HFValidationError as error:
        raise ValueError(f"{name!r} is no name of a model on the Hub: {error}") from error
    except (OSError, HfHubHTTPError) as error:
        raise OSError(_why_not(error, repository, revision)) from error
    if not (Path(folder) / "config.json").is_file():
        raise OSError(
            f"{name} has no config.json, neither on the Hub nor in the cache: it is no model that "
            "transformers opens, or only a part of it was downloaded. Look at its files, and run "
            "this again with a network."
        )
    return Path(folder)


def commit_of(folder: Path) -> str | None:
    """The commit that a folder in the cache is of; `None` for any other folder."""
    is_cached = folder.parent.name == "snapshots" and _COMMIT.fullmatch(folder.name)
    return folder.name if is_cached else None


def _why_not(error: Exception, repository: str, revision: str | None) -> str:
    """A sentence on why the Hub gave no model, and what to do."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    page = f"{constants.ENDPOINT}/{repository}"
    if isinstance(error, GatedRepoError):
        if status == 401:
            return (
                f"{repository} is gated, and no login was sent. Ask for access at {page}, then log "
                "in with `hf auth login`, or set HF_TOKEN."
            )
        return (
            f"{repository} is gated, and this login may not download it (yet). Ask for access at "
            f"{page}; once its owners have granted it, run this again."
        )
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"The Hub has no model {repository}, or it is private and this login may not see it. "
            "Look at the spelling, or log in with `hf auth login`; if a folder was meant, there is "
            "none of that name."
        )
    if isinstance(error, RevisionNotFoundError):
        return (
            f"{repository} has no revision {revision}. Give a branch, a tag or a whole commit that "
            f"{page}/commits names."
        )
    if isinstance(error, LocalEntryNotFoundError):
        at = f"@{revision}" if revision else ""
        why = (
            "HF_HUB_OFFLINE=1 forbids to download it. Unset that once"
            if constants.HF_HUB_OFFLINE
            else "the Hub cannot be reached. Look at the network, or at HF_ENDPOINT and proxies"
        )
        return f"{repository}{at} is not in the cache, or not whole, and {why}, or give a folder."
    if isinstance(error, EntryNotFoundError):
        return f"{repository} lacks a file that it lists ({error}). Run this again, or tell {page}."
    if status == 401:
        return (
            f"The Hub does not accept the token for {repository}. Log in again with `hf auth "
            "login`, or set HF_TOKEN to a valid one."
        )
    text = (str(error) or type(error).__name__).splitlines()[0]
    return f"{repository} was not downloaded: {text}. Run this again; it goes on where it stopped."


__all__ = ["commit_of", "fetch_model", "split_revision"]
