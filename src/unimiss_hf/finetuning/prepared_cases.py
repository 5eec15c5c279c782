"""Cases as training reads them: prepared once, kept on the disk, read in parts."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import __version__
from ..data.labelled.case import LabelledCase, LabelledData
from ..image_processing_mit import MiTImageProcessor

_IMAGE, _LABELS, _FOREGROUND = "image.npy", "labels.npy", "foreground.npy"
_IGNORED = 255
# Voxels of a class that patches are centred on are drawn from so many.
_CENTRES_PER_CLASS = 4096
_ERRORS_SHOWN = 10


@dataclass(frozen=True)
class PreparedCase:
    """A case on the network's grid, in a folder of its own.

    Attributes:
        case: what it was made of.
        folder: where its arrays are.
    """

    case: LabelledCase
    folder: Path

    def image(self) -> np.ndarray:
        """`(channels, [depth,] height, width)`, float16, mapped: only what is read is loaded."""
        return np.load(self.folder / _IMAGE, mmap_mode="r")

    def labels(self) -> np.ndarray:
        """The label map `([depth,] height, width)`, mapped; where classes overlap, bits."""
        return np.load(self.folder / _LABELS, mmap_mode="r")

    def centres(self) -> dict[int, np.ndarray]:
        """Of each class that the case has but the background, some voxels `(count, axes)`."""
        rows = np.load(self.folder / _FOREGROUND)
        return {int(number): rows[rows[:, 0] == number, 1:] for number in np.unique(rows[:, 0])}


class CaseCache:
    """Prepares cases with an image processor and keeps them; what is there is not made again.

    Images are kept in float16: of values in [-1, 1] that keeps 11 bits, 0.25 HU beside water.

    Args:
        folder: Where to keep them. Several processes and runs may share it.
        processor: What the network takes.
        data: The data set, with its classes.
        is_segmentation: Whether cases have label maps.
    """

    def __init__(
        self, folder: Path, processor: MiTImageProcessor, data: LabelledData, is_segmentation: bool
    ):
        self.processor = processor
        self.data = data
        self.is_segmentation = is_segmentation
        saved = processor.to_dict()
        settings = {name: saved[name] for name in processor.valid_kwargs.__annotations__}
        described = json.dumps(
            [__version__, settings, data.class_names, data.problem_type, is_segmentation],
            sort_keys=True,
        )
        self.folder = Path(folder) / hashlib.blake2b(described.encode(), digest_size=8).hexdigest()

    def prepare(
        self, cases: Sequence[LabelledCase], num_workers: int = 0, tell: Any = None
    ) -> list[PreparedCase]:
        """Prepare cases, in their order.

        Args:
            cases: The cases.
            num_workers: Processes that do it; 0: this one.
            tell: Called with the number of cases that are ready, now and then.

        Raises:
            ValueError: If any case cannot be prepared: all of them are named.
            OSError: If the folder cannot be written.
        """
        missing = [case for case in cases if not self._folder_of(case).is_dir()]
        errors = []
        for done, (case, error) in enumerate(self._run(missing, num_workers), start=1):
            if error is not None:
                errors.append(f"{case.name}: {error}")
            if tell is not None:
                tell(len(cases) - len(missing) + done)
        if errors:
            more = len(errors) - _ERRORS_SHOWN
            raise ValueError(
                f"{len(errors)} of {len(cases)} cases cannot be prepared. Mend them, or take them "
                "out of the data set:\n  "
                + "\n  ".join(errors[:_ERRORS_SHOWN])
                + (f"\n  and {more} more" if more > 0 else "")
            )
        return [PreparedCase(case, self._folder_of(case)) for case in cases]

    def _run(
        self, cases: Sequence[LabelledCase], num_workers: int
    ) -> Iterator[tuple[LabelledCase, str | None]]:
        if num_workers < 1 or len(cases) < 2:
            for case in cases:
                yield case, self._attempt(case)
            return
        with ProcessPoolExecutor(num_workers, mp_context=worker_context()) as pool:
            yield from zip(cases, pool.map(self._attempt_alone, cases), strict=True)

    def _attempt_alone(self, case: LabelledCase) -> str | None:
        torch.set_num_threads(1)
        return self._attempt(case)

    def _attempt(self, case: LabelledCase) -> str | None:
        try:
            self._write(case)
        except (ValueError, ImportError, TypeError) as error:
            return str(error)
        except OSError as error:
            # what cannot be read is the case's; what cannot be written is the folder's
            if error.filename is not None and Path(error.filename).is_relative_to(self.folder):
                raise
            return str(error)
        return None

    def _folder_of(self, case: LabelledCase) -> Path:
        files = [str(path) for path in (*case.files, *case.label_files)]
        stamps = [Path(path).stat().st_mtime_ns for path in files if Path(path).exists()]
        key = json.dumps([case.name, files, stamps, sorted(case.details.items())], default=str)
        return self.folder / hashlib.blake2b(key.encode(), digest_size=12).hexdigest()

    def _write(self, case: LabelledCase) -> None:
        maps = case.load_labels(case) if self.is_segmentation else None
        batch = self.processor(case.load_image(case), segmentation_maps=maps)
        with np.errstate(over="ignore"):
            image = batch["pixel_values"][0].astype(np.float16)
        if not np.isfinite(image).all():
            raise ValueError(
                f"prepared values reach {np.abs(batch['pixel_values'][0]).max():.6g}, and float16, "
                "in which they are kept, ends at 65504. Choose a window and scaling of the "
                "processor that make them small"
            )
        target = self._folder_of(case)
        partial = target.with_name(f".{target.name}.{os.getpid()}")
        partial.mkdir(parents=True, exist_ok=True)
        try:
            np.save(partial / _IMAGE, image)
            if self.is_segmentation:
                labels = batch["labels"][0]
                classes = present_classes(labels, self.data, case.name)
                np.save(partial / _LABELS, self._compact(labels))
                np.save(partial / _FOREGROUND, self._centres(case, labels, classes))
            partial.rename(target)
        except OSError:
            if not target.is_dir():  # else another process was first
                raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _compact(self, labels: np.ndarray) -> np.ndarray:
        if self.data.is_multi_label:
            return labels
        return labels.astype(np.uint8 if len(self.data.class_names) <= _IGNORED else np.int16)

    def _centres(
        self, case: LabelledCase, labels: np.ndarray, classes: Iterable[int]
    ) -> np.ndarray:
        random = np.random.default_rng(int.from_bytes(hashlib.sha256(case.name.encode()).digest()))
        overlap = self.data.is_multi_label
        rows = [np.zeros((0, 1 + labels.ndim), dtype=np.int32)]
        for number in classes:
            inside = labels >> number & 1 if overlap else labels == number
            places = np.flatnonzero(inside)
            if len(places) > _CENTRES_PER_CLASS:
                places = random.choice(places, _CENTRES_PER_CLASS, replace=False)
            centres = np.stack(np.unravel_index(np.sort(places), labels.shape), axis=1)
            rows.append(np.insert(centres, 0, number, axis=1).astype(np.int32))
        return np.concatenate(rows)


def worker_context() -> BaseContext:
    """How worker processes are started: what they need is imported once, for all of them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def present_classes(labels: np.ndarray, data: LabelledData, name: str) -> list[int]:
    """List the classes that a label map has, the background left out.

    Args:
        labels: `([depth,] height, width)`, int64; 255 is ignored; where classes overlap, bits.
        data: The data set, with its classes.
        name: Of the case.

    Raises:
        ValueError: If a voxel has a label that is no class; the case is named.
    """
    values = np.unique(labels)
    count = len(data.class_names)
    if data.is_multi_label:
        if values[-1] >= 1 << count:
            raise ValueError(
                f"the map of bits holds {values[-1]}, which is above that of {count} classes"
            )
        every = int(np.bitwise_or.reduce(values))
        return [number for number in range(count) if every >> number & 1]
    strange = [int(value) for value in values if value >= count and value != _IGNORED]
    if strange:
        raise ValueError(
            f"the label map of {name} holds {strange[:10]}, but there are the classes 0 to "
            f"{count - 1} ({', '.join(data.class_names[:6])}{', …' if count > 6 else ''}) and "
            f"{_IGNORED}, which is ignored"
        )
    return [int(value) for value in values if 0 < value < count]


def require_every_class(cases: Sequence[PreparedCase], data: LabelledData) -> None:
    """Refuse training cases of which none has a voxel of some class.

    Raises:
        ValueError: Naming the classes.
    """
    overlap = data.is_multi_label
    missing = set(range(0 if overlap else 1, len(data.class_names)))
    for case in cases:
        missing -= case.centres().keys()
        if not missing:
            return
    names = ", ".join(data.class_names[number] for number in sorted(missing))
    raise ValueError(
        f"None of the {len(cases)} training cases has a voxel of {names}. A class that is never "
        "seen cannot be learnt: use more labels, another split_seed, or fewer classes."
    )
