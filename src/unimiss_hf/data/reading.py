"""From an undecoded record of a source to the image of a sample."""

import gzip
import hashlib
import io
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import fsspec
import nibabel
import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from ..grey_levels_mit import GreyWindow
from ..hounsfield_mit import AIR_HU, HU_SCALE, MAX_HU, apply_window
from ..image_reading_mit import read_radiograph, read_volume
from ..volume_grids_mit import reverse_axes
from .parquet_rows import StreamingError, is_remote, read_row, split_row_address
from .prepared import COLUMN_OF_DIMENSION, PreparedVolume, is_encoded_volume
from .sample_cache import SampleCache

Dimension = Literal["2d", "3d"]
# start and length along each axis
Region = tuple[Sequence[int], Sequence[int]]


_GZIP_MAGIC = b"\x1f\x8b"
_NIFTI_CLASSES = {348: nibabel.Nifti1Image, 540: nibabel.Nifti2Image}
_NAMING_BYTES = 65_536
# Of the spacing: what resampling to it counts as the same.
_SPACING_TOLERANCE = 1e-3


class BadSampleError(ValueError):
    """A record that cannot be read as a sample; the message names the file and the cause."""


class LazyVolume:
    """A prepared volume as a network sees it, of which only what is sliced is read.

    Args:
        volume: int16 HU.
        name: what to call it in messages.

    Attributes:
        shape: `(1, depth, height, width)`.
        dtype: float32.
        spacing: distance of voxel centres in mm, (depth, height, width).
    """

    dtype = np.dtype(np.float32)

    def __init__(self, volume: PreparedVolume, name: str) -> None:
        self.name = name
        self.shape = (1, *volume.shape)
        self.spacing = volume.spacing
        self._volume = volume

    def __getitem__(self, key: Any) -> np.ndarray:
        """Read voxels as numpy's slices do: the numbers that reading the whole would give, too.

        Hounsfield units clipped to [-1024, 3071], divided by 1024: float32, a new array.

        Raises:
            BadSampleError: if what is stored there is damaged.
        """
        channel, *place = key if isinstance(key, tuple) else (key,)
        if channel is ...:
            channel, place = slice(None), [..., *place]
        voxels = np.divide(self.read_hounsfield(tuple(place)), np.float32(HU_SCALE))
        return voxels[None][channel]

    def read_hounsfield(self, place: tuple) -> np.ndarray:
        """Read voxels of a place as they are stored: int16 HU, clipped, a new array.

        Raises:
            BadSampleError: if what is stored there is damaged.
        """
        try:
            voxels = np.asarray(self._volume[place or slice(None)])
        except ValueError as error:
            raise BadSampleError(f"{self.name}: {error}") from error
        # `apply_window` works on floats. These bounds are whole, so int16 gives the same sooner.
        return voxels.clip(int(AIR_HU), int(MAX_HU), out=voxels)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """The whole volume."""
        return self[:].astype(self.dtype if dtype is None else dtype, copy=False)


def record_name(record: Mapping[str, Any]) -> str:
    """What to call a record in messages: its path, or a digest of its bytes where it has none.

    Args:
        record: `{"image": {"path": str | None, "bytes": bytes | None}}`.
    """
    value = record.get("image") or {}
    path, content = value.get("path"), value.get("bytes")
    if path:
        return str(path)
    if content is None:
        return "record without path and bytes"
    digest = hashlib.blake2b(content[:_NAMING_BYTES], digest_size=6).hexdigest()
    return f"unnamed record of {len(content)} bytes (blake2b of its beginning: {digest})"


