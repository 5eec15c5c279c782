"""Where images come from: files, folders and Hub datasets, opened as one kind of stream."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from datasets import (
    Dataset,
    DatasetDict,
    IterableDataset,
    IterableDatasetDict,
    get_dataset_config_names,
    load_dataset,
    load_dataset_builder,
    load_from_disk,
)
from datasets.packaged_modules.parquet.parquet import Parquet

from ..input_checks_mit import did_you_mean, near_matches
from .image_columns import FEATURES, FILE_SUFFIXES, feature_of, generated, image_column, undecoded
from .parquet_rows import read_features, stream_rows
from .prepared import COLUMN_OF_DIMENSION, PART_OF_DIMENSION
from .prepared_folders import NOTE, PreparedFolder, find_at_address, find_in_folder, find_on_hub
from .reading import Dimension

SHARD_BUILDERS = {".parquet": "parquet", ".arrow": "arrow", ".tar": "webdataset"}
_HUB_PREFIX = "hf://datasets/"
_ADDRESS_PREFIXES = ("http://", "https://")

# More shards mix better, as their order is drawn anew each epoch, but each costs a little time.
# 48 divides evenly among 1, 2, 3, 4, 6, 8, 12, 16, 24 and 48 readers.
_LOCAL_SHARDS = 48

Spec = str | Path | Sequence[str | Path] | Dataset | IterableDataset


@dataclass(frozen=True)
class Source:
    """Images of one dimension that nothing has decoded yet.

    Attributes:
        records: stream of `{"image": {"path": str | None, "bytes": bytes | None}}`.
        dimension: `"2d"` or `"3d"`.
        num_samples: number of records, or None where a stream does not tell.
        num_shards: number of parts that can be read independently of one another.
        name: what to call the source in messages.
        spacing: distance of voxel centres in mm, (depth, height, width), of prepared volumes.
        content: digest of a prepared source, the same wherever it is read from.
        is_sequential: whether records come with their bytes, one after another, so that passing
            over one takes as long as reading it.
    """

    records: IterableDataset
    dimension: Dimension
    num_samples: int | None
    num_shards: int
    name: str
    spacing: tuple[float, ...] | None = None
    content: str | None = None
    is_sequential: bool = False


def open_source(
    spec: Spec,
    dimension: Dimension,
    *,
    streaming: bool = False,
    split: str = "train",
    config_name: str | None = None,
    column: str | None = None,
    revision: str | None = None,
) -> Source:
    """Open images wherever they are, without decoding any.

    Args:
        spec: one of

            * a folder: of image files, at any depth; prepared by `python -m unimiss_hf.data
              prepare`; written by `save_to_disk`; or of Parquet, Arrow or WebDataset (tar) files.
              Hidden files and folders are passed over;
            * a file, a list of files, or a glob pattern, of images or of Parquet, Arrow, tar files;
            * the name of a dataset on the Hub (`"hf://datasets/owner/name"` if a local file or
              folder is called nearly the same);
            * an http(s) address of a prepared folder, or one or more of Parquet, Arrow, tar files;
            * an opened `datasets.Dataset` or `datasets.IterableDataset`.
        dimension: `"2d"` for radiographs (PNG, JPEG, TIFF, BMP), `"3d"` for volumes (NIfTI). Of
            prepared data, it chooses the part.
        streaming: read a dataset while it downloads, rather than before; has no effect on image
            files, prepared folders on this machine and opened datasets.
        split: the split, of those that the dataset has.
        config_name: the configuration, of a Hub dataset that has several.
        column: the column of images, needed if not exactly one is of this dimension.
        revision: branch, tag or commit of a Hub dataset.

    Returns:
        The source. Prepared data give the same records in the same order, wherever they are.

    Raises:
        FileNotFoundError: if `spec` looks like a path and nothing is there, or no such dataset is
            on the Hub, or a prepared folder lacks files.
        PermissionError: if access to a dataset on the Hub must be asked for.
        ConnectionError: if the Hub or server cannot be reached, or `HF_HUB_OFFLINE` forbids it.
        ValueError: if there is no image of this dimension, or it is unclear where they are.
        TypeError: if `spec` is of another type, or a dictionary of splits.
    """
    if dimension not in FILE_SUFFIXES:
        raise ValueError(f"dimension must be '2d' or '3d'; got {dimension!r}.")
    if isinstance(spec, DatasetDict | IterableDatasetDict):
        raise TypeError(f"Got a dictionary of splits; pass one of them: {sorted(spec)}.")
    if isinstance(spec, Dataset | IterableDataset):
        name = spec.info.dataset_name or f"the given {type(spec).__name__}"
        return _from_dataset(spec, dimension, column, name)
    if isinstance(spec, str | Path):
        text = str(spec)
        if not text:
            raise ValueError("Got an empty name; wanted a dataset, a folder, or files.")
        if text.startswith(_HUB_PREFIX):
            name = text.removeprefix(_HUB_PREFIX).rstrip("/")
            return _from_hub(name, dimension, streaming, split, config_name, column, revision)
        if text.startswith(_ADDRESS_PREFIXES):
            return _from_addresses([text], dimension, streaming, split, column, text)
        path = Path(text).expanduser()
        if path.is_dir():
            return _from_folder(path, dimension, streaming, split, column)
        if path.exists():
            return _from_files([path], dimension, streaming, split, column, str(path))
        if any(character in text for character in "*?["):
            files = _matching_files(text)
            return _from_files(files, dimension, streaming, split, column, text)
        forbid_mistyped_path(text, path)
        return _from_hub(text, dimension, streaming, split, config_name, column, revision)
    if isinstance(spec, Iterable):
        listed = [str(file) for file in spec]
        name = f"a list of {len(listed)}"
        if any(file.startswith(_ADDRESS_PREFIXES) for file in listed):
            return _from_addresses(listed, dimension, streaming, split, column, name)
        files = [Path(file).expanduser() for file in listed]
        return _from_files(files, dimension, streaming, split, column, name)
    raise TypeError(
        f"Cannot open a {type(spec).__name__} as a source of images. Pass a Hub name, a folder, "
        f"files, or a datasets.Dataset or IterableDataset."
    )


def _from_hub(
    name: str,
    dimension: Dimension,
    streaming: bool,
    split: str,
    config_name: str | None,
    column: str | None,
    revision: str | None,
) -> Source:
    part = PART_OF_DIMENSION[dimension]
    prepared = find_on_hub(name, revision) if config_name in (None, part) else None
    if prepared is not None:
        return _from_prepared(prepared, dimension, streaming, split, column)
    options = {"revision": revision}
    try:
        if config_name is None and part in get_dataset_config_names(name, revision=revision):
            config_name = part
        return _loaded(name, dimension, column, name, split, streaming, config_name, options)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{name!r} is neither a local file or folder nor a dataset that can be read on the "
            f"Hub: {error}"
        ) from error
    except ConnectionError as error:
        raise ConnectionError(
            f"{name!r} is no local file or folder, and the Hub could not be reached to look for a "
            f"dataset of that name ({error}). Check the name and the network; if HF_HUB_OFFLINE is "
            f"set, only datasets that were downloaded before can be opened."
        ) from error


def _from_prepared(
    prepared: PreparedFolder, dimension: Dimension, streaming: bool, split: str, column: str | None
) -> Source:
    own = COLUMN_OF_DIMENSION[dimension]
    if column not in (None, own):
        raise ValueError(
            f"{prepared.name} is prepared, with its {dimension} images in the column {own!r}; got "
            f"column={column!r}. Leave it out."
        )
    part = (
        prepared.part(dimension, split) if streaming else prepared.downloaded_part(dimension, split)
    )
    return Source(
        part.records(),
        dimension,
        part.num_samples,
        len(part.shards),
        prepared.name,
        spacing=part.spacing,
        content=part.content,
        is_sequential=part.is_sequential,
    )


def _from_folder(
    folder: Path, dimension: Dimension, streaming: bool, split: str, column: str | None
) -> Source:
    name = str(folder)
    prepared = find_in_folder(folder)
    if prepared is not None:
        return _from_prepared(prepared, dimension, streaming, split, column)
    if is_saved_data_set(folder):
        saved = load_from_disk(name)
        if isinstance(saved, DatasetDict):
            if split not in saved:
                raise ValueError(f"{name} has no split {split!r}, but {sorted(saved)}.")
            saved = saved[split]
        return _from_dataset(saved, dimension, column, name)
    found = visible_files(folder)
    files = [file for file in found if suffix_of(file) in FILE_SUFFIXES[dimension]]
    shards = [f for f in found if suffix_of(f) in SHARD_BUILDERS and f.stem != "metadata"]
    if files and shards:
        raise ValueError(
            f"{name} holds both {dimension} images and dataset files ({counts(files + shards)}). "
            f"Pass the ones you mean, for instance as {name}/**/*{suffix_of(files[0])}"
        )
    if shards:
        return _loaded(name, dimension, column, name, split, streaming)
    if not files:
        raise ValueError(
            f"{name} holds no {dimension} images: found {counts(found) or 'no files at all'}; "
            f"wanted {', '.join(FILE_SUFFIXES[dimension])} (or Parquet, Arrow, tar files)."
        )
    return _from_files(files, dimension, streaming, split, column, name)


def _from_files(
    files: Sequence[Path],
    dimension: Dimension,
    streaming: bool,
    split: str,
    column: str | None,
    name: str,
) -> Source:
    if not files:
        raise ValueError(f"No {dimension} images to read: the list of files is empty.")
    missing = [str(file) for file in files if not file.is_file()]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(files)} files are missing, or folders: {missing[:3]}"
        )
    suffixes = {suffix_of(file) for file in files}
    builder = _shard_builder(suffixes)
    if builder is not None:
        options = {"data_files": {split: [str(file) for file in files]}}
        return _loaded(builder, dimension, column, name, split, streaming, options=options)
    if not suffixes <= set(FILE_SUFFIXES[dimension]):
        raise ValueError(
            f"{name}: found {counts(files)}, but {dimension} images are "
            f"{', '.join(FILE_SUFFIXES[dimension])}."
        )
    records = Dataset.from_dict({"image": [str(file) for file in files]})
    records = records.cast_column("image", FEATURES[dimension](decode=False))
    return _from_dataset(records, dimension, "image", name)


def _from_addresses(
    addresses: Sequence[str],
    dimension: Dimension,
    streaming: bool,
    split: str,
    column: str | None,
    name: str,
) -> Source:
    suffixes = {suffix_of(Path(urlsplit(address).path)) for address in addresses}
    builder = _shard_builder(suffixes)
    if builder is not None:
        options = {"data_files": {split: list(addresses)}}
        return _loaded(builder, dimension, column, name, split, streaming, options=options)
    prepared = find_at_address(addresses[0]) if len(addresses) == 1 else None
    if prepared is None:
        raise ValueError(
            f"{name}: an address is opened if {NOTE} of a prepared folder is below it, or if it is "
            f"of a Parquet, Arrow or tar file; got {', '.join(addresses[:3])}."
        )
    return _from_prepared(prepared, dimension, streaming, split, column)


def _shard_builder(suffixes: set[str]) -> str | None:
    """The library's builder of dataset files, if they are all of one kind."""
    return SHARD_BUILDERS.get(next(iter(suffixes))) if len(suffixes) == 1 else None


