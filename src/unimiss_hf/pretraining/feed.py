"""Batches of views of one dimension, from a data set to the training device."""

import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from ..data.loader import make_loader
from ..data.sources import Source, open_source
from ..data.stream import SampleStream
from ..data.stream_settings import StreamSettings
from .settings import PretrainingSettings
from .view_parameters import needed_region
from .view_settings import ImageViewSettings, VolumeViewSettings
from .views import make_image_views, make_volume_views

# 1 GiB in bytes
_GIB = 2**30


@dataclass(frozen=True)
class Batch:
    """Two views of each sample, and where they come from.

    Args:
        views: `(batch, 1, height, width)` or `(batch, 1, depth, height, width)`, twice.
        names: Where each sample was read from.
        bad_records: Records that could not be read so far, by all readers of this process.
        seconds_waited: How long its samples were waited for.
        seconds_on_views: How long this process made views, on a CPU; on a GPU, asked for them.
    """

    views: tuple[torch.Tensor, torch.Tensor]
    names: list[str]
    bad_records: int
    seconds_waited: float
    seconds_on_views: float

    def __len__(self) -> int:
        return len(self.names)


def open_dataset(settings: PretrainingSettings, dimension: str) -> Source:
    """Open the data set of a dimension.

    Raises:
        ValueError: If it holds nothing of that dimension.
        OSError: If it cannot be found or reached.
    """
    spec = settings.of("dataset", dimension)
    return open_source(
        spec[0] if len(spec) == 1 else spec,
        dimension,
        streaming=settings.streaming,
        split=settings.of("split", dimension),
        config_name=settings.of("config_name", dimension),
        column=settings.of("column", dimension),
    )


class Feed:
    """An endless supply of batches of one dimension, which can be stopped and continued.

    Args:
        settings: Settings of the run.
        dimension: `"2d"` or `"3d"`.
        source: The dimension's data set.
        device: Where the views are needed, and made, unless it is a CPU and processes read: then
            these make them.
        rank: Number of this process.
        world_size: Number of processes.
    """

    def __init__(
        self,
        settings: PretrainingSettings,
        dimension: str,
        source: Source,
        device: torch.device,
        rank: int = 0,
        world_size: int = 1,
    ):
        self.device = device
        region = None
        if dimension == "2d":
            self._with_views = partial(_with_image_views, settings=settings.image_views())
            window, own = settings.image_window, {"grey_window": settings.grey_levels()}
        else:
            view_settings = settings.volume_views()
            self._with_views = partial(_with_volume_views, settings=view_settings)
            region = partial(needed_region, settings=view_settings)
            window = settings.volume_window
            own = {
                "crops_per_volume": settings.crops_per_volume,
                "minimum": settings.volume_size,
                "spacing": settings.spacing,
                "source_spacing": settings.source_spacing,
            }
        stream_settings = StreamSettings(
            seed=settings.seed,
            shuffle_buffer=settings.shuffle_buffer,
            window=window,
            max_bad_fraction=settings.max_bad_fraction,
            cache_bytes=int(settings.cache_gib * _GIB),
            **own,
        )
        stream = SampleStream(
            source, stream_settings, rank=rank, world_size=world_size, region=region
        )
        # On a CPU, those who read make the views as well. They are larger than what they are made
        # of, so an accelerator makes its own.
        by_reader = device.type == "cpu" and settings.num_workers > 0
        self._loader = make_loader(
            stream,
            settings.of("batch_size", dimension),
            settings.num_workers,
            finish=partial(self._with_views, shared=True) if by_reader else None,
        )
        self._batches = None
        self._bad_records: dict[int, int] = {}

    def next_batch(self) -> Batch:
        """Read the next samples and make their views.

        Raises:
            TooManyBadRecordsError: If too many records are bad.
        """
        if self._batches is None:
            self._batches = iter(self._loader)
        start = time.perf_counter()
        samples = next(self._batches)
        read = time.perf_counter()
        if "views" not in samples:
            samples["image"] = samples["image"].to(self.device, non_blocking=True)
            samples = self._with_views(samples)
        made = time.perf_counter()
        self._bad_records |= zip(samples["reader"], samples["bad_records"], strict=True)
        bad_records = sum(self._bad_records.values())
        return Batch(
            tuple(samples["views"]), samples["name"], bad_records, read - start, made - read
        )

    def close(self) -> None:
        """End the processes that read; no batch can be had any more."""
        self._batches = self._loader = None

    def state_dict(self) -> dict[str, Any]:
        """Return what a continuation needs to bring the same samples."""
        return self._loader.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what [`state_dict`] returned; before the first batch."""
        self._loader.load_state_dict(state)
        self._batches = None


def _with_image_views(
    samples: dict[str, Any], settings: ImageViewSettings, shared: bool = False
) -> dict[str, Any]:
    """Put two views in the place of the images of a batch."""
    keys = ("image", "extent", "seed", "start")
    images, extents, seeds, _ = (samples.pop(key) for key in keys)
    views = make_image_views(images, extents, seeds, settings, shared)
    return {**samples, "views": views}


def _with_volume_views(
    samples: dict[str, Any], settings: VolumeViewSettings, shared: bool = False
) -> dict[str, Any]:
    """Put two views in the place of the volumes of a batch."""
    keys = ("image", "extent", "seed", "start")
    volumes, extents, seeds, starts = (samples.pop(key) for key in keys)
    views = make_volume_views(volumes, extents, seeds, settings, starts, shared)
    return {**samples, "views": views}