def read_record(
    record: Mapping[str, Any],
    dimension: Dimension,
    *,
    spacing: Sequence[float] | None = (3.0, 1.0, 1.0),
    source_spacing: Sequence[float] | None = None,
    grey_window: GreyWindow = None,
    cache: SampleCache | None = None,
) -> np.ndarray | LazyVolume:
    """Read a record as a radiograph or as a CT volume.

    Args:
        record: `{"image": {"path": str | None, "bytes": bytes | None}}`. Bytes come first; a path
            beside them is only a name. Without bytes, the path is a local file or an address that
            fsspec opens (`hf://`, `https://`, ...), or a row of a Parquet file, as `row_address`
            writes it.
        dimension: `"2d"` or `"3d"`.
        spacing: distance of voxel centres in mm, (depth, height, width), to which volumes are
            resampled; `None` keeps the native grid. A prepared volume must have it. Not used in
            2D.
        source_spacing: the true spacing in mm, (depth, height, width), where headers are wrong.
            Not used in 2D.
        grey_window: the grey levels of a radiograph that become 0 and 1, see `read_radiograph`.
            Not used in 3D.
        cache: keeps decoded samples of records that are files, by path and settings.

    Returns:
        Float32 array. 2D: `(1, height, width)` in [0, 1]. 3D: `(1, depth, height, width)`,
        Hounsfield units clipped to [-1024, 3071], divided by 1024. It may be read-only. A prepared
        volume is a `LazyVolume` of these numbers, which decompresses what is sliced.

    Raises:
        BadSampleError: if the record cannot be read, whatever the reason.
        StreamingError: if a row of a Parquet file cannot be read over the network.
        ValueError: if `dimension` is neither `"2d"` nor `"3d"`, or a prepared volume has another
            spacing than `spacing`, or comes with a `source_spacing`.
    """
    if dimension not in ("2d", "3d"):
        raise ValueError(f"dimension must be '2d' or '3d'; got {dimension!r}.")
    value = record.get("image") or {}
    key = None
    if cache is not None and value.get("path") and value.get("bytes") is None:
        grids = (None if grid is None else tuple(grid) for grid in (spacing, source_spacing))
        window = grey_window if isinstance(grey_window, str | None) else tuple(grey_window)
        key = (value["path"], dimension, *grids, window)
        kept = cache.get(key)
        if kept is not None:
            return kept
    name = record_name(record)
    # Damaged files make the decoders raise nearly any type of error, SyntaxError and MemoryError
    # among them, so none can be left out here.
    try:
        fetched = _row_fetched(value, dimension)
        if fetched is not value:
            name = f"{fetched['path']} ({name})" if fetched["path"] else name
            value = fetched
        content = value.get("bytes")
        if dimension == "3d" and content is not None and is_encoded_volume(content):
            array = LazyVolume(PreparedVolume(content), value.get("path") or name)
        else:
            image = open_image(value, dimension)
            array = (
                read_radiograph(image, grey_window)
                if dimension == "2d"
                else _scaled(read_volume(image, spacing=spacing, source_spacing=source_spacing))
            )
    except StreamingError:
        raise
    except Exception as error:
        cause = str(error) or type(error).__name__
        raise BadSampleError(cause if name in cause else f"{name}: {cause}") from error
    if isinstance(array, LazyVolume):
        require_prepared_spacing(array.name, array.spacing, spacing, source_spacing)
    elif key is not None:
        cache.put(key, array)
    return array


def require_prepared_spacing(
    name: str,
    prepared: Sequence[float],
    spacing: Sequence[float] | None,
    source_spacing: Sequence[float] | None,
) -> None:
    """Raise a ValueError if prepared volumes do not go with the settings they are read with.

    Args:
        name: what to call the volume or the data set.
        prepared: the spacing of its voxels in mm, (depth, height, width).
        spacing: the spacing that is asked for; `None` takes them as they are.
        source_spacing: a true spacing in place of that of headers, which are not read any more.
    """
    if source_spacing is not None:
        raise ValueError(
            f"{name} is prepared, with a spacing of {tuple(prepared)} mm (depth, height, width), "
            f"so source_spacing={tuple(source_spacing)} comes too late. Leave it out, or prepare "
            f"the data anew with it."
        )
    if spacing is not None and not all(
        math.isclose(old, new, rel_tol=_SPACING_TOLERANCE)
        for old, new in zip(prepared, spacing, strict=True)
    ):
        raise ValueError(
            f"{name} is prepared with a spacing of {tuple(prepared)} mm (depth, height, width), "
            f"and {tuple(spacing)} is asked for. Ask for spacing={tuple(prepared)}, or prepare the "
            f"data anew with --spacing {' '.join(f'{length:g}' for length in spacing)}."
        )


