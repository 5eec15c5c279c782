"""Whole images and volumes through a network that was trained on crops: sliding windows.

MONAI, which cuts and joins the windows, is needed only for inputs that are larger than one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.modeling_utils import PreTrainedModel

Overlap = float | Sequence[float]


@dataclass(frozen=True)
class MiTFeatures:
    """Features of whole images or volumes.

    Attributes:
        pooled: The class token, averaged over windows, `(batch, channels)`.
        patches: The encoder's last feature map on the grid of the whole input,
            `(batch, channels, [depth,] height, width)`: with the patch size of [`patch_size`], an
            axis of `n` voxels has `ceil(n / patch)` patches, the first of which begins at voxel 0.
    """

    pooled: torch.Tensor
    patches: torch.Tensor


def patch_size(model: PreTrainedModel, num_axes: int) -> tuple[int, ...]:
    """Return how many voxels one patch of the encoder's last feature map stands for.

    Args:
        model: A MiT.
        num_axes: 2 for images, 3 for volumes.

    Returns:
        The product of the strides along each axis, `([depth,] height, width)`: 32 x 32 pixels and
        16 x 32 x 32 voxels for the published sizes.

    Raises:
        TypeError: If `model` is no MiT.
    """
    encoder = _encoder(model)
    strides = []
    for embedding in (encoder.stem, *(stage.patch_embedding for stage in encoder.stages)):
        layer = embedding.embedding_2d if num_axes == 2 else embedding.embedding_3d
        strides.append(layer.convolution.stride)
    return tuple(math.prod(along_axis) for along_axis in zip(*strides, strict=True))


def feature_window(
    model: PreTrainedModel, num_axes: int, window: Sequence[int] | None = None
) -> tuple[int, ...]:
    """Return the window of [`extract_features`]: what fits in it goes through the network whole.

    Args:
        model: A MiT.
        num_axes: 2 for images, 3 for volumes.
        window: `([depth,] height, width)` in voxels; `window_size` of the model's config by
            default, else its native size (`image_size`, `volume_size`).

    Returns:
        The window, each axis rounded up to a whole number of patches.

    Raises:
        ValueError: If the window has another number of axes, or lengths that are not positive.
        TypeError: If `model` is no MiT.
    """
    window = _checked_window(model.config, num_axes, window)
    patch = patch_size(model, num_axes)
    return tuple(_round_up(length, step) for length, step in zip(window, patch, strict=True))


def extract_features(
    model: PreTrainedModel,
    pixel_values: torch.Tensor,
    window: Sequence[int] | None = None,
    overlap: Overlap = 0.0,
    batch_size: int = 4,
) -> MiTFeatures:
    """Extract the features of whole images or volumes, without gradients.

    What fits in the window goes through the encoder whole. Anything larger is cut into windows, all
    of which begin at a multiple of the patch size, so that their patches lie on one grid: the end
    of each axis is filled up to a whole number of patches with the sample's own minimum, which is
    air, and a last window that would reach beyond is moved back. Pooled features are averaged over
    windows, each counting by the share of it that lies inside the input; patch features are
    averaged where windows overlap.

    An axis that is shorter than the pyramid can hold (a volume of 2 slices) is filled up with the
    minimum, too.

    Args:
        model: A `MiTModel`, or a model with one as its `encoder`, in evaluation mode.
        pixel_values: `(batch, 3 or 1, height, width)` or `(batch, 1, depth, height, width)`,
            floating point, as `MiTImageProcessor` makes them. Windows move to the model's device
            and type one batch at a time.
        window: `([depth,] height, width)` in voxels; see [`feature_window`].
        overlap: Share of a window, from 0 to below 1, that the next one covers again; one number,
            or one for each axis. It is rounded up to what whole patches allow, so windows of one
            patch never overlap.
        batch_size: Windows that go through the network at once. An input that fits goes with its
            whole batch.

    Returns:
        The features, on the device of `pixel_values`, in float32 (float64 if the model is).

    Raises:
        ValueError: If the model is in training mode, or `pixel_values` or a setting cannot be had.
        TypeError: If `model` is no MiT.
        ImportError: If MONAI is missing and the input does not fit in the window.
    """
    encoder = _encoder(model)
    pixel_values = _checked_input(model, pixel_values)
    size = tuple(pixel_values.shape[2:])
    window = feature_window(encoder, len(size), window)
    overlap = _checked_overlap(overlap, len(size))
    batch_size = _checked_batch_size(batch_size)
    patch = patch_size(encoder, len(size))
    device, dtype = pixel_values.device, pixel_values.dtype

    def encode(voxels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        output = encoder(voxels.to(model.device), output_hidden_states=True, return_dict=True)
        return output.pooler_output.to(dtype), output.hidden_states[-1].to(dtype)

    if all(n <= length for n, length in zip(size, window, strict=True)):
        least = _minimum_size(encoder.config, len(size))
        lengths = [max(n, low) for n, low in zip(size, least, strict=True)]
        # Not inference_mode, whose tensors no probe could be trained on.
        with torch.no_grad():
            pooled, patches = encode(_filled_up(pixel_values, lengths))
        pooled, patches = pooled.to(device), patches.to(device)
    else:
        lengths = [_round_up(n, step) for n, step in zip(size, patch, strict=True)]
        window = tuple(min(n, length) for n, length in zip(lengths, window, strict=True))
        mean = _WeightedMean(size)

        def encode_windows(voxels: torch.Tensor, places: list[list[slice]]) -> torch.Tensor:
            pooled, patches = encode(voxels)
            mean.add(pooled.to(device), places)
            return patches

        patches = _slide(
            encode_windows,
            _filled_up(pixel_values, lengths),
            window,
            batch_size,
            model.device,
            device,
            overlap=_patch_overlap(window, patch, overlap),
            with_coord=True,
        )
        pooled = mean.result(len(pixel_values))
    grid = tuple(slice(math.ceil(n / step)) for n, step in zip(size, patch, strict=True))
    return MiTFeatures(pooled, patches[(..., *grid)])


@dataclass(frozen=True)
class LogitWindows:
    """How the logits of each voxel of whole inputs are predicted, window by window.

    Attributes:
        voxels: `(batch, channels, [depth,] height, width)`, filled up to what the pyramid can hold.
        size: The input's own `([depth,] height, width)`.
        window: Lengths of a window, none longer than `voxels`.
        overlap: Share of a window that the next one covers again, one for each axis.
        batch_size: Windows that go through the network at once.
        device: Where the network is.
        predict: Gives the logits of some windows, of their lengths.
    """

    voxels: torch.Tensor
    size: tuple[int, ...]
    window: tuple[int, ...]
    overlap: tuple[float, ...]
    batch_size: int
    device: torch.device
    predict: Callable[[torch.Tensor], torch.Tensor]

    @property
    def is_one(self) -> bool:
        """Whether one window holds all of an input."""
        return self.window == tuple(self.voxels.shape[2:])

    def join(self, device: torch.device) -> torch.Tensor:
        """Predict all windows and join them on a device: logits of the size of the inputs."""
        if self.is_one:
            with torch.no_grad():
                logits = self.predict(self.voxels).to(device)
        else:
            logits = self.slide(self.predict, self.voxels, device)
        return logits[(..., *(slice(n) for n in self.size))]

    def slide(
        self,
        predictor: Callable[..., torch.Tensor],
        voxels: torch.Tensor,
        device: torch.device,
        **settings: Any,
    ) -> torch.Tensor:
        """Join a predictor's windows, weighted by a Gaussian around each one's centre.

        Args:
            predictor: What gives a window's logits.
            voxels: All or some of `voxels`, at least as long as a window.
            device: Where logits are joined.
            **settings: Others of MONAI's `sliding_window_inference`.
        """
        return _slide(
            predictor,
            voxels,
            self.window,
            self.batch_size,
            self.device,
            device,
            overlap=self.overlap,
            mode="gaussian",
            **settings,
        )


def logit_windows(
    model: PreTrainedModel,
    pixel_values: torch.Tensor,
    window: Sequence[int] | None = None,
    overlap: Overlap = 0.5,
    batch_size: int = 4,
    mirror: Sequence[int] = (),
) -> LogitWindows:
    """Plan what [`predict_logits`] does; arguments and errors are its own."""
    pixel_values = _checked_input(model, pixel_values)
    size = tuple(pixel_values.shape[2:])
    minimum = _minimum_size(model.config, len(size))
    window = _checked_window(model.config, len(size), window)
    if any(length < least for length, least in zip(window, minimum, strict=True)):
        raise ValueError(f"window is {window}, but the pyramid needs {minimum} at least.")
    flips = _flips(mirror, len(size))
    dtype = pixel_values.dtype

    def predict_once(voxels: torch.Tensor) -> torch.Tensor:
        logits = getattr(model(voxels, return_dict=True), "logits", None)
        if logits is None:
            raise TypeError(
                f"{type(model).__name__} gives no logits; wanted a model of segmentation."
            )
        if logits.shape[2:] != voxels.shape[2:]:
            raise ValueError(
                f"{type(model).__name__} gives logits of shape {tuple(logits.shape)} for "
                f"{tuple(voxels.shape)}; wanted the same lengths (a model of segmentation)."
            )
        return logits.to(dtype)

    def predict(voxels: torch.Tensor) -> torch.Tensor:
        voxels = voxels.to(model.device)
        logits = predict_once(voxels)
        for axes in flips:
            logits += predict_once(voxels.flip(axes)).flip(axes)
        return logits / (1 + len(flips)) if flips else logits

    lengths = [max(n, least) for n, least in zip(size, minimum, strict=True)]
    return LogitWindows(
        _filled_up(pixel_values, lengths),
        size,
        tuple(min(n, length) for n, length in zip(lengths, window, strict=True)),
        _checked_overlap(overlap, len(size)),
        _checked_batch_size(batch_size),
        model.device,
        predict,
    )


def predict_logits(
    model: PreTrainedModel,
    pixel_values: torch.Tensor,
    window: Sequence[int] | None = None,
    overlap: Overlap = 0.5,
    batch_size: int = 4,
    mirror: Sequence[int] = (),
) -> torch.Tensor:
    """Predict the logits of each voxel of whole images or volumes, without gradients.

    What fits in the window goes through the network whole. Anything larger is cut into windows
    (along an axis that fits, they have its length), and logits are averaged where windows overlap,
    weighted by a Gaussian around each window's centre. An axis that is shorter than the pyramid can
    hold is filled up with the sample's minimum, and the logits are cut back.

    The logits of many classes on a fine grid may not fit in memory: `whole_prediction_mit` makes
    label maps without holding them all.

    Args:
        model: A model of segmentation, in evaluation mode: its output has `logits`
            `(batch, classes, [depth,] height, width)` at the input's resolution.
        pixel_values: As [`extract_features`] takes them.
        window: `([depth,] height, width)` in voxels; see [`feature_window`].
        overlap: Share of a window, from 0 to below 1, that the next one covers again; one number,
            or one for each axis.
        batch_size: Windows that go through the network at once. An input that fits goes with its
            whole batch.
        mirror: Axes, 0 being the first of `([depth,] height, width)`, along which each window is
            mirrored too: its logits are the mean over the window, its mirror image along each of
            these axes and along all combinations of them, each turned back, for 2, 4 or 8 times
            the time. A model that tells left from right is not to be mirrored along width.

    Returns:
        Logits `(batch, classes, [depth,] height, width)` of the input's size, on the device of
        `pixel_values`, in float32 (float64 if the model is).

    Raises:
        ValueError: If the model is in training mode, if `pixel_values` or a setting cannot be had,
            or if the logits have another resolution than the input.
        TypeError: If the model's output has no logits.
        ImportError: If MONAI is missing and the input does not fit in the window.
    """
    windows = logit_windows(model, pixel_values, window, overlap, batch_size, mirror)
    return windows.join(windows.voxels.device)


class _WeightedMean:
    """Mean of windows' features, each weighted by its share inside an input of a size."""

    def __init__(self, size: tuple[int, ...]):
        self.size = size
        self.sums: dict[int, torch.Tensor] = {}
        self.weights: dict[int, float] = {}

    def add(self, pooled: torch.Tensor, places: list[list[slice]]) -> None:
        """Add `(windows, channels)`; a place is MONAI's: the sample, all channels, the voxels."""
        for row, (sample, _, *voxels) in zip(pooled, places, strict=True):
            weight = math.prod(
                (min(part.stop, n) - part.start) / (part.stop - part.start)
                for part, n in zip(voxels, self.size, strict=True)
            )
            index = sample.start
            self.sums[index] = self.sums.get(index, 0) + weight * row
            self.weights[index] = self.weights.get(index, 0) + weight

    def result(self, batch_size: int) -> torch.Tensor:
        """Return the means, `(batch, channels)`."""
        return torch.stack([self.sums[index] / self.weights[index] for index in range(batch_size)])


