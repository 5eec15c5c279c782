"""An endless, exactly resumable stream of samples from a source."""

import hashlib
import logging
import struct
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from datasets import IterableDataset as RecordStream
from datasets.distributed import split_dataset_by_node
from torch.utils.data import IterableDataset, get_worker_info

from ..hounsfield_mit import AIR_HU, HU_SCALE
from .reading import (
    BadSampleError,
    Dimension,
    LazyVolume,
    Region,
    cut_region,
    cut_window,
    fit_window,
    read_record,
    record_name,
    require_prepared_spacing,
)
from .sample_cache import SampleCache
from .sources import Source
from .stream_settings import StreamSettings

logger = logging.getLogger(__name__)

_WINDOWS = {"2d": (512, 512), "3d": (24, 172, 172)}
_SMALLEST = {"2d": (1, 1), "3d": (16, 96, 96)}
_AIR = AIR_HU / HU_SCALE

# A share of bad records says little before so many have been seen.
_RECORDS_TO_JUDGE = 20
# Shards are read whole only where no reader gets over an eighth more of them than another.
_SHARDS_PER_READER = 8


class TooManyBadRecordsError(RuntimeError):
    """More records cannot be read than a run may pass over."""


@dataclass
class _Progress:
    """Where a reader stands; with the settings, it says all that is to come."""

    epoch: int = 0
    block: int = 0  # blocks of this epoch before the present one
    place: int = 0  # the present block begins in this shard of the epoch's order,
    offset: int = 0  # after so many of this reader's records in that shard
    position: int = 0  # records of the block that are done with
    crop: int = 0  # windows cut from the record at `position`
    records_read: int = 0
    records_bad: int = 0
    epoch_read: int = 0
    epoch_bad: int = 0


@dataclass(frozen=True)
class _Undecoded:
    shard: int
    index: int  # in the shard as the source orders it, whoever reads it
    place: int
    offset: int  # of the record after this one
    record: dict[str, Any]


