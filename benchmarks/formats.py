"""Compares ways to store prepared CT: size, and CPU time to encode, to decode and to cut a window.

    python benchmarks/formats.py [--folder FOLDER_OF_CT]

Volumes are int16 HU at 3 x 1 x 1 mm. Without a folder, the sample CT is read, which is made if it
is not there. Everything runs on one thread, in turn, and times are those of the process's CPU, the
least of all repeats. A window is 24 x 172 x 172 voxels, as the official loader cuts; a box is
16 x 120 x 120, about what one view needs. Cutting begins with opening what is stored, except that
of Arrow, which stays mapped; all of it lies in memory, or in the page cache.
"""

import argparse
import functools
import gzip
import itertools
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import pyarrow as pa

from unimiss_hf.data.prepared import PreparedVolume, encode_volume
from unimiss_hf.data.sample import find_sample_ct
from unimiss_hf.data.sources import open_source
from unimiss_hf.image_reading_mit import read_volume

try:
    import zarr
except ImportError:
    zarr = None

SPACING = (3.0, 1.0, 1.0)
WINDOW, BOX = (24, 172, 172), (16, 120, 120)
LZ4, LZ4HC, ZSTD = blosc2.Codec.LZ4, blosc2.Codec.LZ4HC, blosc2.Codec.ZSTD
SHUFFLE, BITSHUFFLE = blosc2.Filter.SHUFFLE, blosc2.Filter.BITSHUFFLE
# Chunks, of which None is the whole volume, and the blocks that are decompressed one by one. All
# codecs are measured with the first, and LZ4HC with all.
SHAPES = (
    ((8, 64, 64), (8, 32, 32)),
    ((8, 64, 64), (8, 16, 16)),
    ((8, 32, 32), (8, 32, 32)),
    ((16, 128, 128), (16, 32, 32)),
    ((16, 128, 128), (1, 64, 128)),
    (None, (8, 32, 32)),
)
CODECS = (
    (LZ4, 5, SHUFFLE),
    (LZ4, 5, BITSHUFFLE),
    (LZ4HC, 5, SHUFFLE),
    (LZ4HC, 9, SHUFFLE),
    (LZ4HC, 5, BITSHUFFLE),
    (ZSTD, 1, SHUFFLE),
    (ZSTD, 5, SHUFFLE),
    (ZSTD, 5, BITSHUFFLE),
)


@dataclass(frozen=True)
class Way:
    """A way to store a volume.

    Attributes:
        name: what the table calls it.
        encode: a volume → what is stored of it.
        opened: what is stored → something that slices cut; this is part of cutting a window.
        size: bytes of what is stored.
    """

    name: str
    encode: Callable[[np.ndarray], Any]
    opened: Callable[[Any], Any]
    size: Callable[[Any], int] = len


def main() -> None:
    arguments = parse_arguments()
    volumes = read_volumes(arguments)
    shapes = ", ".join(str(volume.shape) for volume in volumes)
    print(f"{len(volumes)} volumes: {shapes}\n")
    columns = ("bytes/voxel", "encode s", "decode ms", "window ms", "box ms")
    print(f"{'':46}" + "".join(f"{column:>13}" for column in columns))
    with tempfile.TemporaryDirectory() as folder:
        for way in ways(Path(folder)):
            print(
                f"{way.name:46}"
                + "".join(f"{value:13.3f}" for value in measured(way, volumes, arguments.repeats))
            )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="CT files; the sample CT by default")
    parser.add_argument("--limit", type=int, default=4, help="volumes to read of the folder")
    parser.add_argument(
        "--source-spacing", type=float, nargs=3, help="true spacing in mm where headers are wrong"
    )
    parser.add_argument("--repeats", type=int, default=5)
    return parser.parse_args()


def read_volumes(arguments: argparse.Namespace) -> list[np.ndarray]:
    if arguments.folder is None:
        paths = [str(find_sample_ct())]
    else:
        records = open_source(arguments.folder, "3d").records.take(arguments.limit)
        paths = [record["image"]["path"] for record in records]
    spacings = {"spacing": SPACING, "source_spacing": arguments.source_spacing}
    return [np.rint(read_volume(path, **spacings)).astype(np.int16) for path in paths]


