"""The image processor of MiT: radiographs or volumes in, tensors out."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, TypedDict

import numpy as np
import torch
from PIL import Image
from transformers import BatchFeature
from transformers.image_processing_utils import BaseImageProcessor

from .image_reading_mit import (
    AIR_HU,
    AXES,
    HU_SCALE,
    LUMINANCE,
    MAX_HU,
    VOLUME_SUFFIXES,
    Spacing,
    interpolate_plane,
    name_of,
    read_radiograph,
    read_volume,
    require_finite,
    require_spacing,
    resample,
    unit_range,
)

try:
    import nibabel
except ImportError:
    nibabel = None


class MiTImageProcessorKwargs(TypedDict, total=False):
    """The settings of `MiTImageProcessor`; a call may replace any of them."""

    image_size: dict[str, int] | None
    num_channels: int
    spacing: Spacing | None
    hu_range: Sequence[float] | None
    hu_divisor: float
    volume_size: dict[str, int] | None


class MiTImageProcessor(BaseImageProcessor):
    """Turn radiographs or volumes into the tensors that the UniMiSS networks take.

    An input tells by itself whether it is 2D or 3D. Radiographs are: PIL images; files, unless
    named like a volume (`VOLUME_SUFFIXES`); arrays and tensors `(height, width)`,
    `(1 or 3, height, width)` and `(height, width, 1 or 3)`, integers or floats in [0, 1]. Volumes
    are: nibabel images; the other files; arrays and tensors `(depth, height, width)` with at least
    4 slices and `(1, depth, height, width)`, in HU and with the axes of `reverse_axes`.

    A radiograph is resized, with antialiasing, to `image_size`. All of it is kept, so its aspect
    ratio is not: pretraining stretches its crops by up to 4/3, and more than that is warned of.
    A volume is resampled to `spacing` (see `read_volume`), cropped or filled up with air around its
    centre to `volume_size`, clipped to `hu_range` and divided by `hu_divisor`.

    Args:
        image_size: `{"height": 224, "width": 224}` of 2D images; `None` keeps the size they have.
        num_channels: of 2D images, 1 (which the networks take for 3 equal ones) or 3.
        spacing: (depth, height, width) in mm; `None` keeps the native grid.
        hu_range: the lowest and the highest HU; `None` does not clip.
        hu_divisor: the HU that become 1.
        volume_size: `{"depth": ..., "height": ..., "width": ...}`; `None` keeps the size.
    """

    model_input_names: ClassVar[list[str]] = ["pixel_values"]
    valid_kwargs = MiTImageProcessorKwargs

    def __init__(self, **kwargs: Any) -> None:
        settings = {name: kwargs.pop(name, default) for name, default in _DEFAULTS.items()}
        _refuse_unknown(kwargs.keys() - _BOOKKEEPING)
        super().__init__(**kwargs, **_checked(settings))

    def preprocess(
        self,
        images: Any,
        *,
        source_spacing: Spacing | None = None,
        return_tensors: str | None = None,
        **settings: Any,
    ) -> BatchFeature:
        """Prepare one input or a list of them, all 2D or all 3D.

        `images` are paths, PIL images, nibabel images, arrays or tensors. `source_spacing` is the
        true spacing of volumes in mm, (depth, height, width): it replaces what a file's header
        says, and without it arrays are not resampled. `return_tensors` is "pt", "np", or `None` for
        a list with one array for each input. Settings replace those of the same name for this call.

        Returns:
            `pixel_values`, float32, `(batch, channels, height, width)` in [0, 1] or
            `(batch, 1, depth, height, width)` in HU / `hu_divisor`.

        Raises:
            OSError: if a file cannot be read.
            ValueError, TypeError: if an input or a setting is not valid or of no known kind, or the
                inputs form no batch.
        """
        _refuse_unknown(settings.keys() - _DEFAULTS.keys())
        settings = _checked({name: getattr(self, name) for name in _DEFAULTS} | settings)
        inputs = images if isinstance(images, list | tuple) else [images]
        inputs = [_array(item) if isinstance(item, torch.Tensor) else item for item in inputs]
        dimensions = {name_of(source): f"{_dimensions(source)}D" for source in inputs}
        if len(set(dimensions.values())) != 1:
            raise ValueError(
                f"A batch holds one image or more, of one dimension; got {dimensions}. Pass images "
                f"and volumes in separate calls."
            )
        if "3D" in dimensions.values():
            arrays = [_prepared_volume(source, source_spacing, settings) for source in inputs]
        elif source_spacing is None:
            arrays = [_prepared_radiograph(source, settings) for source in inputs]
        else:
            raise ValueError(f"source_spacing={source_spacing} is for volumes; got 2D images.")
        if return_tensors is None:
            return BatchFeature({"pixel_values": arrays})
        shapes = {
            array.shape: name_of(source) for source, array in zip(inputs, arrays, strict=True)
        }
        if len(shapes) > 1:
            raise ValueError(
                f"Inputs of unequal shapes (channels, then lengths) form no batch: {shapes}. Set "
                f"image_size (2D) or volume_size (3D), or pass them one by one."
            )
        batch = np.stack(arrays) if len(arrays) > 1 else arrays[0][None]
        return BatchFeature({"pixel_values": batch}, tensor_type=return_tensors)

    def to_dict(self) -> dict[str, Any]:
        """All settings, those that are `None` too, as they are saved."""
        return super().to_dict() | {name: getattr(self, name) for name in _DEFAULTS}


_DEFAULTS: dict[str, Any] = {
    "image_size": {"height": 224, "width": 224},
    "num_channels": 1,
    "spacing": (3.0, 1.0, 1.0),
    "hu_range": (AIR_HU, MAX_HU),
    "hu_divisor": HU_SCALE,
    "volume_size": None,
}
# What transformers saves beside the settings.
_BOOKKEEPING = {"image_processor_type", "processor_class", "feature_extractor_type", "auto_map"}


def _refuse_unknown(names: set[str]) -> None:
    if names:
        raise TypeError(f"There is no setting {sorted(names)}; there are {list(_DEFAULTS)}.")


def _checked(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings as JSON gives them back; a ValueError names the one that is not valid."""
    checked = dict(settings)
    if settings["spacing"] is not None:
        checked["spacing"] = list(require_spacing("spacing", settings["spacing"]))
    if settings["hu_range"] is not None:
        checked["hu_range"] = np.ravel(settings["hu_range"]).tolist()
    hu, divisor = checked["hu_range"], checked["hu_divisor"]
    rules = {
        "image_size": (_is_size(checked["image_size"], AXES[1:]), f"positive {AXES[1:]} or None"),
        "num_channels": (checked["num_channels"] in (1, 3), "1 or 3"),
        "hu_range": (hu is None or (len(hu) == 2 and hu[0] < hu[1]), "(lowest, highest) or None"),
        "hu_divisor": (isinstance(divisor, int | float) and 0 < divisor < math.inf, "positive"),
        "volume_size": (_is_size(checked["volume_size"], AXES), f"positive {AXES} or None"),
    }
    for field, (valid, wanted) in rules.items():
        if not valid:
            raise ValueError(f"{field} must be {wanted}; got {settings[field]!r}.")
    return checked


