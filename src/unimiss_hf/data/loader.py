"""Batches of a stream of samples, read by processes of their own."""

import functools
import logging
import signal
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import get_worker_info
from torchdata.stateful_dataloader import StatefulDataLoader

from ..hounsfield_mit import HU_SCALE
from ..training.signals import STOP_SIGNALS
from .stream import SampleStream

logger = logging.getLogger(__name__)


def make_loader(
    stream: SampleStream,
    batch_size: int,
    num_workers: int = 0,
    finish: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
) -> StatefulDataLoader:
    """Batches of a stream, without end, with `state_dict` and `load_state_dict`.

    Each batch comes from one worker, and workers take turns. A loader's state can be loaded only
    into one with the same number of workers.

    Args:
        stream: the samples.
        batch_size: samples in a batch.
        num_workers: processes that read; 0 reads in this one.
        finish: what the process that read a batch makes of it. It must be pickled where processes
            are not forked.

    Returns:
        A loader of `{"image": (batch, 1, *window), "extent": (batch, number of axes), "start":
        (batch, number of axes), "seed": (batch,), "name": list of str, "bad_records": list of int,
        "reader": list of int}`. Where the stream needs a part of each window only, images are as
        large as the largest of the batch: smaller ones are followed by zeros. Or what `finish`
        returns.

    Raises:
        ValueError: if there are fewer records than workers in all processes.
    """
    stream.require_enough_records(num_workers)
    if stream.rank == 0:
        _warn_of_sharing(stream, max(num_workers, 1))
    with warnings.catch_warnings():
        # torchdata calls what newer versions of torch call deprecated; users can do nothing
        warnings.filterwarnings("ignore", message=".*set_vital.*")
        return StatefulDataLoader(
            stream,
            batch_size=batch_size,
            num_workers=num_workers,
            collate_fn=functools.partial(_collate, finish=finish),
            pin_memory=torch.cuda.is_available(),
            persistent_workers=num_workers > 0,
            worker_init_fn=_ignore_signals,
            # a generator of its own, so that reading leaves the run's random state alone
            generator=torch.Generator().manual_seed(stream.settings.seed),
        )


def _warn_of_sharing(stream: SampleStream, workers: int) -> None:
    """Say what it costs if there are too few shards for each reader to have its own."""
    source, readers = stream.source, stream.world_size * workers
    few = source.content is not None and source.num_shards < readers
    if stream.has_shards_for(readers) or not (source.is_sequential or few):
        return
    cost = (
        "each reader goes through all data to find its own"
        if source.is_sequential
        else "each reader opens every shard"
    )
    logger.warning(
        "%s has %d shards for %d readers (%d processes x %d workers), which cannot have the same "
        "number each. So single records are shared out, and %s. Prepare the data in %d shards or a "
        "multiple of that, or take fewer workers%s.",
        source.name,
        source.num_shards,
        readers,
        stream.world_size,
        workers,
        cost,
        readers,
        "" if source.content else ", or do not stream",
    )


def _ignore_signals(worker: int) -> None:
    """Leave signals that reach the whole group to the process that trains, which saves first."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _collate(
    samples: list[dict[str, Any]], finish: Callable[[dict[str, Any]], dict[str, Any]] | None
) -> dict[str, Any]:
    shared = finish is None and get_worker_info() is not None
    batch: dict[str, Any] = {"image": _stack([sample["image"] for sample in samples], shared)}
    for key in ("extent", "start", "seed"):
        batch[key] = torch.stack([sample[key] for sample in samples])
    # Another process must open a file for each tensor that it gets, so these are none.
    for key in ("name", "bad_records", "reader"):
        batch[key] = [sample[key] for sample in samples]
    return batch if finish is None else finish(batch)


def _stack(images: list[torch.Tensor], shared: bool) -> torch.Tensor:
    """Stack images of any sizes, each in a corner of zeros, in memory of many processes or not."""
    if len({image.dtype for image in images}) > 1:
        images = [image if image.is_floating_point() else image / HU_SCALE for image in images]
    largest = [max(lengths) for lengths in zip(*(image.shape for image in images), strict=True)]
    stacked = torch.empty(len(images), *largest, dtype=images[0].dtype)
    if shared:
        # Copying it into shared memory when it is sent would take as long as reading it.
        stacked.share_memory_()
    for place, image in zip(stacked, images, strict=True):
        if list(image.shape) != largest:
            place.zero_()
        place[tuple(slice(length) for length in image.shape)] = image
    return stacked
