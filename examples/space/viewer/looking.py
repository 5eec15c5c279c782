"""What a visitor's clicks and controls do to the picture, apart from how the page is built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from PIL import Image

from .analysis import Analysis
from .neighbours import Neighbour, PatchIndex, Scale, nearest_within
from .planes import AXES, FIRST_SLICE, Plane
from .rendering import draw_plane, lay_features, lay_segments, mark_patch, plane_of
from .sessions import Session, View
from .windows import first_window, level_and_width

LAYERS = ("grey levels", "features", "segments")
"""What may lie over the grey levels, the first being nothing."""

_NEIGHBOURS = 6
# The other dimension, and what its samples are called.
_OTHERS = {
    2: (3, "In 3D: the sample CT"),
    3: (2, "In 2D: the sample radiographs"),
}


def first_view(analysis: Analysis) -> View:
    """The view to begin with: the middle slice, without a layer."""
    image = analysis.image
    window = first_window(image.values, image.is_hounsfield)
    level, width = level_and_width(window, image.values)
    return View(0, image.shape[0] // 2, window, level, width, LAYERS[0], 0.5)


def turned_to(view: View, axis: int, analysis: Analysis) -> View:
    """The view of the middle slice along another axis."""
    return replace(view, axis=axis, index=analysis.image.shape[axis] // 2)


def layers_of(analysis: Analysis) -> list[str]:
    """The layers that there are."""
    there = (True, analysis.features is not None, analysis.segmentation is not None)
    return [layer for layer, is_there in zip(LAYERS, there, strict=True) if is_there]


def shown_plane(session: Session) -> Plane:
    """The plane that the visitor looks at."""
    return plane_of(session.analysis.image, session.view.axis, session.view.index)


def draw_view(session: Session) -> Image.Image:
    """Draw what the visitor looks at.

    Raises:
        ValueError: If the window's width is not positive.
    """
    analysis, view, plane = session.analysis, session.view, shown_plane(session)
    picture = draw_plane(analysis.image, plane, view.level, view.width)
    if view.layer == "features" and analysis.features is not None:
        picture = lay_features(picture, plane, analysis.features, analysis.colours, view.opacity)
    if view.layer == "segments" and analysis.segmentation is not None:
        picture = lay_segments(picture, plane, analysis.segmentation, view.opacity)
    if session.marked is not None and analysis.features is not None:
        edges = analysis.features.edges(session.marked, analysis.image.shape)
        picture = mark_patch(picture, plane, edges)
    return picture


def describe_view(session: Session) -> str:
    """Say what the picture shows."""
    image, view = session.analysis.image, session.view
    if not image.is_volume:
        return f"{image.name}, {view.layer}"
    count = image.shape[view.axis]
    return f"{image.name}, {AXES[view.axis]} slice {view.index + 1} of {count}, {view.layer}"


def slice_label(session: Session) -> str:
    """What the slice's number means."""
    axis = session.view.axis
    return f"Slice (1 is the {FIRST_SLICE[axis]})"


def mark_voxel(session: Session, voxel: Sequence[int]) -> None:
    """Mark the patch that a voxel (depth, height, width) lies in.

    Raises:
        ValueError: If there are no features, or the image has no such voxel.
    """
    analysis = session.analysis
    if analysis.features is None:
        raise ValueError("There are no features of this image yet.")
    shape = analysis.image.shape
    if not all(0 <= at < length for at, length in zip(voxel, shape, strict=True)):
        raise ValueError(f"The image has no voxel {tuple(voxel)}; its lengths are {shape}.")
    session.marked = analysis.features.patch_of(voxel, shape)


def find_neighbours(
    session: Session, indices: Mapping[int, PatchIndex]
) -> dict[str, Sequence[Neighbour] | str]:
    """Find the neighbours of the marked patch, in its image and in the other dimension.

    Args:
        session: With a marked patch.
        indices: Of the samples, by their dimension.

    Returns:
        By title, what was found, or a sentence on why there is nothing.
    """
    analysis = session.analysis
    image, features, patch = analysis.image, analysis.features, session.marked
    own = indices.get(analysis.dimension)
    vectors = features.vectors.reshape(-1, features.vectors.shape[-1])
    scale = Scale.of(vectors) if own is None else own.scale
    groups: dict[str, Sequence[Neighbour] | str] = {
        "In this image": nearest_within(image, features, patch, scale, _NEIGHBOURS)
    }
    direction = scale.directions(features.vectors[patch][None])[0]
    other, title = _OTHERS[analysis.dimension]
    index = indices.get(other)
    groups[title] = (
        "There are no samples of this dimension."
        if index is None
        else index.nearest(direction, _NEIGHBOURS)
    )
    return groups