def cut_window(
    array: np.ndarray | LazyVolume,
    window: Sequence[int],
    minimum: Sequence[int],
    seed: int,
    pad_value: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cut a random window out of an array, or lay a smaller array into one.

    Along an axis longer than the window, the start is uniform. Along one shorter than `minimum`,
    the array is centred in `minimum` voxels, whose padding counts as valid.

    Args:
        array: `(1, depth, height, width)` or `(1, height, width)`. Of a `LazyVolume`, what lies in
            the window is read and nothing else.
        window: the result's size along each spatial axis.
        minimum: least valid size along each spatial axis, no larger than the window.
        seed: seed of the window's place.
        pad_value: what to fill with.

    Returns:
        The window, float32 `(1, *window)`, and its valid size, int64 `(number of axes,)`: voxels
        from there on are filling.

    Raises:
        ValueError: if the numbers of axes differ, or `minimum` exceeds the window.
        BadSampleError: if a `LazyVolume` is damaged there.
    """

    def whole(extent: Sequence[int], seed: int) -> Region:
        return (0,) * len(window), window

    image, extent, _ = cut_region(array, window, minimum, seed, pad_value, whole)
    return (image if image.is_floating_point() else image / HU_SCALE), extent


def cut_region(
    array: np.ndarray | LazyVolume,
    window: Sequence[int],
    minimum: Sequence[int],
    seed: int,
    pad_value: float,
    region: Callable[[Sequence[int], int], Region],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Cut that part out of the window of `cut_window` which is needed.

    Args:
        array: as for `cut_window`.
        window: as for `cut_window`.
        minimum: as for `cut_window`.
        seed: as for `cut_window`.
        pad_value: as for `cut_window`.
        region: tells start and length of the part along each axis of the window, from the window's
            valid size and the seed.

    Returns:
        The part, `(1, *length)`, float32, or int16 HU of a `LazyVolume`; the window's valid size;
        and the part's start in the window, both int64 `(number of axes,)`.

    Raises:
        ValueError: as `cut_window`.
        BadSampleError: as `cut_window`.
    """
    size = array.shape[1:]
    if not len(size) == len(window) == len(minimum) or array.shape[0] != 1:
        raise ValueError(
            f"An array of shape {array.shape} cannot be cut to the window {tuple(window)} with the "
            f"minimum {tuple(minimum)}: wanted (1, *size), one value of each for each axis of size."
        )
    if any(least > length for least, length in zip(minimum, window, strict=True)):
        raise ValueError(f"The minimum {tuple(minimum)} exceeds the window {tuple(window)}.")
    # A stream of random numbers apart from those that others draw from the same seed.
    generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0,)))
    starts = [
        int(generator.integers(max(n - length, 0) + 1))
        for n, length in zip(size, window, strict=True)
    ]
    extent = [
        max(min(n, length), least) for n, length, least in zip(size, window, minimum, strict=True)
    ]
    first, lengths = region(extent, seed)
    taken, placed = [], []
    for n, kept, least, start, begin, length in zip(
        size, map(min, size, window), minimum, starts, first, lengths, strict=True
    ):
        # From here on, a window's voxel shows one of the array.
        before = max(least - n, 0) // 2
        shown = range(max(begin, before), min(begin + length, before + kept))
        offset = start - before
        taken.append(slice(shown.start + offset, max(shown.stop, shown.start) + offset))
        placed.append(slice(shown.start - begin, max(shown.stop, shown.start) - begin))
    covered = all(part == slice(0, length) for part, length in zip(placed, lengths, strict=True))
    stored = isinstance(array, LazyVolume)
    read = array.read_hounsfield if stored else array[0].__getitem__
    if stored and covered:
        result = read(tuple(taken))
    else:
        result = np.empty(tuple(lengths), dtype=np.int16 if stored else np.float32)
        if not covered:
            result.fill(round(pad_value * HU_SCALE) if stored else pad_value)
        if all(part.stop > part.start for part in taken):
            result[tuple(placed)] = read(tuple(taken))
    return (
        torch.from_numpy(result[None]),
        torch.tensor(extent, dtype=torch.int64),
        torch.tensor(first, dtype=torch.int64),
    )


