"""Label maps of whole images and volumes, on their own grids, in little memory.

The logits of a CT of 512 x 512 x 600 voxels and 104 classes take 65 GB. Here windows are joined one
slab of slices after the other, each slab as deep as a window, and every slice is interpolated to
the native grid and turned into labels as soon as no further window reaches it. So about two slabs
of logits are held, whatever the number of slices, in the precision that they have anyway: the
labels are those of `label_map(predict_logits(...))`, up to the order of sums.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from transformers.modeling_utils import PreTrainedModel

from .label_restoring_mit import labels_of_slices, masks_of_slices, probabilities_of_slices
from .plane_grids_mit import PlaneGrid
from .sliding_windows_mit import LogitWindows, Overlap, logit_windows
from .volume_grids_mit import VolumeGrid

LARGEST_RESULT = 2**34
"""Bytes of the largest array of values of each class that is made: 16 GiB."""


def predict_labels(
    model: PreTrainedModel,
    pixel_values: torch.Tensor,
    grid: VolumeGrid | PlaneGrid,
    *,
    window: Sequence[int] | None = None,
    overlap: Overlap = 0.5,
    batch_size: int = 4,
    mirror: Sequence[int] = (),
    accumulate_on: str | torch.device = "cpu",
) -> np.ndarray:
    """Predict the label map of one whole image or volume on its native grid, without gradients.

    Args:
        model: A model of segmentation, in evaluation mode.
        pixel_values: `(1, channels, [depth,] height, width)`, as `MiTImageProcessor` makes them.
        grid: Where they lie: `grids[0].grid` of what the processor returned.
        window: `([depth,] height, width)` in voxels; `window_size` of the model's config by
            default, else its native size. Memory grows with its depth.
        overlap: Share of a window, from 0 to below 1, that the next one covers again; one number,
            or one for each axis.
        batch_size: Windows of a slab that go through the network at once.
        mirror: Axes along which windows are mirrored too, and logits averaged: see
            [`predict_logits`].
        accumulate_on: The device that logits are joined and interpolated on. It must hold two
            slabs of logits, each a window deep.

    Returns:
        Labels `([depth,] height, width)` after reorientation, in the smallest of uint8, int16 and
        int32 that holds all classes, 0 where voxels were cropped away. Of a multi-label model:
        masks `(classes, [depth,] height, width)`, bool, True where the probability is above 0.5.

    Raises:
        ValueError: If `pixel_values` are not one input, or not on `grid`; if the masks of a
            multi-label model would be absurdly large; if logits are not finite; and as
            [`predict_logits`] does.
        TypeError: If the model gives no logits, or those of other classes than its config's.
        ImportError: If MONAI is missing and the input does not fit in the window.
    """
    windows = logit_windows(model, pixel_values, window, overlap, batch_size, mirror)
    _check_input(windows, grid)
    slices = _finished_slices(windows, torch.device(accumulate_on), model)
    if not _is_multi_label(model):
        return labels_of_slices(slices, windows.size, grid)
    _check_size(model, grid, bool, "masks", LARGEST_RESULT)
    return masks_of_slices(slices, windows.size, grid)


def predict_probabilities(
    model: PreTrainedModel,
    pixel_values: torch.Tensor,
    grid: VolumeGrid | PlaneGrid,
    *,
    window: Sequence[int] | None = None,
    overlap: Overlap = 0.5,
    batch_size: int = 4,
    mirror: Sequence[int] = (),
    accumulate_on: str | torch.device = "cpu",
    dtype: type = np.float32,
    largest: int = LARGEST_RESULT,
) -> np.ndarray:
    """Predict each class's probabilities of one whole input on its native grid.

    Logits are averaged over windows and mirror images and interpolated; then a softmax over the
    classes, or each one's sigmoid of a multi-label model, makes them probabilities. So the class
    with the highest is the label of [`predict_labels`]. What is not told here is as
    [`predict_labels`] takes it.

    Args:
        dtype: `numpy.float32`, or `numpy.float16` for half the memory, to three digits.
        largest: The most bytes that the result may have.

    Returns:
        `(classes, [depth,] height, width)` after reorientation. Voxels that were cropped away are
        background for certain, or, where there is no background, no class at all.

    Raises:
        ValueError: Before anything is computed, if the result would have more bytes than `largest`;
            and as [`predict_labels`] does.
        TypeError, ImportError: As [`predict_labels`] does.
    """
    windows = logit_windows(model, pixel_values, window, overlap, batch_size, mirror)
    _check_input(windows, grid)
    _check_size(model, grid, dtype, "probabilities", largest)
    slices = _finished_slices(windows, torch.device(accumulate_on), model)
    return probabilities_of_slices(slices, windows.size, grid, _is_multi_label(model), dtype)


def _finished_slices(
    windows: LogitWindows, device: torch.device, model: PreTrainedModel
) -> Iterator[torch.Tensor]:
    """Logits `(classes, height, width)` of the slices along depth; of an image, the only one."""
    plane = tuple(slice(n) for n in windows.size[-2:])
    if len(windows.size) == 2 or windows.is_one:
        logits = windows.join(device)[0]
        slices = logits[:, None] if len(windows.size) == 2 else logits
        planes: Iterator[torch.Tensor] = iter(slices.unbind(1))
    else:
        planes = _joined_slabs(windows, device)
    for index, logits in enumerate(planes):
        if len(logits) != model.config.num_labels:
            raise TypeError(
                f"{type(model).__name__} gives logits of {len(logits)} classes, but its config has "
                f"{model.config.num_labels} labels; wanted a model of segmentation."
            )
        if len(windows.size) == 3 and index == windows.size[0]:
            return  # What follows was filled up.
        if not logits.sum().isfinite():
            raise ValueError(
                f"{type(model).__name__} gives logits that are not finite numbers, so there is no "
                f"best class. It computes in {model.dtype}; float32 reaches further."
            )
        yield logits[(slice(None), *plane)]


def _joined_slabs(windows: LogitWindows, device: torch.device) -> Iterator[torch.Tensor]:
    """Join a volume's windows one slab after the other, and give slices once they are finished."""
    length, depth = windows.voxels.shape[2], windows.window[0]
    # As MONAI places windows along each axis.
    interval = max(1, int(depth * (1 - windows.overlap[0])))
    starts = [*range(0, length - depth, interval), length - depth]
    weights = _SlabWeights(windows, device)
    rest, rest_weight = None, None
    for start, after in zip(starts, [*starts[1:], length], strict=True):
        slab = weights.weighted_slab(windows.voxels[:, :, start : start + depth])
        weight = weights.total.clone()
        if rest is not None:
            slab[:, : rest.shape[1]] += rest
            weight[: len(rest_weight)] += rest_weight
            rest = None
        for index in range(after - start):
            yield slab[:, index] / weight[index]
        # A copy, so that the slab's memory is free for the next one.
        rest, rest_weight = slab[:, after - start :].clone(), weight[after - start :]
        del slab


