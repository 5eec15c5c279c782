"""Where images come from: files, folders and Hub datasets, opened as one kind of stream."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import PIL.Image
from datasets import (
    Dataset,
    DatasetDict,
    Features,
    Image,
    IterableDataset,
    IterableDatasetDict,
    Nifti,
    Value,
    load_dataset,
    load_from_disk,
)

from ..input_checks_mit import did_you_mean, near_matches
from .reading import Dimension

FILE_SUFFIXES: dict[str, tuple[str, ...]] = {
    "2d": (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"),
    "3d": (".nii", ".nii.gz"),
}
SHARD_BUILDERS = {".parquet": "parquet", ".arrow": "arrow", ".tar": "webdataset"}
_FEATURES = {"2d": Image, "3d": Nifti}
_HUB_PREFIX = "hf://datasets/"

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
    """

    records: IterableDataset
    dimension: Dimension
    num_samples: int | None
    num_shards: int
    name: str


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

            * a folder: of image files, at any depth; written by `save_to_disk`; or of Parquet,
              Arrow or WebDataset (tar) files. Hidden files and folders are passed over;
            * a file, a list of files, or a glob pattern, of images or of Parquet, Arrow, tar files;
            * the name of a dataset on the Hub (`"hf://datasets/owner/name"` if a local file or
              folder is called nearly the same);
            * an opened `datasets.Dataset` or `datasets.IterableDataset`.
        dimension: `"2d"` for radiographs (PNG, JPEG, TIFF, BMP), `"3d"` for volumes (NIfTI).
        streaming: read a dataset while it downloads, rather than before; has no effect on image
            files and opened datasets.
        split: the split, of those that the dataset has.
        config_name: the configuration, of a Hub dataset that has several.
        column: the column of images, needed if not exactly one is of this dimension.
        revision: branch, tag or commit of a Hub dataset.

    Returns:
        The source.

    Raises:
        FileNotFoundError: if `spec` looks like a path and nothing is there, or no such dataset is
            on the Hub.
        ConnectionError: if the Hub cannot be reached, or `HF_HUB_OFFLINE` forbids it.
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
        files = [Path(file).expanduser() for file in spec]
        return _from_files(files, dimension, streaming, split, column, f"a list of {len(files)}")
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
    try:
        opened = load_dataset(
            name, config_name, split=split, streaming=streaming, revision=revision
        )
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
    return _from_dataset(opened, dimension, column, name, split)


def _from_folder(
    folder: Path, dimension: Dimension, streaming: bool, split: str, column: str | None
) -> Source:
    name = str(folder)
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
        opened = load_dataset(name, split=split, streaming=streaming)
        return _from_dataset(opened, dimension, column, name, split)
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
    if len(suffixes) == 1 and suffixes <= SHARD_BUILDERS.keys():
        builder = SHARD_BUILDERS[suffixes.pop()]
        paths = {split: [str(file) for file in files]}
        opened = load_dataset(builder, data_files=paths, split=split, streaming=streaming)
        return _from_dataset(opened, dimension, column, name, split)
    if not suffixes <= set(FILE_SUFFIXES[dimension]):
        raise ValueError(
            f"{name}: found {counts(files)}, but {dimension} images are "
            f"{', '.join(FILE_SUFFIXES[dimension])}."
        )
    records = Dataset.from_dict({"image": [str(file) for file in files]})
    records = records.cast_column("image", _FEATURES[dimension](decode=False))
    return _from_dataset(records, dimension, "image", name)


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
    num_samples = _num_samples(opened, split)
    if num_samples == 0:
        raise ValueError(f"{name} has no records.")
    features = opened.features
    if features is None:
        first = next(iter(opened), None)
        if first is None:
            raise ValueError(f"{name} has no records.")
        features = {key: _feature_of(value) for key, value in first.items()}
    column = _image_column(features, dimension, column, name)
    if isinstance(opened, Dataset):
        opened = opened.with_format(None)
        opened = opened.to_iterable_dataset(num_shards=min(num_samples, _LOCAL_SHARDS))
    records = _undecoded(opened, column, dimension, keyed="__key__" in features)
    if num_samples is None and next(iter(records), None) is None:
        raise ValueError(f"{name} has no records.")
    return Source(records, dimension, num_samples, records.num_shards, name)