def _slide(
    predictor: Callable[..., torch.Tensor],
    voxels: torch.Tensor,
    window: tuple[int, ...],
    batch_size: int,
    device: torch.device,
    joined_on: torch.device,
    **settings: Any,
) -> torch.Tensor:
    """Run MONAI's sliding windows on a device, and join them on another."""
    try:
        from monai.inferers import sliding_window_inference
    except ImportError as error:
        raise ImportError(
            f"An input of {tuple(voxels.shape[2:])} voxels is larger than the window {window}, and "
            "sliding windows need MONAI: pip install monai"
        ) from error
    with torch.no_grad():
        return sliding_window_inference(
            voxels,
            window,
            batch_size,
            predictor,
            sw_device=device,
            device=joined_on,
            **settings,
        )


def _patch_overlap(
    window: tuple[int, ...], patch: tuple[int, ...], overlap: tuple[float, ...]
) -> tuple[float, ...]:
    """The overlap from which MONAI derives an interval that is a whole number of patches."""
    overlaps = []
    for length, step, share in zip(window, patch, overlap, strict=True):
        # The rounding in `1 - share` is not to cost a patch: 1 - 0.9 is a little less than 0.1.
        interval = max(step, math.floor(length * (1 - share) / step + 1e-6) * step)
        # MONAI rounds its interval down; half a voxel more keeps it from losing one to rounding.
        overlaps.append(max(0.0, 1 - (interval + 0.5) / length))
    return tuple(overlaps)


