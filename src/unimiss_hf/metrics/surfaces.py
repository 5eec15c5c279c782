"""How far apart the surfaces of two masks are.

MONAI defines what is measured. Masks that fill little of their box may be lists of their voxels,
`ScatteredMask`: the figures are the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from monai.metrics import get_mask_edges, get_surface_distance
from monai.metrics.utils import get_code_to_measure_table

from .scattered_masks import Places, ScatteredMask


def surface_dice(
    prediction: np.ndarray | ScatteredMask,
    reference: np.ndarray | ScatteredMask,
    spacing: Sequence[float],
    tolerance_mm: float,
) -> float:
    """Return the share of both surfaces that is within the tolerance of the other one, 0 to 1.

    The normalised surface distance of Nikolov et al., "Clinically applicable segmentation of head
    and neck anatomy for radiotherapy", JMIR 2021: the surface runs between the voxels, and each of
    its elements counts with its area in mm² (its length in mm in 2D), so that the score depends
    little on how the volume was sampled. It is what MONAI computes with `use_subvoxels=True`; its
    default, which counts voxels of the edge, gives other figures.

    Args:
        prediction: `([depth,] height, width)`, bool, not empty; or a list of such a mask's voxels.
        reference: likewise, in the same form. What is around both may be cut away, for nothing
            depends on it.
        spacing: mm, in the order of the axes.
        tolerance_mm: distance that is no error.
    """
    table, kernel = get_code_to_measure_table(tuple(spacing))
    table, weights = table.numpy(), kernel.numpy()[0, 0].astype(np.uint8)
    found = [_surface_elements(mask, weights) for mask in (prediction, reference)]
    elements = [places for places, _ in found]
    areas = [table[codes] for _, codes in found]
    near = [
        area[distance <= tolerance_mm].sum()
        for area, distance in zip(areas, _distances(*elements, spacing), strict=True)
    ]
    return float(sum(near) / sum(area.sum() for area in areas))


def edge_distances(
    prediction: np.ndarray | ScatteredMask,
    reference: np.ndarray | ScatteredMask,
    spacing: Sequence[float],
) -> tuple[float, float]:
    """Return Hausdorff 95 and the average symmetric surface distance, mm.

    The edge of a mask are its voxels with a neighbour across a face that is not in it, or that is
    beyond the volume; their centres are what distances are between, from each edge voxel of a mask
    to the nearest one of the other. Hausdorff 95 is the 95th percentile (linear between two
    values) of each direction's distances, and of the two the greater one; the percentile of both
    directions together would be another figure. The average is over both directions together, each
    edge voxel counted alike. Both are MONAI's definitions.

    Args:
        prediction: see [`surface_dice`].
        reference: likewise.
        spacing: likewise.
    """
    if isinstance(prediction, ScatteredMask):
        edges = prediction.edge(), reference.edge()
    else:
        edges = get_mask_edges(prediction, reference)
    distances = _distances(*edges, spacing)
    hausdorff95 = max(np.percentile(one_way, 95) for one_way in distances)
    return float(hausdorff95), float(np.concatenate(distances).mean(dtype=np.float64))


def _surface_elements(
    mask: np.ndarray | ScatteredMask, weights: np.ndarray
) -> tuple[np.ndarray | Places, np.ndarray]:
    """Where the surface of a mask passes between voxels, and the codes of these cells.

    MONAI gets the codes from a convolution of floats, which takes ten times as long as these sums
    of bytes.
    """
    if isinstance(mask, ScatteredMask):
        return mask.elements(weights)
    padded = np.pad(mask, 1).view(np.uint8)
    codes = np.zeros([length - 1 for length in padded.shape], dtype=np.uint8)
    for corner, weight in np.ndenumerate(weights):
        ends = zip(corner, codes.shape, strict=True)
        codes += weight * padded[tuple(slice(start, start + length) for start, length in ends)]
    passed = (codes != 0) & (codes != weights.sum(dtype=np.uint8))
    return passed, codes[passed]


def _distances(
    predicted: np.ndarray | Places, wanted: np.ndarray | Places, spacing: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """From each place that is set in one mask to the nearest one of the other, both ways."""
    return _one_way(predicted, wanted, spacing), _one_way(wanted, predicted, spacing)


def _one_way(
    start: np.ndarray | Places, end: np.ndarray | Places, spacing: Sequence[float]
) -> np.ndarray:
    if isinstance(start, Places):
        return start.distances_to(end, spacing)
    distances = np.zeros(np.count_nonzero(start), dtype=np.float32)
    # Those in both are 0 apart: only the others are searched for.
    apart = start & ~end
    if apart.any():
        distances[apart[start]] = get_surface_distance(apart, end, spacing=spacing)
    return distances