def _loaded(
    path: str,
    dimension: Dimension,
    column: str | None,
    name: str,
    split: str,
    streaming: bool,
    config_name: str | None = None,
    options: dict[str, Any] | None = None,
) -> Source:
    """Open what the datasets library loads: a name, a folder, or a builder with files."""
    options = options or {}
    if not streaming:
        opened = load_dataset(path, config_name, split=split, **options)
        return _from_dataset(opened, dimension, column, name, split)
    builder = load_dataset_builder(path, config_name, **options)
    files = (builder.config.data_files or {}).get(split)
    if not isinstance(builder, Parquet) or not files:
        opened = builder.as_streaming_dataset(split=split)
        return _from_dataset(opened, dimension, column, name, split)
    # Why the library's own stream of Parquet is not taken, `parquet_rows` says.
    features = builder.info.features or read_features(files[0])
    column = image_column(features, dimension, column, name)
    records = generated(stream_rows, dimension, files=list(files), column=column)
    num_samples = _known_samples(builder.info.splits, split)
    if num_samples is None:
        _require_records(records, name)
    return Source(records, dimension, num_samples, len(files), name, is_sequential=True)


def _from_dataset(
    opened: Dataset | IterableDataset,
    dimension: Dimension,
    column: str | None,
    name: str,
    split: str | None = None,
) -> Source:
    """Bring an opened dataset to the one column of undecoded images.

    `split` is given for datasets that nobody has filtered since they were loaded, whose
    information therefore tells the number of records.
    """
    is_sequential = isinstance(opened, IterableDataset)
    num_samples = _known_samples(opened.info.splits, split) if is_sequential else len(opened)
    if num_samples == 0:
        raise ValueError(f"{name} has no records.")
    features = opened.features
    if features is None:
        first = _require_records(opened, name)
        features = {key: feature_of(value) for key, value in first.items()}
    column = image_column(features, dimension, column, name)
    if isinstance(opened, Dataset):
        opened = opened.with_format(None)
        opened = opened.to_iterable_dataset(num_shards=min(num_samples, _LOCAL_SHARDS))
    records = undecoded(opened, column, dimension, keyed="__key__" in features)
    if num_samples is None:
        _require_records(records, name)
    return Source(
        records, dimension, num_samples, records.num_shards, name, is_sequential=is_sequential
    )