def _is_size(size: Any, axes: tuple[str, ...]) -> bool:
    if not isinstance(size, dict) or size.keys() != set(axes):
        return size is None
    return all(isinstance(length, int) and length > 0 for length in size.values())


def _dimensions(source: Any) -> int:
    """2 or 3: whether an input is a radiograph or a volume."""
    if isinstance(source, str | Path):
        return 3 if str(source).lower().endswith(VOLUME_SUFFIXES) else 2
    if isinstance(source, Image.Image):
        return 2
    if nibabel is not None and isinstance(source, nibabel.filebasedimages.FileBasedImage):
        return 3
    if not isinstance(source, np.ndarray):
        raise TypeError(f"Wanted a path, PIL or nibabel image, array or tensor; got {source!r}.")
    if source.dtype.kind not in "iufb":
        raise ValueError(f"{name_of(source)} has values of type {source.dtype}, not real numbers.")
    shape = source.shape
    if 0 in shape:
        raise ValueError(f"{name_of(source)} is empty: its shape is {shape}.")
    first, last = shape[:1], shape[-1:]
    channels_first, channels_last = first in ((1,), (3,)), last in ((1,), (3,))
    if len(shape) == 2 or (len(shape) == 3 and channels_first != channels_last):
        return 2
    # A last axis of 2 or 4 may be grey or colour with transparency.
    volume = first >= (4,) and last > (4,)
    if (len(shape) == 3 and volume) or (len(shape) == 4 and first == (1,)):
        return 3
    raise ValueError(
        f"An array of shape {shape} can be read in several ways. Pass a volume with 4 axes, "
        f"(1, depth, height, width), an image as (height, width), and a batch as a list."
    )


def _array(tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()


def _prepared_radiograph(source: Any, settings: dict[str, Any]) -> np.ndarray:
    if isinstance(source, np.ndarray):
        grey = unit_range(source, name_of(source)).reshape((-1, *source.shape)[-3:])
        grey = np.moveaxis(grey, -1, 0) if grey.shape[-1] in (1, 3) else grey
        grey = np.tensordot(LUMINANCE, grey, axes=1)[None] if len(grey) == 3 else grey
    else:
        grey = read_radiograph(source)
    size = settings["image_size"]
    if size is not None:
        stretch = size["height"] / grey.shape[1] / (size["width"] / grey.shape[2])
        if max(stretch, 1 / stretch) > 4 / 3 + 1e-3:
            warnings.warn(
                f"{name_of(source)} is resized from {grey.shape[1:]} to {size}, a stretch unknown "
                f"to pretraining. Crop it, or set an image_size of its aspect ratio or None.",
                stacklevel=4,
            )
        pixels = torch.from_numpy(np.ascontiguousarray(grey))[None]
        grey = interpolate_plane(pixels, size["height"], size["width"])[0].numpy()
    return np.repeat(grey, settings["num_channels"], axis=0)


def _prepared_volume(source: Any, native: Spacing | None, settings: dict[str, Any]) -> np.ndarray:
    spacing = settings["spacing"]
    if isinstance(source, np.ndarray):
        volume = np.array(source.reshape(source.shape[-3:]), dtype=np.float32, order="C")
        require_finite(volume, name_of(source))
        if native is not None and spacing is not None:
            volume = resample(volume, require_spacing("source_spacing", native), spacing)
    else:
        volume = read_volume(source, spacing, native)
    if settings["volume_size"] is not None:
        volume = _crop_or_pad(volume, settings["volume_size"])
    if settings["hu_range"] is not None:
        volume = volume.clip(*settings["hu_range"])
    return volume[None] / np.float32(settings["hu_divisor"])


def _crop_or_pad(volume: np.ndarray, size: dict[str, int]) -> np.ndarray:
    """Cut `(depth, height, width)`, or fill it up with air, around its centre."""
    kept, filled = [], []
    for have, axis in zip(volume.shape, AXES, strict=True):
        start, missing = max(have - size[axis], 0) // 2, max(size[axis] - have, 0)
        kept.append(slice(start, start + size[axis]))
        filled.append((missing // 2, missing - missing // 2))
    return np.pad(volume[tuple(kept)], filled, constant_values=AIR_HU)
