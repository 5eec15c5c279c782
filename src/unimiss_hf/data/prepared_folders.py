"""What `python -m unimiss_hf.data prepare` leaves, in a folder, on the Hub or behind an address."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import fsspec
from datasets import DownloadManager, IterableDataset
from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from ..input_checks_mit import did_you_mean, near_names, require_spacing
from .errors import one_line
from .image_columns import generated
from .parquet_rows import is_remote, row_address, stream_rows
from .prepared import COLUMN_OF_DIMENSION, FORMAT_VERSION, PART_OF_DIMENSION
from .reading import Dimension

NOTE = "prepared.json"
"""The file that says what a prepared data set holds."""


@dataclass(frozen=True)
class PreparedShard:
    """A Parquet file of a prepared data set.

    Attributes:
        file: its place below the data set's address.
        num_samples: its rows.
        num_bytes: its size.
    """

    file: str
    num_samples: int
    num_bytes: int


@dataclass(frozen=True)
class PreparedPart:
    """The samples of one dimension and split, which nothing has read yet.

    Attributes:
        dimension: `"2d"` or `"3d"`.
        shards: the files.
        addresses: where each of them is opened.
        spacing: distance of voxel centres in mm, (depth, height, width); None of radiographs.
    """

    dimension: Dimension
    shards: tuple[PreparedShard, ...]
    addresses: tuple[str, ...]
    spacing: tuple[float, ...] | None

    @property
    def num_samples(self) -> int:
        """Rows of all shards."""
        return sum(shard.num_samples for shard in self.shards)

    @property
    def is_sequential(self) -> bool:
        """Whether passing over a record takes as long as reading it."""
        return self.dimension == "2d"

    @property
    def content(self) -> str:
        """A digest of what the shards are said to hold, which is the same wherever they lie."""
        listing = [(shard.file, shard.num_samples, shard.num_bytes) for shard in self.shards]
        return hashlib.blake2b(json.dumps(listing).encode(), digest_size=8).hexdigest()

    def records(self) -> IterableDataset:
        """Records `{"image": {"path", "bytes"}}`, a shard for each file.

        A volume's record is the address of its row, as a window needs a small part of it. A
        radiograph's holds its bytes, as rows that are read one after another are read fastest.
        """
        if self.is_sequential:
            column = COLUMN_OF_DIMENSION[self.dimension]
            files = list(self.addresses)
            return generated(stream_rows, self.dimension, files=files, column=column)
        counts = [shard.num_samples for shard in self.shards]
        files = list(zip(self.addresses, counts, strict=True))
        return generated(_addresses_of_rows, self.dimension, files=files)


@dataclass(frozen=True)
class PreparedFolder:
    """A prepared data set.

    Attributes:
        name: what to call it in messages.
        base: its folder or address.
        spacing: of its volumes in mm, (depth, height, width).
        parts: its files by part and split.
        repository: name and commit, of one on the Hub.
    """

    name: str
    base: str
    spacing: tuple[float, ...]
    parts: dict[str, dict[str, tuple[PreparedShard, ...]]]
    repository: tuple[str, str] | None = None

    def part(self, dimension: Dimension, split: str) -> PreparedPart:
        """The samples of a dimension and split, or of several as `train+test`, where they lie.

        Raises:
            ValueError: if there are none; says which there are.
            FileNotFoundError: if it is a local folder, and lacks a file or has it in part only.
        """
        name = PART_OF_DIMENSION[dimension]
        if name not in self.parts:
            raise ValueError(
                f"{self.name} holds no {name}: it was prepared with "
                f"{' and '.join(sorted(self.parts)) or 'nothing'} alone. Name it for that "
                f"dimension only, or prepare {name} as well."
            )
        splits = self.parts[name]
        # As the datasets library writes several; each counts once.
        wanted = list(dict.fromkeys(split.split("+")))
        for one in wanted:
            if not splits.get(one):
                raise ValueError(
                    f"{self.name} has no split {one!r} of {name}, but {', '.join(sorted(splits))}. "
                    f"Name one, or several as train+test.{did_you_mean(near_names(one, splits))}"
                )
        shards = tuple(shard for one in wanted for shard in splits[one])
        if not is_remote(self.base):
            self._require_files(shards)
        addresses = tuple(f"{self.base}/{shard.file}" for shard in shards)
        spacing = self.spacing if dimension == "3d" else None
        return PreparedPart(dimension, shards, addresses, spacing)

    def downloaded_part(self, dimension: Dimension, split: str) -> PreparedPart:
        """The samples of a dimension and split, on this machine.

        Raises:
            ValueError, FileNotFoundError: as `part`.
            OSError: if they cannot be downloaded.
        """
        part = self.part(dimension, split)
        if not is_remote(self.base):
            return part
        if self.repository is None:
            return replace(part, addresses=_downloaded(part.addresses))
        name, commit = self.repository
        wanted = [shard.file for shard in part.shards]
        base = snapshot_download(
            name, repo_type="dataset", revision=commit, allow_patterns=[NOTE, *wanted]
        )
        return replace(self, base=base).part(dimension, split)

    def _require_files(self, shards: Sequence[PreparedShard]) -> None:
        for shard in shards:
            path = Path(self.base, shard.file)
            if not path.is_file():
                raise FileNotFoundError(
                    f"{path} is missing, which {NOTE} beside it lists. Copy the folder anew, or "
                    f"prepare it again."
                )
            size = path.stat().st_size
            if size != shard.num_bytes:
                raise FileNotFoundError(
                    f"{path} has {size} bytes, and {NOTE} beside it says {shard.num_bytes}: it is "
                    f"no whole copy. Copy the file anew, or prepare the folder again."
                )


def find_in_folder(folder: Path) -> PreparedFolder | None:
    """The prepared data set in a folder; None if there is none.

    Raises:
        ValueError: if its `prepared.json` is damaged, or of another version.
    """
    note = folder / NOTE
    if not note.is_file():
        return None
    return _described(note.read_bytes(), str(folder), str(folder))


def find_at_address(address: str) -> PreparedFolder | None:
    """The prepared data set below an http(s) address; None if there is none.

    Raises:
        ValueError: if its `prepared.json` is damaged, or of another version.
        ConnectionError: if the server cannot be reached, or refuses.
    """
    base = address.rstrip("/")
    try:
        content = fsspec.filesystem("http").cat_file(f"{base}/{NOTE}")
    except FileNotFoundError:
        return None
    except Exception as error:
        raise ConnectionError(
            f"{base}/{NOTE} could not be read: {one_line(error, '')}. Check the address and the "
            f"network."
        ) from error
    return _described(content, base, base)


def find_on_hub(name: str, revision: str | None = None) -> PreparedFolder | None:
    """The prepared data set of a name on the Hub; None if it is not prepared, or not reached.

    Its commit is noted, so that changes there do not reach a run that goes on.

    Raises:
        ValueError: if its `prepared.json` is damaged, or of another version.
        FileNotFoundError: if there is no data set or revision of that name, or it is private.
        PermissionError: if it may be read only by those who were given access.
        ConnectionError: if the Hub refuses.
    """
    try:
        note = Path(hf_hub_download(name, NOTE, repo_type="dataset", revision=revision))
    except GatedRepoError as error:
        raise PermissionError(
            f"{name!r} on the Hub is gated. Ask for access on its page "
            f"(https://huggingface.co/datasets/{name}), then log in with `hf auth login` or set "
            f"HF_TOKEN."
        ) from error
    except RevisionNotFoundError as error:
        raise FileNotFoundError(f"{name!r} on the Hub has no revision {revision!r}.") from error
    except RepositoryNotFoundError as error:
        raise FileNotFoundError(
            f"{name!r} is neither a local file or folder nor a dataset that can be read on the "
            f"Hub. If it is private, log in with `hf auth login` or set HF_TOKEN."
        ) from error
    except (EntryNotFoundError, HFValidationError):
        return None
    except HfHubHTTPError as error:
        raise ConnectionError(f"The Hub refused to show {name!r}: {error}") from error
    commit = note.parent.name
    base = f"hf://datasets/{name}@{commit}"
    return replace(_described(note.read_bytes(), name, base), repository=(name, commit))


def _described(content: bytes, name: str, base: str) -> PreparedFolder:
    try:
        note = json.loads(content)
        version = note["format_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(name, error) from error
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{name} was prepared in format version {version!r}, and this version of unimiss_hf "
            f"reads {FORMAT_VERSION}. Prepare it anew, or install the version that prepared it."
        )
    try:
        spacing = require_spacing("spacing", note["spacing"])
        parts = {
            part: {split: tuple(map(_shard, shards)) for split, shards in splits.items()}
            for part, splits in note["parts"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(name, error) from error
    return PreparedFolder(name, base, spacing, parts)


def _downloaded(addresses: Sequence[str]) -> tuple[str, ...]:
    try:
        return tuple(DownloadManager().download(list(addresses)))
    except OfflineModeIsEnabled as error:
        raise ConnectionError(
            f"HF_HUB_OFFLINE is set, so nothing is downloaded, not from {addresses[0]} either. "
            f"Read it with streaming=True, or unset it."
        ) from error


def _shard(values: dict[str, Any]) -> PreparedShard:
    return PreparedShard(values["file"], int(values["num_samples"]), int(values["num_bytes"]))


def _damaged(name: str, error: Exception) -> ValueError:
    return ValueError(
        f"{NOTE} of {name} is damaged, or no description of a prepared data set ({error!r}). "
        f"Prepare the data set anew."
    )


def _addresses_of_rows(files: list[tuple[str, int]]) -> Iterator[dict[str, Any]]:
    for file, num_rows in files:
        for row in range(num_rows):
            yield {"image": {"path": row_address(file, row), "bytes": None}}