def fit_window(image: np.ndarray, window: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Resize a whole image, antialiased, to the largest size of its shape that fits a window.

    Small images are enlarged as well, so that a view of a given number of pixels covers the same
    share of every image.

    Args:
        image: `(1, height, width)`, in [0, 1].
        window: (height, width) of the result.

    Returns:
        The image, float32 `(1, *window)` in [0, 1], black below and to the right of its valid
        size, and that valid size, int64 `(2,)`.

    Raises:
        ValueError: if `image` or `window` has another number of axes.
    """
    if image.ndim != 3 or image.shape[0] != 1 or len(window) != 2:
        raise ValueError(
            f"An image of shape {image.shape} cannot be fitted to the window {tuple(window)}: "
            f"wanted (1, height, width) and (height, width)."
        )
    scale = min(length / n for length, n in zip(window, image.shape[1:], strict=True))
    fitted = [
        min(max(round(n * scale), 1), length)
        for n, length in zip(image.shape[1:], window, strict=True)
    ]
    resized = torch.tensor(image, dtype=torch.float32)
    if fitted != list(image.shape[1:]):
        resized = functional.interpolate(
            resized[None], size=fitted, mode="bilinear", antialias=True, align_corners=False
        )[0].clamp_(0, 1)  # rounding passes 1 by a little
    result = torch.zeros((1, *window), dtype=torch.float32)
    result[:, : fitted[0], : fitted[1]] = resized
    return result, torch.tensor(fitted, dtype=torch.int64)


def open_image(value: Mapping[str, Any], dimension: Dimension) -> Any:
    """Open a record's image: a path, PIL image or nibabel image, as the processor takes them.

    Raises:
        ValueError, OSError: if the record holds nothing that can be opened.
    """
    value = _row_fetched(value, dimension)
    path, content = value.get("path"), value.get("bytes")
    if content is None:
        if not path:
            raise ValueError("the record holds neither a path nor bytes")
        if not is_remote(path):
            return path
        # Streams name a compressed file gzip://member::address, but gunzipping happens below.
        address = path.split("::")[-1] if path.startswith("gzip://") else path
        with fsspec.open(address, "rb") as file:
            content = file.read()
    if dimension == "2d":
        return Image.open(io.BytesIO(content))
    if is_encoded_volume(content):
        volume = PreparedVolume(content)
        affine = np.diag([*volume.spacing[::-1], 1.0])
        return nibabel.Nifti1Image(reverse_axes(volume[:]), affine)
    return _nifti_from_bytes(content)


def _row_fetched(value: Mapping[str, Any], dimension: Dimension) -> Mapping[str, Any]:
    """A record's value; where that is a row's address, the path and the bytes of the row."""
    row = None if value.get("bytes") is not None else split_row_address(value.get("path") or "")
    if row is None:
        return value
    path, content = read_row(*row, COLUMN_OF_DIMENSION[dimension])
    return {"path": path, "bytes": memoryview(content)}


def _nifti_from_bytes(content: bytes) -> nibabel.Nifti1Image:
    if content[:2] == _GZIP_MAGIC:
        content = gzip.decompress(content)
    if len(content) >= 4:
        for byte_order in "<>":
            (header_size,) = struct.unpack(f"{byte_order}i", content[:4])
            if header_size in _NIFTI_CLASSES:
                return _NIFTI_CLASSES[header_size].from_bytes(content)
    raise ValueError(
        f"{len(content)} bytes that begin with {bytes(content[:4])!r} are no NIfTI file, whose "
        f"first four bytes say 348 (NIfTI-1) or 540 (NIfTI-2)"
    )


def _scaled(volume: np.ndarray) -> np.ndarray:
    """HU `(depth, height, width)` to the network's `(1, depth, height, width)`."""
    if not np.isfinite(volume).all():
        raise ValueError("the volume has voxels that are not finite numbers")
    return apply_window(volume)[None]