def _filled_up(pixel_values: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
    """Fill up the end of each axis to a length, with the minimum of each sample and channel."""
    size = pixel_values.shape[2:]
    if tuple(size) == tuple(lengths):
        return pixel_values
    air = pixel_values.flatten(2).amin(2)
    filled = air.unflatten(1, (-1, *[1] * len(size))).repeat(1, 1, *lengths)
    filled[(..., *(slice(n) for n in size))] = pixel_values
    return filled


def _round_up(length: int, step: int) -> int:
    return math.ceil(length / step) * step


def _encoder(model: nn.Module) -> nn.Module:
    encoder = getattr(model, "encoder", model)
    if not hasattr(encoder, "stem") or not hasattr(encoder, "stages"):
        raise TypeError(
            f"Wanted a MiTModel, or a model with one as its encoder; got {type(model).__name__}."
        )
    return encoder


def _minimum_size(config: Any, num_axes: int) -> tuple[int, ...]:
    return tuple(config.minimum_image_size if num_axes == 2 else config.minimum_volume_size)


def _checked_input(model: nn.Module, pixel_values: torch.Tensor) -> torch.Tensor:
    """The input in the type that windows are joined in; a ValueError says what is wrong."""
    if model.training:
        raise ValueError(
            f"{type(model).__name__} is in training mode, where dropout and stochastic depth make "
            "outputs random. Call model.eval() first."
        )
    shape = tuple(pixel_values.shape)
    if len(shape) not in (4, 5) or 0 in shape or not pixel_values.is_floating_point():
        raise ValueError(
            f"pixel_values have shape {shape} and type {pixel_values.dtype}; wanted floating-point "
            "(batch, channels, height, width) or (batch, channels, depth, height, width), none of "
            "them 0, as MiTImageProcessor makes them."
        )
    return pixel_values.to(torch.promote_types(torch.float32, model.dtype))


def _checked_window(config: Any, num_axes: int, window: Sequence[int] | None) -> tuple[int, ...]:
    if window is None:
        native = config.image_size if num_axes == 2 else config.volume_size
        trained = config.window_size
        window = native if trained is None or len(trained) != num_axes else trained
    window = tuple(window)
    integers = all(isinstance(length, int) for length in window)
    if len(window) != num_axes or not integers or min(window) < 1:
        axes = "(height, width)" if num_axes == 2 else "(depth, height, width)"
        raise ValueError(f"window is {window}; wanted positive integers {axes} for such an input.")
    return window


def _checked_overlap(overlap: Overlap, num_axes: int) -> tuple[float, ...]:
    shares = (overlap,) * num_axes if isinstance(overlap, int | float) else tuple(overlap)
    if len(shares) != num_axes or not all(0 <= share < 1 for share in shares):
        raise ValueError(
            f"overlap is {overlap}; wanted a number from 0 to below 1, or one for each of "
            f"{num_axes} axes."
        )
    return shares


def _flips(mirror: Sequence[int], num_axes: int) -> list[tuple[int, ...]]:
    """All combinations of the axes but none of them, as axes of `(batch, channels, ...)`."""
    axes = tuple(mirror)
    if len(set(axes)) != len(axes) or not all(axis in range(num_axes) for axis in axes):
        names = ("depth", "height", "width")[-num_axes:]
        numbered = ", ".join(f"{number} ({name})" for number, name in enumerate(names))
        raise ValueError(f"mirror is {mirror}; wanted different axes among {numbered}.")
    return [
        tuple(2 + axis for axis in chosen)
        for number in range(1, len(axes) + 1)
        for chosen in itertools.combinations(axes, number)
    ]


def _checked_batch_size(batch_size: int) -> int:
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be 1 or more.")
    return batch_size


__all__ = [
    "LogitWindows",
    "MiTFeatures",
    "extract_features",
    "feature_window",
    "logit_windows",
    "patch_size",
    "predict_logits",
]