def ways(folder: Path) -> list[Way]:
    chosen = Way(
        "as chosen: unimiss_hf.data.prepared",
        lambda volume: encode_volume(volume, SPACING),
        PreparedVolume,
    )
    blosc = [
        Way(
            f"blosc2 {codec.name.lower()} {level} {filter_.name.lower()} {name_of(chunks, blocks)}",
            functools.partial(
                blosc_frame, chunks=chunks, blocks=blocks, codec=codec, level=level, filter_=filter_
            ),
            blosc2.ndarray_from_cframe,
        )
        for codec, level, filter_ in CODECS
        for chunks, blocks in SHAPES
        if (codec, filter_) == (LZ4HC, SHUFFLE) or (chunks, blocks) == SHAPES[0]
    ]
    others = [
        Way("NIfTI's gzip, level 6", gzipped, ungzipped, lambda stored: len(stored[1])),
        Way(
            "uncompressed Arrow, memory-mapped",
            functools.partial(arrow_file, folder),
            lambda volume: volume,
            lambda volume: volume.nbytes,
        ),
    ]
    if zarr is None:
        print("zarr is not installed and left out.\n")
    else:
        others += [
            Way(
                f"zarr {name} {' x '.join(map(str, chunks))}",
                functools.partial(zarr_array, folder, chunks=chunks, codec=codec),
                lambda path: zarr.open_array(path, mode="r"),
                folder_size,
            )
            for name, codec in (("lz4", "lz4"), ("zstd", "zstd"))
            for chunks in ((8, 64, 64), (16, 128, 128))
        ]
    return [chosen, *others, *blosc]


def measured(way: Way, volumes: Sequence[np.ndarray], repeats: int) -> tuple[float, ...]:
    stored, encoding = [], 0.0
    for volume in volumes:
        start = time.process_time()
        stored.append(way.encode(volume))
        encoding += time.process_time() - start
    voxels = sum(volume.size for volume in volumes)
    times = []
    for size in (None, WINDOW, BOX):
        cuts = 1 if size is None else 20
        best = min(cutting_time(way, volumes, stored, size, cuts, seed) for seed in range(repeats))
        times.append(best * 1000)
    return sum(map(way.size, stored)) / voxels, encoding / len(volumes), *times


def cutting_time(
    way: Way,
    volumes: Sequence[np.ndarray],
    stored: Sequence[Any],
    size: Sequence[int] | None,
    cuts: int,
    seed: int,
) -> float:
    """Seconds of CPU to open a volume and cut one part, or all, out of it."""
    generator = np.random.default_rng(seed)
    elapsed = 0.0
    for volume, content in zip(volumes, stored, strict=True):
        for _ in range(cuts):
            place = box_of(volume.shape, size or volume.shape, generator)
            start = time.process_time()
            part = np.array(way.opened(content)[place])
            elapsed += time.process_time() - start
            if not np.array_equal(part, volume[place]):
                raise RuntimeError(f"{way.name} does not give back what was stored.")
    return elapsed / (cuts * len(volumes))


def box_of(
    shape: Sequence[int], size: Sequence[int], generator: np.random.Generator
) -> tuple[slice, ...]:
    starts = [int(generator.integers(max(n - k, 0) + 1)) for n, k in zip(shape, size, strict=True)]
    return tuple(slice(start, start + k) for start, k in zip(starts, size, strict=True))


def name_of(chunks: Sequence[int] | None, blocks: Sequence[int]) -> str:
    chunk = "whole" if chunks is None else "x".join(map(str, chunks))
    return f"{chunk} / {'x'.join(map(str, blocks))}"


def blosc_frame(
    volume: np.ndarray,
    chunks: Sequence[int] | None,
    blocks: Sequence[int],
    codec: blosc2.Codec,
    level: int,
    filter_: blosc2.Filter,
) -> bytes:
    chunks = tuple(map(min, volume.shape, chunks or volume.shape))
    settings = blosc2.CParams(codec=codec, clevel=level, typesize=2, filters=[filter_], nthreads=1)
    stored = blosc2.asarray(
        volume,
        chunks=chunks,
        blocks=tuple(map(min, chunks, blocks)),
        cparams=settings,
        dparams=blosc2.DParams(nthreads=1),
    )
    return stored.to_cframe()


def gzipped(volume: np.ndarray) -> tuple[tuple[int, ...], bytes]:
    return volume.shape, gzip.compress(volume.tobytes(), 6)


def ungzipped(stored: tuple[tuple[int, ...], bytes]) -> np.ndarray:
    shape, content = stored
    return np.frombuffer(gzip.decompress(content), np.int16).reshape(shape)


_numbers = itertools.count()


def arrow_file(folder: Path, volume: np.ndarray) -> np.ndarray:
    path = folder / f"{next(_numbers)}.arrow"
    table = pa.table({"volume": pa.array([volume.tobytes()], pa.large_binary())})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    mapped = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    return np.frombuffer(mapped["volume"][0].as_buffer(), np.int16).reshape(volume.shape)


def zarr_array(folder: Path, volume: np.ndarray, chunks: Sequence[int], codec: str) -> str:
    path = str(folder / f"{next(_numbers)}.zarr")
    zarr.create_array(
        path,
        data=volume,
        chunks=tuple(map(min, volume.shape, chunks)),
        compressors=zarr.codecs.BloscCodec(cname=codec, clevel=5, shuffle="shuffle"),
    )
    return path


def folder_size(path: str) -> int:
    return sum(file.stat().st_size for file in Path(path).rglob("*") if file.is_file())


if __name__ == "__main__":
    main()
