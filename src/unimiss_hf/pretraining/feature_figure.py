"""A picture of what models see: patch features of a CT and a radiograph as colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from ..drawing import new_figure, save_figure
from ..hounsfield_mit import AIR_HU, HU_SCALE, MAX_HU
from ..modeling_mit import MiTModel
from ..volume_grids_mit import interpolate_plane

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BODY_HU = -500.0  # between air and lung on one side, fat and muscle on the other
_SLICES = 16
_PLANE = 320
_RADIOGRAPH = 448
_PERCENTILES = (2.0, 98.0)


def figure_inputs(
    volume_hu: np.ndarray, radiograph: np.ndarray
) -> tuple[torch.Tensor, torch.Tensor]:
    """Make a model's inputs of a CT and a radiograph.

    The CT is cropped, not resized: 16 slices around the middle of the volume, and in plane 320 by
    320 voxels around the centre of the body (all voxels above -500 HU in those slices), moved to
    lie inside the volume; a shorter axis is kept whole. The radiograph is resized, antialiased, so
    that its longer side has 448 pixels; nothing is cut off and its aspect ratio is kept.

    Args:
        volume_hu: `(depth, height, width)` in HU at a spacing of 3 x 1 x 1 mm.
        radiograph: `(1, height, width)` in [0, 1].

    Returns:
        The volume `(1, 1, depth, height, width)`, its HU clipped to [-1024, 3071] and divided by
        1024, and the image `(1, 1, height, width)`, both float32.

    Raises:
        ValueError: If an array has other axes, or none of its voxels or pixels.
    """
    if volume_hu.ndim != 3 or not volume_hu.size:
        raise ValueError(f"volume_hu must be (depth, height, width); got shape {volume_hu.shape}.")
    if radiograph.ndim != 3 or radiograph.shape[0] != 1 or not radiograph.size:
        raise ValueError(f"radiograph must be (1, height, width); got shape {radiograph.shape}.")
    slices = volume_hu[_window(len(volume_hu), len(volume_hu) / 2, _SLICES)]
    body = np.nonzero(slices > _BODY_HU)
    rows, columns = (
        _window(
            slices.shape[axis],
            float(body[axis].mean()) if len(body[axis]) else slices.shape[axis] / 2,
            _PLANE,
        )
        for axis in (1, 2)
    )
    crop = slices[:, rows, columns].astype(np.float32).clip(AIR_HU, MAX_HU) / HU_SCALE
    height, width = radiograph.shape[1:]
    scale = _RADIOGRAPH / max(height, width)
    pixels = torch.from_numpy(np.array(radiograph, dtype=np.float32))[None]
    image = interpolate_plane(pixels, max(1, round(height * scale)), max(1, round(width * scale)))
    return torch.from_numpy(crop)[None, None], image.clamp(0, 1)


def draw_features(
    models: Mapping[str, MiTModel],
    volume: torch.Tensor,
    image: torch.Tensor,
    target: Path,
    window: tuple[float, float] = (-1000.0, 400.0),
    stages: Sequence[int] = (2, 3),
) -> Path:
    """Draw a CT slice, a radiograph and each model's features of them, see [`features_figure`].

    Args:
        models: The models by name, such as `{"random weights": ..., "pretrained": ...}`.
        volume: `(1, 1, depth, height, width)`, HU / 1024, as of [`figure_inputs`].
        image: `(1, 1, height, width)` in [0, 1].
        target: The picture to write, in the format that its suffix names (PNG without one).
        window: Lowest and highest HU of the CT's grey levels.
        stages: The encoder stages, from 1, whose feature maps are drawn.

    Returns:
        `target`.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: As of [`features_figure`].
        OSError: If the picture cannot be written.
    """
    return save_figure(features_figure(models, volume, image, window, stages), target)


def features_figure(
    models: Mapping[str, MiTModel],
    volume: torch.Tensor,
    image: torch.Tensor,
    window: tuple[float, float] = (-1000.0, 400.0),
    stages: Sequence[int] = (2, 3),
) -> Figure:
    """Draw a row for a CT and one for a radiograph: the picture, then each model's features.

    The volume goes whole through the 3D path, and its middle slice is shown, as radiologists see
    it: anterior up, the patient's right on the left. The radiograph goes through the 2D path. The
    feature maps of the stages, channels standardised (see [`patch_features`]), become red, green
    and blue by [`principal_components`], found for each picture and model by itself over all of its
    patches, so colours have no meaning across pictures. They are brought to the picture's size
    (tri-)linearly. The titles give the three components' shares of the patches' variance.

    Args:
        models: The models by name, a column each. They keep their mode.
        volume: `(1, 1, depth, height, width)`, HU / 1024.
        image: `(1, 1, height, width)` in [0, 1].
        window: Lowest and highest HU of the CT's grey levels.
        stages: The encoder stages, from 1, whose feature maps are drawn. Stages 2 and 3 of the
            default show organs; stage 1 mostly shows edges, stage 4 is too coarse to be looked at.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If there is no model, a tensor has another shape, the window is empty, a model
            has no such stage, or its features are not finite.
    """
    if not models:
        raise ValueError("There is no model to draw features of; give at least one by name.")
    for name, given, axes in (("volume", volume, 5), ("image", image, 4)):
        if given.ndim != axes or tuple(given.shape[:2]) != (1, 1):
            wanted = "(1, 1, depth, height, width)" if axes == 5 else "(1, 1, height, width)"
            raise ValueError(f"{name} must be {wanted}; got shape {tuple(given.shape)}.")
    if window[0] >= window[1]:
        raise ValueError(f"window must be (lowest, highest) HU; got {window}.")
    columns = 1 + len(models)
    tallest = max(volume.shape[3] / volume.shape[4], image.shape[2] / image.shape[3])
    figure = new_figure(3.3 * columns, 2 * (3.2 * min(tallest, 2) + 0.5) + 0.5)
    panels = figure.subplots(2, columns, squeeze=False)
    low, high = (hounsfield / HU_SCALE for hounsfield in window)
    rows = (
        (
            panels[0],
            volume,
            f"CT, 3D input\nmiddle slice, {window[0]:g} to {window[1]:g} HU",
            low,
            high,
        ),
        (panels[1], image, "radiograph, 2D input\ngrey levels from 0 to 1", 0.0, 1.0),
    )
    for row, pixels, title, darkest, brightest in rows:
        picture = _shown(pixels[0].float().cpu())[0]
        row[0].imshow(picture.numpy(), cmap="gray", vmin=darkest, vmax=brightest)
        row[0].set_title(title, fontsize=10)
        for panel, (name, model) in zip(row[1:], models.items(), strict=True):
            projections, shares = _projections(patch_features(model, pixels, stages))
            mode = "trilinear" if pixels.ndim == 5 else "bilinear"
            colours = functional.interpolate(
                _unit_range(projections)[None], tuple(pixels.shape[2:]), mode=mode
            )
            panel.imshow(_shown(colours[0]).permute(1, 2, 0).clamp(0, 1).numpy())
            explained = " + ".join(f"{share:.0f}" for share in (100 * shares).tolist())
            panel.set_title(f"{fill(name, 30)}\n{explained} % of variance", fontsize=10)
    for panel in panels.flat:
        panel.set_axis_off()
    number = "stage" if len(stages) == 1 else "stages"
    figure.supxlabel(
        "Red, green, blue: first three principal components of the patch features\nof encoder "
        f"{number} {' and '.join(map(str, stages))}, for each picture and model by itself.",
        fontsize=9,
        color="dimgray",
    )
    return figure


def patch_features(
    model: MiTModel, pixel_values: torch.Tensor, stages: Sequence[int] = (2, 3)
) -> torch.Tensor:
    """Join feature maps of encoder stages on the finest one's grid.

    Each channel is standardised over the grid, so that few large ones do not hide the others, and
    each stage weighs as much as another, however many channels it has.

    Args:
        model: The encoder. It keeps its mode; dropout is off here.
        pixel_values: `(1, channels, [depth,] height, width)`, on any device.
        stages: The stages, from 1.

    Returns:
        `(1, sum of the stages' channels, [depth,] height, width)`, float32 on the CPU.

    Raises:
        ValueError: If the model has no such stage, or takes no such pixels.
    """
    taken = range(1, len(model.stages) + 1)
    if not stages or any(stage not in taken for stage in stages):
        raise ValueError(
            f"stages is {tuple(stages)}; the model has the stages {', '.join(map(str, taken))}."
        )
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            output = model(pixel_values.to(model.device), output_hidden_states=True)
    finally:
        model.train(was_training)
    # The stem comes first.
    maps = [output.hidden_states[stage].float().cpu() for stage in sorted(stages)]
    grid = tuple(maps[0].shape[2:])
    mode = "trilinear" if pixel_values.ndim == 5 else "bilinear"
    joined = []
    for feature_map in maps:
        axes = tuple(range(2, feature_map.ndim))
        feature_map = feature_map - feature_map.mean(axes, keepdim=True)
        deviation = feature_map.square().mean(axes, keepdim=True).sqrt()
        feature_map = feature_map / deviation.clamp_min(1e-6) / feature_map.shape[1] ** 0.5
        joined.append(functional.interpolate(feature_map, grid, mode=mode))
    return torch.cat(joined, dim=1)


def principal_components(feature_map: torch.Tensor) -> torch.Tensor:
    """Bring the first three principal components of patch features to [0, 1], as colours.

    The eigenvectors of the channels' exact covariance are used, so the answer is always the same;
    each one's largest loading is positive. Of each component the 2nd percentile over the patches
    becomes 0 and the 98th becomes 1, and what lies beyond is clipped. A component without variance
    is 0.5 throughout.

    Args:
        feature_map: `(1, channels, *grid)`.

    Returns:
        `(3, *grid)`, float32.

    Raises:
        ValueError: If the shape is another, or values are not finite.
    """
    return _unit_range(_projections(feature_map)[0])


def _projections(feature_map: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The three components `(3, *grid)`, and their shares of the variance `(3,)`."""
    if feature_map.ndim < 3 or feature_map.shape[0] != 1 or not feature_map.numel():
        raise ValueError(
            f"feature_map must be (1, channels, *grid); got shape {tuple(feature_map.shape)}."
        )
    patches = feature_map[0].flatten(1).double()
    if not patches.isfinite().all():
        raise ValueError(
            f"Features of shape {tuple(feature_map.shape)} are not all finite. Check the model's "
            "weights and input."
        )
    magnitude = patches.square().mean()
    patches = patches - patches.mean(dim=1, keepdim=True)
    variances, vectors = torch.linalg.eigh(patches @ patches.T / patches.shape[1])
    variances, vectors = variances.flip(0)[:3].clamp_min(0), vectors.flip(1)[:, :3]
    largest = vectors.abs().argmax(dim=0, keepdim=True)
    vectors = vectors * vectors.gather(0, largest).sign()
    # Rounding in float32 features leaves this much variance where there is none.
    total = patches.square().sum() / patches.shape[1]
    variances = torch.where(variances > 1e-12 * magnitude, variances, 0.0)
    projections = torch.where(variances[:, None] > 0, vectors.T @ patches, 0.0)
    missing = 3 - len(variances)
    projections = functional.pad(projections, (0, 0, 0, missing))
    shares = functional.pad(variances / total if total > 0 else variances, (0, missing))
    return projections.reshape(3, *feature_map.shape[2:]), shares


def _unit_range(components: torch.Tensor) -> torch.Tensor:
    values = components.flatten(1).numpy()
    low, high = np.percentile(values, _PERCENTILES, axis=1)
    # A component that few patches have would otherwise vanish.
    narrow = high - low < 1e-3 * np.ptp(values, axis=1)
    low, high = np.where(narrow, values.min(1), low), np.where(narrow, values.max(1), high)
    extent = (high - low)[:, None]
    scaled = np.divide(
        values - low[:, None], extent, out=np.full_like(values, 0.5), where=extent > 0
    )
    return torch.from_numpy(scaled).clamp(0, 1).float().reshape(components.shape)


def _shown(picture: torch.Tensor) -> torch.Tensor:
    """`(channels, height, width)` as shown: an image as it is, a volume's middle slice turned."""
    if picture.ndim == 3:
        return picture
    # Rows run from posterior to anterior and columns from the patient's left to right.
    return picture[:, picture.shape[1] // 2].flip(1, 2)


def _window(length: int, centre: float, size: int) -> slice:
    """`size` indices around a centre, moved to lie inside an axis, or all if it is shorter."""
    start = min(max(0, round(centre - size / 2)), max(0, length - size))
    return slice(start, min(length, start + size))
