"""Volumes stored so that a part is read without decompressing the whole, and rows that hold them.

A volume is a contiguous frame of blosc2: int16, in chunks of 8 x 64 x 64 voxels that are made of
blocks of 8 x 32 x 32, bytes shuffled, compressed by LZ4HC. `benchmarks/formats.py` measured, on the
sample CT of 111 x 360 x 360 voxels and one thread of an ordinary server:

| | bytes/voxel | encoding | a window of 24 x 172 x 172 | a box of 16 x 120 x 120 |
|---|---|---|---|---|
| this | 0.90 | 0.4 s | 1.0 ms | 0.46 ms |
| whole volume as one chunk | 0.90 | 0.3 s | 1.5 ms | 0.79 ms |
| LZ4 | 0.98 | 0.2 s | 1.2 ms | 0.53 ms |
| LZ4HC of shuffled bits | 0.85 | 0.4 s | 1.9 ms | 0.77 ms |
| Zstandard, level 5 | 0.76 | 0.7 s | 3.4 ms | 1.4 ms |
| uncompressed Arrow, mapped | 2.00 | 0.1 s | 0.35 ms | 0.19 ms |
| zarr, chunks of 16 x 128 x 128 | 0.99 | 0.2 s | 8.1 ms | 5.3 ms |
| gzip, as NIfTI | 0.99 | 1.5 s | 116 ms | 113 ms |

A window costs a small part of the 4 ms a sample that a core has at ten times the official loader's
speed, and half of the size of uncompressed voxels is half of what disks and networks carry, which
are slower than LZ4. Zstandard would save a sixth more of them, for most of those 4 ms.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from datasets import Features, Image, Value

from ..input_checks_mit import require_spacing

FORMAT_VERSION = 1
"""The version of stored volumes and of `prepared.json`; readers refuse any other."""

PART_OF_DIMENSION = {"2d": "radiographs", "3d": "volumes"}
"""The parts of a prepared data set: its folders, and its configurations on the Hub."""

COLUMN_OF_DIMENSION = {"2d": "image", "3d": "volume"}
"""The column of images of each part."""

_METADATA = {
    "name": Value("string"),
    "source": Value("string"),
    "source_name": Value("string"),
    "license": Value("string"),
    "patient": Value("string"),
    "original_shape": [Value("int64")],
    "original_spacing": [Value("float64")],
}

VOLUME_FEATURES = Features(
    {
        "volume": {"bytes": Value("binary"), "path": Value("string")},
        **_METADATA,
        "spacing": [Value("float64")],
    }
)
"""A row of the part `volumes`: `bytes` are those of `encode_volume`, `path` is the row's `name`.