class _SlabWeights:
    """The slabs of a volume, each of them as MONAI joins it, and how much each voxel weighs there.

    MONAI keeps a window's weights from vanishing, so they are no product of one factor for each
    axis, and a slab's weights vary within its slices. They are the same for all slabs.
    """

    def __init__(self, windows: LogitWindows, device: torch.device):
        self.windows = windows
        self.device = device
        self.total: torch.Tensor | None = None
        self._places: list[list[slice]] = []

    def weighted_slab(self, voxels: torch.Tensor) -> torch.Tensor:
        """Sums of weighted logits, `(classes, *lengths)`, of voxels that are a window deep."""
        first = self.total is None
        if first:
            lengths = voxels.shape[2:]
            self.total = torch.zeros(lengths, dtype=voxels.dtype, device=self.device)
        settings: dict[str, Any] = {"process_fn": self._note_weights} if first else {}
        joined = self.windows.slide(
            self._predict, voxels, self.device, with_coord=True, **settings
        )[0]
        joined *= self.total
        return joined

    def _predict(self, voxels: torch.Tensor, places: list[list[slice]]) -> torch.Tensor:
        self._places = [place[2:] for place in places]
        return self.windows.predict(voxels)

    def _note_weights(
        self, logits: tuple[torch.Tensor, ...], _: torch.Tensor, weight: torch.Tensor
    ) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
        for place in self._places:
            self.total[tuple(place)] += weight.to(self.device)
        return logits, weight


def _is_multi_label(model: PreTrainedModel) -> bool:
    return model.config.problem_type == "multi_label_classification"


def _check_input(windows: LogitWindows, grid: VolumeGrid | PlaneGrid) -> None:
    if len(windows.voxels) != 1:
        raise ValueError(
            f"pixel_values hold {len(windows.voxels)} inputs; wanted one, as each has its own grid."
        )
    if tuple(grid.shape) != windows.size:
        raise ValueError(
            f"pixel_values have lengths {windows.size}, but their grid has {tuple(grid.shape)}. "
            "Give the grid that the processor returned with them."
        )


def _check_size(
    model: PreTrainedModel,
    grid: VolumeGrid | PlaneGrid,
    dtype: type,
    what: str,
    largest: int,
) -> None:
    shape = (model.config.num_labels, *grid.native_shape)
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size > largest:
        raise ValueError(
            f"The {what} of {shape[0]} classes on a grid of {shape[1:]} voxels would take "
            f"{size / 2**30:.1f} GiB as {np.dtype(dtype).name}, more than {largest / 2**30:.1f} "
            "GiB. Crop or resample the input itself, or ask for labels of fewer classes."
        )


__all__ = ["LARGEST_RESULT", "predict_labels", "predict_probabilities"]