def _require_records(records: IterableDataset, name: str) -> dict[str, Any]:
    first = next(iter(records), None)
    if first is None:
        raise ValueError(f"{name} has no records.")
    return first


def _known_samples(splits: Mapping[str, Any] | None, split: str | None) -> int | None:
    if split is None or splits is None or split not in splits:
        return None
    return splits[split].num_examples or None


def is_saved_data_set(folder: Path) -> bool:
    """Whether `save_to_disk` wrote a folder."""
    return (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()


def visible_files(folder: Path) -> list[Path]:
    """All files below a folder, sorted, through links to folders, each folder once."""
    files, visited = [], set()
    for root, folders, names in os.walk(folder, followlinks=True):
        real = Path(root).resolve()
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files += [Path(root, name) for name in names if not name.startswith(".")]
    return sorted(files)


def _matching_files(text: str) -> list[Path]:
    pattern = Path(text).expanduser()
    matches = Path(pattern.anchor).glob(str(pattern.relative_to(pattern.anchor)))
    files = sorted(
        path
        for path in matches
        if path.is_file()
        and not any(part.startswith(".") for part in set(path.parts) - set(pattern.parts))
    )
    if not files:
        raise FileNotFoundError(f"No file matches the pattern {text}")
    return files


def suffix_of(file: Path) -> str:
    """The suffix of a file's name in lower case; `.nii.gz` is one."""
    name = file.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else Path(name).suffix


def counts(files: Iterable[Path]) -> str:
    """How many files there are of each suffix, in words."""
    numbers = Counter(suffix_of(file) or "no suffix" for file in files)
    return ", ".join(f"{number} {suffix}" for suffix, number in numbers.most_common())


def forbid_mistyped_path(text: str, path: Path) -> None:
    """Keep a path with a slip of the pen from being looked for on the Hub.

    Raises:
        FileNotFoundError: if `text` looks like a path; names those that are written nearly alike.
    """
    close = near_matches(path, hidden=False)
    suffixes = (*FILE_SUFFIXES["2d"], *FILE_SUFFIXES["3d"], *SHARD_BUILDERS)
    if not (
        close
        or text.startswith((".", "/", "~"))
        or text.lower().endswith((*suffixes, "/", ".dcm", ".zip", ".gz", ".json", ".csv"))
        or text.count("/") > 1
        or "\\" in text
    ):
        return
    raise FileNotFoundError(
        f"There is no file or folder {text} (looked for {path.absolute()})."
        f"{did_you_mean(close)} If a dataset on the Hub is meant, write {_HUB_PREFIX}owner/name."
    )
