"""A prepared data set, put on the Hub."""

import fnmatch
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HFValidationError, HTTPError, RevisionNotFoundError

from ...hub.upload_attempt import explain
from ...input_checks_mit import did_you_mean, near_matches
from ..prepared import PART_OF_DIMENSION
from ..prepared_folders import NOTE, find_in_folder
from .card import retitled
from .output_folder import CARD

# Files of another preparation would be opened with those of this one.
_SHARDS = [f"{part}/*.parquet" for part in PART_OF_DIMENSION.values()]
_MAY_BE_THERE = (*_SHARDS, CARD, NOTE, ".gitattributes")


def push(
    folder: str | Path, repository: str, *, private: bool = False, revision: str | None = None
) -> str:
    """Upload the shards of a prepared data set, then its card and `prepared.json`.

    Nothing else is uploaded: `report.csv` stays here. Shards that the Hub has are not sent again,
    so a call that was cut off goes on. Shards of an earlier preparation are deleted there.

    Args:
        folder: What `prepare` completed.
        repository: `"owner/name"`; made if it is not there.
        private: Whether a new repository is private.
        revision: A branch of it; by default the main one.

    Returns:
        The address of the data set.

    Raises:
        FileNotFoundError: If the folder or a shard is not there, or is not complete.
        ValueError: If the folder's `prepared.json` or the name is none, or the repository holds
            something else.
        OSError: If the Hub cannot be reached, or refuses; says what to do.
    """
    folder = Path(folder).expanduser()
    shards = _shards_of(folder)
    api = HfApi(library_name="unimiss_hf")
    try:
        address = api.create_repo(repository, repo_type="dataset", private=private, exist_ok=True)
        place: dict[str, Any] = {
            "repo_id": address.repo_id,
            "repo_type": "dataset",
            "revision": revision,
        }
        _forbid_others(api.list_repo_files(**place), address.repo_id)
        api.upload_folder(
            folder_path=folder,
            allow_patterns=shards,
            delete_patterns=_SHARDS,
            commit_message=f"Upload {len(shards)} shards",
            **place,
        )
        card = retitled((folder / CARD).read_text(encoding="utf-8"), address.repo_id)
        described = [
            CommitOperationAdd(CARD, card.encode()),
            CommitOperationAdd(NOTE, (folder / NOTE).read_bytes()),
        ]
        api.create_commit(
            operations=described, commit_message="Describe what was prepared", **place
        )
    except HFValidationError as error:
        raise ValueError(f"{repository!r} is no name of a data set: {error}") from error
    except RevisionNotFoundError as error:
        raise OSError(
            f"{repository} has no branch {revision}. Make it on the Hub first, or leave it out."
        ) from error
    except (OSError, HTTPError) as error:
        raise OSError(
            f"{folder} was not pushed: {explain(error, repository)['reason']}. Put this right and "
            "run the same command again; it goes on with what the Hub does not have."
        ) from error
    return str(address)


def _shards_of(folder: Path) -> list[str]:
    """The shards of a prepared data set, each of which is there, whole."""
    if not folder.exists():
        raise FileNotFoundError(
            f"There is no folder {folder} (looked for {folder.absolute()})."
            f"{did_you_mean(near_matches(folder, hidden=False))}"
        )
    prepared = find_in_folder(folder)
    if prepared is None:
        raise FileNotFoundError(
            f"{folder} is no prepared data set, or not complete: it has no {NOTE}. Run prepare to "
            "its end first."
        )
    return [
        shard.file
        for dimension, part in PART_OF_DIMENSION.items()
        for split in prepared.parts.get(part, {})
        for shard in prepared.part(dimension, split).shards
    ]


def _forbid_others(found: Iterable[str], repository: str) -> None:
    """Do not mix a data set with another that has the name by mistake."""
    names = list(found)
    foreign = [
        name for name in names if not any(fnmatch.fnmatch(name, kind) for kind in _MAY_BE_THERE)
    ]
    if foreign and NOTE not in names:
        raise ValueError(
            f"{repository} on the Hub holds something else, such as {foreign[0]}. Give another "
            "name, or delete that first."
        )
