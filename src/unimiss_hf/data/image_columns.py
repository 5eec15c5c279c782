"""Which column of a data set holds the images, brought to one kind of record."""

from collections.abc import Callable
from typing import Any

import PIL.Image
from datasets import Features, Image, IterableDataset, Nifti, Value

from .reading import Dimension

FILE_SUFFIXES: dict[str, tuple[str, ...]] = {
    "2d": (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"),
    "3d": (".nii", ".nii.gz"),
}
FEATURES: dict[str, type[Image] | type[Nifti]] = {"2d": Image, "3d": Nifti}


def generated(
    generate: Callable[..., Any], dimension: Dimension, **arguments: Any
) -> IterableDataset:
    """Records `{"image": {"path", "bytes"}}` of a generator, a shard for each of its `files`."""
    features = Features({"image": FEATURES[dimension](decode=False)})
    return IterableDataset.from_generator(generate, features=features, gen_kwargs=arguments)


def image_column(
    features: dict[str, Any], dimension: Dimension, column: str | None, name: str
) -> str:
    """The column of images of a dimension.

    Args:
        features: the columns.
        dimension: `"2d"` or `"3d"`.
        column: the one to take; None takes the only one there is.
        name: what to call the data set in messages.

    Raises:
        ValueError: if there is no such column, or it is unclear which one is meant.
    """
    wanted = FEATURES[dimension].__name__
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
    typed = [key for key, value in features.items() if isinstance(value, FEATURES[dimension])]
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


def undecoded(
    opened: IterableDataset, column: str, dimension: Dimension, keyed: bool
) -> IterableDataset:
    """Records `{"image": {"path", "bytes"}}` of a column.

    Args:
        opened: the data set.
        column: its column of images.
        dimension: `"2d"` or `"3d"`.
        keyed: whether a column `__key__` names the samples, as in a WebDataset.
    """
    feature = FEATURES[dimension](decode=False)
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


def feature_of(value: Any) -> Any:
    """The type of a column of which only a value is known."""
    if isinstance(value, bytes):
        return Value("binary")
    if isinstance(value, str):
        return Value("string")
    if isinstance(value, PIL.Image.Image):
        return Image()
    return value


def _named_by_key(record: dict[str, Any], column: str) -> dict[str, Any]:
    value = record[column] or {}
    name = value.get("path") or f"{record['__key__']}.{column}"
    return {"image": {"path": name, "bytes": value.get("bytes")}}


def _may_hold(feature: Any, dimension: Dimension) -> bool:
    if isinstance(feature, FEATURES[dimension]) or _is_path_and_bytes(feature):
        return True
    return _kind(feature) in ("binary", "string", "large_binary", "large_string")


def _is_path_and_bytes(feature: Any) -> bool:
    return isinstance(feature, dict) and feature.keys() == {"bytes", "path"}


def _kind(feature: Any) -> str:
    return feature.dtype if isinstance(feature, Value) else type(feature).__name__
