"""Samples of a run: which case each is cut from, and where, as a function of its number alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from .prepared_cases import PreparedCase, worker_context


@dataclass(frozen=True)
class SampleOrder:
    """Deals the samples of a run: every case once in each round, in an order of its own.

    Which sample a number stands for depends on the seed and the number alone, so a run that goes
    on, with any number of workers, sees what is to come as if it had never stopped.

    Args:
        num_cases: Cases of the training split.
        seed: Of the order.
    """

    num_cases: int
    seed: int

    def case_of(self, number: int) -> int:
        """The case that a sample is cut from."""
        epoch, place = divmod(number, self.num_cases)
        order = np.random.default_rng((self.seed, 0, epoch)).permutation(self.num_cases)
        return int(order[place])

    def seed_of(self, number: int) -> tuple[int, int, int]:
        """The seed of what else is random of a sample: its place, its augmentation."""
        return self.seed, 1, number


class SampleDataset(Dataset):
    """Cuts samples from prepared cases.

    Args:
        cases: Of the training split.
        order: Which case a sample is of.
        patch_size: `([depth,] height, width)`; `None`: the whole case.
        foreground_fraction: Share of patches that are centred on a voxel of a class that is not
            the background, drawn from the classes that the case has, each as often.
    """

    def __init__(
        self,
        cases: Sequence[PreparedCase],
        order: SampleOrder,
        patch_size: Sequence[int] | None,
        foreground_fraction: float,
    ):
        self.cases = cases
        self.order = order
        self.patch_size = None if patch_size is None else tuple(patch_size)
        self.foreground_fraction = foreground_fraction

    def __getitem__(self, number: int) -> dict[str, Any]:
        """Cut a sample.

        Returns:
            `pixel_values`, float32 `(channels, [depth,] height, width)`; `labels`, an int64 map of
            its size, or the case's target; `seed`, of its augmentation; `name`, of its case.
        """
        prepared = self.cases[self.order.case_of(number)]
        random = np.random.default_rng(self.order.seed_of(number))
        image = prepared.image()
        target = prepared.case.target
        labels = None if target is not None else prepared.labels()
        if self.patch_size is not None:
            size = image.shape[1:]
            start = self._start(prepared, size, random, labels is not None)
            is_inside = all(
                first >= 0 and first + length <= have
                for first, length, have in zip(start, self.patch_size, size, strict=True)
            )
            # The lowest value is looked for in all of a case: only where it is wanted.
            image = cut(image, start, self.patch_size, 0.0 if is_inside else float(image.min()))
            labels = None if labels is None else cut(labels, start, self.patch_size, 0)
        if labels is None:
            answer = torch.tensor(target, dtype=None if isinstance(target, int) else torch.float32)
        else:
            answer = torch.from_numpy(np.array(labels, dtype=np.int64))
        return {
            "pixel_values": torch.from_numpy(np.array(image, dtype=np.float32)),
            "labels": answer,
            "seed": int(random.integers(2**31)),
            "name": prepared.case.name,
        }

    def _start(
        self,
        prepared: PreparedCase,
        size: Sequence[int],
        random: np.random.Generator,
        has_labels: bool,
    ) -> list[int]:
        """Where a patch begins, along each axis; below 0 where the case is smaller."""
        centres = {}
        if has_labels and random.random() < self.foreground_fraction:
            centres = prepared.centres()
        highest = [have - want for have, want in zip(size, self.patch_size, strict=True)]
        if not centres:
            return [int(random.integers(free + 1)) if free >= 0 else free // 2 for free in highest]
        number = list(centres)[random.integers(len(centres))]
        centre = centres[number][random.integers(len(centres[number]))]
        return [
            int(np.clip(place - want // 2, 0, free)) if free >= 0 else free // 2
            for place, want, free in zip(centre, self.patch_size, highest, strict=True)
        ]


def cut(array: np.ndarray, start: Sequence[int], size: Sequence[int], fill: float) -> np.ndarray:
    """Cut a box from the last axes of an array; what lies outside is filled.

    Args:
        array: `(..., [depth,] height, width)`.
        start: First voxel along each axis; may be negative.
        size: Lengths of the box.
        fill: What is put where the array has nothing.
    """
    inner, filled = [], []
    for first, length, have in zip(start, size, array.shape[-len(size) :], strict=True):
        low, high = max(first, 0), min(first + length, have)
        inner.append(slice(low, high))
        filled.append((low - first, first + length - high))
    part = array[(..., *inner)]
    if not any(before or after for before, after in filled):
        return part
    leading = [(0, 0)] * (array.ndim - len(size))
    return np.pad(part, leading + filled, constant_values=fill)


@dataclass(frozen=True)
class SampleBatch:
    """A batch of samples, on the CPU.

    Attributes:
        pixel_values: `(batch, channels, [depth,] height, width)`, float32.
        labels: `(batch, [depth,] height, width)` or `(batch, ...)`, the targets.
        seeds: One for each sample.
        names: Of the cases.
    """

    pixel_values: torch.Tensor
    labels: torch.Tensor
    seeds: list[int]
    names: list[str]


def batches_from(
    dataset: SampleDataset,
    step: int,
    total_steps: int,
    batch_size: int,
    accumulation: int,
    rank: int,
    world_size: int,
    num_workers: int,
) -> Iterator[SampleBatch]:
    """Read the batches of a run from a step on.

    Args:
        dataset: Of samples by their numbers.
        step: The first optimiser step.
        total_steps: The last one, and one more.
        batch_size: Samples of a batch, of each process.
        accumulation: Batches of a step.
        rank: Number of this process.
        world_size: Number of processes.
        num_workers: Processes that read; 0: this one.
    """
    numbers = [
        [
            ((current * accumulation + part) * world_size + rank) * batch_size + index
            for index in range(batch_size)
        ]
        for current in range(step, total_steps)
        for part in range(accumulation)
    ]
    loader = DataLoader(
        dataset,
        batch_sampler=numbers,
        num_workers=num_workers,
        collate_fn=_collate,
        multiprocessing_context=worker_context() if num_workers else None,
        # One of its own: a run that goes on makes another loader, and its dropout must not notice.
        generator=torch.Generator(),
    )
    yield from loader


def _collate(samples: list[dict[str, Any]]) -> SampleBatch:
    shapes = {tuple(sample["pixel_values"].shape): sample["name"] for sample in samples}
    if len(shapes) > 1:
        raise ValueError(
            f"Cases of unequal shapes (channels, then lengths) form no batch: {shapes}. Give a "
            "patch_size, or an image_size (2D) or volume_size (3D) in processor."
        )
    return SampleBatch(
        torch.stack([sample["pixel_values"] for sample in samples]),
        torch.stack([sample["labels"] for sample in samples]),
        [sample["seed"] for sample in samples],
        [sample["name"] for sample in samples],
    )