class SampleStream(IterableDataset):
    """Samples without end: each pass over the source is one epoch of the stream.

    In each epoch, the shards come in a new random order, and the records in blocks of
    `shuffle_buffer`, shuffled within each block. Every record comes exactly once per epoch, from
    one reader: a reader is a worker of a process's loader. Readers share out whole shards if these
    divide evenly, or nearly, and single records otherwise. Readers keep their own time: one with
    fewer records begins its next epoch earlier. Prepared data give the same samples in the same
    order from a folder, the Hub and a server, so a run may go on with another copy of them.

    A sample is `{"image": float32 (1, *window), "extent": int64 (number of axes,), "start": int64
    (number of axes,), "seed": int64 (), "name": str, "bad_records": int, "reader": int}`.
    The window is valid in `[0:extent]` of each axis. With a `region`, the image is that part of the
    window and begins at `start`, and that of a prepared volume is int16 HU. The seed depends on the
    run's seed, the dimension, the epoch, the record's place in the source, and the number of the
    crop, not on processes, workers and batches. `bad_records` counts the unreadable records that
    this reader has skipped so far.

    The state holds plain numbers. A stream that loads it continues with the samples that would
    have come next, bit for bit; blocks are read again from their beginning, undecoded.

    Args:
        source: where the records come from.
        settings: how they are made into samples.
        rank: number of this process.
        world_size: number of processes.
        region: which part of a window is needed (3D only), so that the rest is not read: start and
            length along each axis, of the window's valid size and the sample's seed. None: all.

    Raises:
        ValueError: if a setting does not go with the source, or there are fewer records than
            processes.
    """

    def __init__(
        self,
        source: Source,
        settings: StreamSettings | None = None,
        *,
        rank: int = 0,
        world_size: int = 1,
        region: Callable[[Sequence[int], int], Region] | None = None,
    ) -> None:
        super().__init__()
        settings = settings or StreamSettings()
        if not 0 <= rank < world_size:
            raise ValueError(f"rank must be in [0, world_size); got {rank} of {world_size}.")
        self.source = source
        self.settings = settings
        self.rank = rank
        self.world_size = world_size
        self.region = region
        self.window = settings.window or _WINDOWS[source.dimension]
        # A window of the wrong number of axes is named below.
        sizes = zip(_SMALLEST[source.dimension], self.window, strict=False)
        self.minimum = settings.minimum or tuple(min(pair) for pair in sizes)
        self._require_consistent()
        self.require_enough_records(num_workers=1)
        self._progress = _Progress()
        self._cache = SampleCache(settings.cache_bytes)
        self._named: set[str] = set()
        self._last_bad: deque[str] = deque(maxlen=3)

    @property
    def dimension(self) -> Dimension:
        """`"2d"` or `"3d"`."""
        return self.source.dimension

    def require_enough_records(self, num_workers: int) -> None:
        """Raise ValueError if it is known that some worker of some process would get no record."""
        available, readers = self.source.num_samples, self.world_size * max(num_workers, 1)
        if available is not None and available < readers:
            raise ValueError(
                f"{self.source.name} has {available} records, fewer than {self.world_size} "
                f"processes x {max(num_workers, 1)} workers. Lower the number of workers or of "
                f"processes to at most {available} in all."
            )

    def has_shards_for(self, readers: int) -> bool:
        """Whether so many readers share out whole shards, rather than single records."""
        shards = self.source.num_shards
        return shards % readers == 0 or shards >= _SHARDS_PER_READER * readers

    def state_dict(self) -> dict[str, Any]:
        """Plain values that say which sample comes next, and for which stream they hold."""
        return {"progress": asdict(self._progress), "stream": self._identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state.

        Args:
            state: of `state_dict`, of the same reader of the same stream.

        Raises:
            ValueError: if the state is of another stream, whose samples could not be continued.
        """
        saved, own = state["stream"], self._identity()
        differing = [key for key in own if saved.get(key) != own[key]]
        if differing:
            changes = ", ".join(f"{key} {saved.get(key)} → {own[key]}" for key in differing)
            raise ValueError(
                f"The saved state of the {self.dimension} stream cannot be continued, as these "
                f"have changed since: {changes}. Restore them, or start the data afresh by not "
                f"loading the state."
            )
        self._progress = _Progress(**state["progress"])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Continue from the stream's present place, without end.

        Raises:
            TooManyBadRecordsError: if more than `max_bad_fraction` of the records, or all records
                of an epoch, are unreadable.
            ValueError: if this reader gets no records.
        """
        progress = self._progress
        while True:
            walk = self._walk()
            while block := self._next_block(walk):
                yield from self._block_samples(block)
                progress.place, progress.offset = block[-1].place, block[-1].offset
                progress.block += 1
                progress.position = 0
            self._require_usable_epoch()
            progress.epoch += 1
            progress.block = progress.place = progress.offset = 0
            progress.epoch_read = progress.epoch_bad = 0

    def _reader(self) -> tuple[int, int]:
        """The number of this reader and of all readers, over processes and workers."""
        worker = get_worker_info()
        index, count = (0, 1) if worker is None else (worker.id, worker.num_workers)
        return self.rank * count + index, self.world_size * count

    def _walk(self) -> Iterator[_Undecoded]:
        """This reader's records of the epoch, in order, from the present block's beginning."""
        start, done_before = self._progress.place, self._progress.offset
        reader, readers = self._reader()
        by_shard, num_shards = self.has_shards_for(readers), self.source.num_shards
        order = self._generator("shards").permutation(num_shards).tolist()
        # Readers of single records take turns to begin, as shards may hold one record each.
        for place in range(start, num_shards):
            if by_shard and place % readers != reader:
                continue
            first, step = (0, 1) if by_shard else ((reader - place) % readers, readers)
            done = done_before if place == start else 0
            records = self._shard(order[place], done * step, first, step)
            for offset, record in enumerate(records, done):
                index = first + offset * step
                yield _Undecoded(order[place], index, place, offset + 1, record)

    def _shard(self, shard: int, skip: int, first: int, step: int) -> Iterator[dict[str, Any]]:
        records: RecordStream = self.source.records
        if self.source.num_shards > 1:
            records = records.shard(self.source.num_shards, shard)
        # Skipping goes through records undecoded. Unlike the library's own state, it also continues
        # streams exactly that shuffle through a buffer of their own.
        records = records.skip(skip)
        records.set_epoch(self._progress.epoch)
        if step > 1:
            records = split_dataset_by_node(records, first, step, strategy="examples")
        # By batches, as plain iteration would share out shards among workers once more.
        for batch in records.iter(batch_size=1):
            yield {"image": batch["image"][0]}

    def _next_block(self, walk: Iterator[_Undecoded]) -> list[_Undecoded]:
        block, num_bytes = [], 0
        for item in walk:
            block.append(item)
            num_bytes += len((item.record["image"] or {}).get("bytes") or b"")
            if (
                len(block) == self.settings.shuffle_buffer
                or num_bytes > self.settings.shuffle_bytes
            ):
                break
        return block

    def _block_samples(self, block: list[_Undecoded]) -> Iterator[dict[str, Any]]:
        progress = self._progress
        order = self._generator("block", progress.block).permutation(len(block)).tolist()
        while progress.position < len(block):
            item = block[order[progress.position]]
            if progress.crop == 0:
                progress.records_read += 1
                progress.epoch_read += 1
            try:
                array = self._read(item.record)
                for crop in range(progress.crop, self.settings.crops_per_volume):
                    sample = self._sample(item, array, crop)
                    # The state says what comes after this sample, so it moves on before.
                    progress.crop = (crop + 1) % self.settings.crops_per_volume
                    progress.position += progress.crop == 0
                    yield sample
            except BadSampleError as error:
                progress.position, progress.crop = progress.position + 1, 0
                self._count_bad(record_name(item.record), error)

    def _read(self, record: dict[str, Any]) -> np.ndarray | LazyVolume:
        return read_record(
            record,
            self.dimension,
            spacing=self.settings.spacing,
            source_spacing=self.settings.source_spacing,
            grey_window=self.settings.grey_window,
            cache=self._cache,
        )

    def _sample(
        self, item: _Undecoded, array: np.ndarray | LazyVolume, crop: int
    ) -> dict[str, Any]:
        place = (self._progress.epoch, item.shard, item.index, crop)
        seed = _seed(self.settings.seed, self.dimension, "sample", *place)
        start = torch.zeros(len(self.window), dtype=torch.int64)
        if self.dimension == "2d":
            image, extent = fit_window(array, self.window)
        elif self.region is None:
            image, extent = cut_window(array, self.window, self.minimum, seed, _AIR)
        else:
            image, extent, start = cut_region(
                array, self.window, self.minimum, seed, _AIR, self.region
            )
        return {
            "image": image,
            "extent": extent,
            "start": start,
            "seed": torch.tensor(seed, dtype=torch.int64),
            "name": array.name if isinstance(array, LazyVolume) else record_name(item.record),
            "bad_records": self._progress.records_bad,
            "reader": self._reader()[0],
        }

    def _count_bad(self, name: str, error: BadSampleError) -> None:
        progress, allowed = self._progress, self.settings.max_bad_fraction
        progress.records_bad += 1
        progress.epoch_bad += 1
        self._last_bad.append(str(error))
        if name not in self._named:
            self._named.add(name)
            logger.warning("Skipping a record that cannot be read: %s", error)
        enough = progress.records_read >= _RECORDS_TO_JUDGE or allowed == 0
        if enough and progress.records_bad > allowed * progress.records_read:
            self._give_up(progress.records_bad, progress.records_read, "records read so far")

    def _require_usable_epoch(self) -> None:
        progress = self._progress
        read, bad = progress.epoch_read, progress.epoch_bad
        if read == 0:
            reader, readers = self._reader()
            raise ValueError(
                f"{self.source.name} has no record for reader {reader} of {readers} "
                f"({self.world_size} processes x {readers // self.world_size} workers), as it has "
                f"fewer records than readers, or empty shards. Lower the number of workers."
            )
        # A reader that shares few records with others cannot tell the share of all.
        enough = read >= _RECORDS_TO_JUDGE or self._reader()[1] == 1
        if bad == read or (enough and bad > self.settings.max_bad_fraction * read):
            self._give_up(bad, read, f"records of epoch {progress.epoch}")

    def _give_up(self, bad: int, read: int, which: str) -> None:
        raise TooManyBadRecordsError(
            f"{self.source.name}: {bad} of the {read} {which} cannot be read, more than "
            f"max_bad_fraction={self.settings.max_bad_fraction} allows (or all). The last ones: "
            f"{'; '.join(self._last_bad) or 'before this run was resumed'}. Mend or remove the "
            f"files, or raise max_bad_fraction."
        )

    def _generator(self, purpose: str, *numbers: int) -> np.random.Generator:
        epoch = self._progress.epoch
        return np.random.default_rng(
            _seed(self.settings.seed, self.dimension, purpose, epoch, *numbers)
        )

    def _identity(self) -> dict[str, Any]:
        reader, readers = self._reader()
        return {
            "dimension": self.dimension,
            "num_samples": self.source.num_samples,
            "num_shards": self.source.num_shards,
            "content": self.source.content,
            "seed": self.settings.seed,
            "shuffle_buffer": self.settings.shuffle_buffer,
            "shuffle_bytes": self.settings.shuffle_bytes,
            "crops_per_volume": self.settings.crops_per_volume,
            "processes": self.world_size,
            "rank": self.rank,
            "workers": readers // self.world_size,
            "worker": reader - self.rank * (readers // self.world_size),
        }

    def _require_consistent(self) -> None:
        axes = 2 if self.dimension == "2d" else 3
        for name, value in (("window", self.window), ("minimum", self.minimum)):
            if len(value) != axes:
                raise ValueError(
                    f"{name} must have {axes} values for {self.dimension} images; got {value}."
                )
        if any(least > length for least, length in zip(self.minimum, self.window, strict=True)):
            raise ValueError(f"minimum {self.minimum} exceeds window {self.window}.")
        if self.source.spacing is not None:
            spacings = (self.settings.spacing, self.settings.source_spacing)
            require_prepared_spacing(self.source.name, self.source.spacing, *spacings)
        if self.dimension == "2d" and self.settings.minimum is not None:
            raise ValueError("minimum is for volumes: radiographs are fitted to the window.")
        if self.dimension == "2d" and self.settings.crops_per_volume != 1:
            raise ValueError(
                f"crops_per_volume is for volumes: a radiograph fills one window, so it must be 1 "
                f"in 2D; got {self.settings.crops_per_volume}."
            )


def _seed(seed: int, dimension: Dimension, purpose: str, *numbers: int) -> int:
    """63 bits that depend on nothing but the arguments, in any version of Python."""
    content = f"{seed}/{dimension}/{purpose}/".encode() + struct.pack(f"<{len(numbers)}q", *numbers)
    digest = hashlib.blake2b(content, digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