With one row in a row group, not compressed again and without dictionary, a reader maps a volume
into memory where it lies.
"""

RADIOGRAPH_FEATURES = Features({"image": Image(), **_METADATA})
"""A row of the part `radiographs`: `bytes` are a grey PNG's, `path` is the row's `name`."""

_MAGIC = b"b2frame\0"
_MAGIC_PLACE = slice(2, 2 + len(_MAGIC))
_ATTRIBUTE = "unimiss_hf"
_CHUNK = (8, 64, 64)
_BLOCK = (8, 32, 32)
_LEVEL = 5


def is_encoded_volume(content: Any) -> bool:
    """Whether bytes, or a buffer of them, begin as those of `encode_volume` do."""
    return bytes(memoryview(content)[_MAGIC_PLACE]) == _MAGIC


def encode_volume(voxels: np.ndarray, spacing: Sequence[float]) -> bytes:
    """Store a volume so that `PreparedVolume` reads parts of it.

    Args:
        voxels: int16 `(depth, height, width)` in RAS+ order, HU.
        spacing: distance of voxel centres in mm, (depth, height, width).

    Returns:
        A frame of blosc2 that holds the spacing as well. The same volume gives the same bytes.

    Raises:
        ValueError: if the voxels are not int16, or have not three axes of one voxel at least, or
            if the spacing is not three positive numbers.
    """
    # blosc2 takes a quarter of a second to import, and reading folders of files does not need it.
    import blosc2

    if voxels.dtype != np.int16 or voxels.ndim != 3 or voxels.size == 0:
        raise ValueError(
            f"A prepared volume holds int16 HU (depth, height, width), one voxel or more; got "
            f"{voxels.dtype} of shape {voxels.shape}. Round other types first."
        )
    spacing = require_spacing("spacing", spacing)
    chunk = tuple(min(pair) for pair in zip(voxels.shape, _CHUNK, strict=True))
    block = tuple(min(pair) for pair in zip(voxels.shape, _BLOCK, strict=True))
    stored = blosc2.asarray(
        np.ascontiguousarray(voxels),
        chunks=chunk,
        blocks=block,
        # Workers of a loader, and processes that prepare, are parallel already.
        cparams=blosc2.CParams(
            codec=blosc2.Codec.LZ4HC,
            clevel=_LEVEL,
            typesize=voxels.itemsize,
            filters=[blosc2.Filter.SHUFFLE],
            nthreads=1,
        ),
        dparams=blosc2.DParams(nthreads=1),
    )
    attributes = {"format_version": FORMAT_VERSION, "spacing": spacing}
    stored.schunk.vlmeta[_ATTRIBUTE] = json.dumps(attributes)
    return stored.to_cframe()


class PreparedVolume:
    """A volume of `encode_volume`, of which only the parts that are asked for are decompressed.

    Args:
        content: the bytes, or another object that gives a buffer of them; they are not copied.

    Attributes:
        shape: lengths (depth, height, width).
        spacing: distance of voxel centres in mm, (depth, height, width).
        dtype: int16.

    Raises:
        ValueError: if the bytes are not those of a prepared volume, are damaged, or are of another
            version.
    """

    def __init__(self, content: Any) -> None:
        import blosc2

        # blosc2 reads from the very buffer, which must live as long as the volume.
        self._content = content = memoryview(content)
        self._what = f"{len(content)} bytes"
        if not is_encoded_volume(content):
            raise ValueError(
                f"{self._what} that begin with {bytes(content[:10])!r} are no prepared volume, "
                f"which is a blosc2 frame. Prepare it with `python -m unimiss_hf.data prepare`."
            )
        # What damage makes of a frame raises nearly any type of error.
        try:
            self._voxels = blosc2.ndarray_from_cframe(content)
            attributes = json.loads(self._voxels.schunk.vlmeta[_ATTRIBUTE])
            version, spacing = attributes["format_version"], attributes["spacing"]
        except Exception as error:
            raise self._damaged(error) from error
        if version != FORMAT_VERSION:
            raise ValueError(
                f"The prepared volume has format version {version!r}, and this version of "
                f"unimiss_hf reads {FORMAT_VERSION}. Prepare it anew, or install the version that "
                f"prepared it."
            )
        self.shape: tuple[int, ...] = tuple(self._voxels.shape)
        self.dtype: np.dtype = self._voxels.dtype
        if len(self.shape) != 3 or self.dtype != np.int16:
            raise ValueError(
                f"The prepared volume holds {self.dtype} of shape {self.shape}; wanted int16 "
                f"(depth, height, width). Prepare it anew."
            )
        self.spacing = require_spacing("The prepared volume's spacing", spacing)

    def __getitem__(self, slices: Any) -> np.ndarray:
        """Read voxels as numpy's slices do: int16, HU, a new array.

        Raises:
            ValueError: if what is stored there is damaged.
        """
        try:
            return self._voxels[slices]
        except RuntimeError as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> ValueError:
        return ValueError(
            f"{self._what} are a damaged prepared volume, or a blosc2 frame of another purpose "
            f"({error}). Prepare it anew."
        )