def _undecoded(
    opened: IterableDataset, column: str, dimension: Dimension, keyed: bool
) -> IterableDataset:
    feature = _FEATURES[dimension](decode=False)
    opened = opened.with_format(None)
    if not keyed or column == "__key__":
        opened = opened.select_columns([column])
        if column != "image":
            opened = opened.rename_column(column, "image")
        return opened.cast(Features({"image": feature}))
    # WebDataset names a sample by a column of its own.
    opened = opened.select_columns([column, "__key__"])
    opened = opened.cast(Features({column: feature, "__key__": Value("string")}))
    return opened.map(
        _named_by_key,
        fn_kwargs={"column": column},
        remove_columns=[name for name in (column, "__key__") if name != "image"],
        features=Features({"image": feature}),
    )


def _named_by_key(record: dict[str, Any], column: str) -> dict[str, Any]:
    value = record[column] or {}
    name = value.get("path") or f"{record['__key__']}.{column}"
    return {"image": {"path": name, "bytes": value.get("bytes")}}


def _num_samples(opened: Dataset | IterableDataset, split: str | None) -> int | None:
    if isinstance(opened, Dataset):
        return len(opened)
    splits = opened.info.splits
    if split is None or splits is None or split not in splits:
        return None
    return splits[split].num_examples or None


def _image_column(
    features: dict[str, Any], dimension: Dimension, column: str | None, name: str
) -> str:
    wanted = _FEATURES[dimension].__name__
    listing = ", ".join(f"{key!r} ({_kind(feature)})" for key, feature in features.items())
    if column is not None:
        if column not in features:
            raise ValueError(f"{name} has no column {column!r}; it has {listing}.")
        if not _may_hold(features[column], dimension):
            raise ValueError(
                f"Column {column!r} of {name} is of type {_kind(features[column])}, but "
                f"{dimension} images are {wanted}, bytes, or paths. The columns are {listing}."
            )
        return column
    suffixes = {suffix.lstrip(".") for suffix in FILE_SUFFIXES[dimension]}
    typed = [key for key, value in features.items() if isinstance(value, _FEATURES[dimension])]
    # An untyped column counts where its name, as in a WebDataset, or its fields say what it holds.
    untyped = [
        key
        for key, value in features.items()
        if (key.lower() in suffixes and _kind(value) == "binary") or _is_path_and_bytes(value)
    ]
    candidates = typed or untyped
    if len(candidates) != 1:
        found = f"several columns of {dimension} images" if candidates else f"no {wanted} column"
        raise ValueError(
            f"{name} has {found}: its columns are {listing}. Pass column= to name the one that "
            f"holds the {dimension} images."
        )
    return candidates[0]


def _may_hold(feature: Any, dimension: Dimension) -> bool:
    if isinstance(feature, _FEATURES[dimension]) or _is_path_and_bytes(feature):
        return True
    return _kind(feature) in ("binary", "string", "large_binary", "large_string")


def _is_path_and_bytes(feature: Any) -> bool:
    return isinstance(feature, dict) and feature.keys() == {"bytes", "path"}


def _kind(feature: Any) -> str:
    return feature.dtype if isinstance(feature, Value) else type(feature).__name__


def _feature_of(value: Any) -> Any:
    """The type of a column of which only a value is known."""
    if isinstance(value, bytes):
        return Value("binary")
    if isinstance(value, str):
        return Value("string")
    if isinstance(value, PIL.Image.Image):
        return Image()
    return value


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
