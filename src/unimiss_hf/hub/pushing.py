"""A model's or a run's folder, put on the Hub in one commit."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    RepoUrl,
    constants,
)
from huggingface_hub.errors import HFValidationError, HTTPError
from huggingface_hub.utils import validate_repo_id

from ..configuration_mit import MiTConfig
from .repository_card import complete_card
from .repository_files import CARD, RepositoryFiles, is_of_a_model, list_files
from .upload_attempt import explain


@dataclass(frozen=True)
class Pushed:
    """What came of a push.

    Attributes:
        address: Of the repository.
        commit: The whole commit, to pin the model by; of a dry run and where nothing had changed,
            that of before, if any.
        sizes: Path in the repository → bytes.
    """

    address: str
    commit: str | None
    sizes: dict[str, int]


def push(
    folder: str | Path,
    repository: str,
    *,
    private: bool = False,
    revision: str | None = None,
    license: str | None = None,
    exclude: Sequence[str] = (),
    message: str | None = None,
    dry_run: bool = False,
    tell: Callable[[str], None] = print,
) -> Pushed:
    """Put a folder on the Hub: weights, configuration, processor, code, card, log and figures.

    The token is that of `HF_TOKEN` or of `hf auth login`; see [`push_files`].

    Args:
        folder: A model's or a run's folder, see [`list_files`].
        repository: `"owner/name"`; made if it is not there.
        private: Whether only its owner may see it; one that is public already is refused.
        revision: A branch, which is made if it is not there; by default the main one.
        license: The Hub's identifier of the weights' licence; by default what the card says.
        exclude: Patterns of paths in the repository that stay here.
        message: Of the commit.
        dry_run: Whether only to tell what would go; the Hub is not asked anything.
        tell: Takes sentences on what goes on.

    Returns:
        The address and the commit.

    Raises:
        FileNotFoundError: If the folder or a part of the model is not there.
        ValueError: If something is wrong with the model, the card or a name, or the repository
            holds something else, or is public although `private` is asked for.
        OSError: If the Hub cannot be reached, or refuses; says what to do.
    """
    _require_name(repository)
    return push_files(
        list_files(folder, exclude),
        repository,
        private=private,
        revision=revision,
        license=license,
        message=message,
        dry_run=dry_run,
        tell=tell,
    )


def push_files(
    listed: RepositoryFiles,
    repository: str,
    *,
    private: bool = False,
    revision: str | None = None,
    license: str | None = None,
    message: str | None = None,
    dry_run: bool = False,
    tell: Callable[[str], None] = print,
) -> Pushed:
    """Complete what was listed and put it on the Hub.

    It all goes in one commit, so the repository never holds half of a model. Large files go ahead
    of it; a call that was cut off is made again, and sends what the Hub does not have yet. What an
    earlier push of another model left is deleted in the same commit, and other files stay.

    Args:
        listed: What goes; it is completed.
        repository, private, revision, license, message, dry_run, tell: See [`push`].

    Returns:
        The address and the commit.

    Raises:
        ValueError: If something is wrong with the model, the card or a name, or the repository
            holds something else, or is public although `private` is asked for.
        OSError: If the Hub cannot be reached, or refuses; says what to do.
    """
    _require_name(repository)
    complete_card(listed, repository, revision, license)
    if listed.shows_images:
        tell(
            f"Pictures that show images of the data: {listed.shows_images}. --exclude keeps them "
            "here."
        )
    address = f"{constants.ENDPOINT}/{repository}"
    if dry_run:
        tell(describe(listed))
        return Pushed(address, None, listed.sizes())
    api = HfApi(library_name="unimiss_hf")
    try:
        url = _open_repository(api, repository, private, revision)
        commit = _commit(api, url, listed, revision, message or "Upload model")
    except (OSError, HTTPError) as error:
        raise OSError(
            f"Nothing was pushed: {explain(error, repository)['reason']}. Put this right and "
            "push again; that sends what the Hub does not have."
        ) from error
    return Pushed(str(url), commit, listed.sizes())


def describe(listed: RepositoryFiles) -> str:
    """Say in lines what goes and what stays."""
    sizes = listed.sizes()
    width = max(len(name) for name in sizes)
    lines = [f"  {name:<{width}}  {_bytes(size):>9}" for name, size in sizes.items()]
    lines = [f"Would go, {len(sizes)} files, {_bytes(sum(sizes.values()))}:", *lines]
    if listed.left_out:
        lines.append("Would stay here:")
        lines += [f"  {name}: {why}" for name, why in sorted(listed.left_out.items())]
    return "\n".join(lines)


def _bytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def _require_name(repository: str) -> None:
    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise ValueError(
            f"{repository!r} is no name of a model; wanted OWNER/NAME of letters, digits and -_."
        ) from error
    if Path(repository).is_dir():
        raise ValueError(
            f"{repository} is a folder here; wanted the name of a repository on the Hub, such as "
            "owner/name, behind the folder that goes there."
        )
    if "/" not in repository:
        raise ValueError(
            f"{repository!r} has no owner; wanted OWNER/NAME. `hf auth whoami` tells yours."
        )


def _open_repository(api: HfApi, repository: str, private: bool, revision: str | None) -> RepoUrl:
    url = api.create_repo(repository, private=private or None, exist_ok=True)
    if private and not api.model_info(url.repo_id).private:
        raise ValueError(
            f"{url.repo_id} is public already, so --private would not keep anything from others. "
            "Make it private in its settings on the Hub, or give another name."
        )
    if revision is not None:
        api.create_branch(url.repo_id, branch=revision, exist_ok=True)
    return url


def _commit(
    api: HfApi, url: RepoUrl, listed: RepositoryFiles, revision: str | None, message: str
) -> str:
    held = api.list_repo_files(url.repo_id, revision=revision)
    _forbid_others(api, url.repo_id, held, revision)
    sources = {name: str(path) for name, path in listed.files.items()}
    sources |= {name: text.encode() for name, text in listed.texts.items()}
    stale = [name for name in held if is_of_a_model(name) and name not in sources]
    return api.create_commit(
        url.repo_id,
        operations=[
            *(CommitOperationAdd(name, source) for name, source in sorted(sources.items())),
            *(CommitOperationDelete(name) for name in stale),
        ],
        commit_message=message,
        revision=revision,
    ).oid


def _forbid_others(api: HfApi, repository: str, held: list[str], revision: str | None) -> None:
    """Do not write over a model of another kind that has the name by mistake."""
    if "config.json" not in held:
        foreign = [name for name in held if name not in (CARD, ".gitattributes", "LICENSE")]
        if foreign:
            raise ValueError(
                f"{repository} on the Hub holds something else, such as {foreign[0]}. Give another "
                "name, or delete that first."
            )
        return
    path = api.hf_hub_download(repository, "config.json", revision=revision)
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8")).get("model_type")
    except (ValueError, AttributeError):
        found = None
    if found != MiTConfig.model_type:
        raise ValueError(
            f"{repository} on the Hub holds a {found!r} model, not a {MiTConfig.model_type!r} one. "
            "Give another name, or delete that first."
        )


__all__ = ["Pushed", "describe", "push", "push_files"]
