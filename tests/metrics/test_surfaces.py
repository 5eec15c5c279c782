import itertools
import math
import warnings

import numpy as np
import pytest
import torch
from monai.metrics import (
    compute_average_surface_distance,
    compute_hausdorff_distance,
    compute_surface_dice,
)
from scipy.ndimage import distance_transform_edt, gaussian_filter
from scipy.spatial.distance import cdist

from unimiss_hf.metrics.scattered_masks import ScatteredMask
from unimiss_hf.metrics.surfaces import edge_distances, surface_dice

SHAPES = [((12, 17, 15), (3.0, 0.7, 1.1)), ((9, 14, 14), (1.0, 1.0, 1.0)), ((23, 19), (0.5, 2.0))]


def blobs(shape, seed):
    """Two masks alike, with parts that touch the border."""
    random = np.random.default_rng(seed)
    smooth = gaussian_filter(random.random(shape), 2)
    other = smooth + 0.3 * gaussian_filter(random.random(shape), 2)
    return smooth > np.median(smooth), other > np.median(other)


def edge(mask):
    """Voxels with a neighbour across a face that is not in the mask or beyond the volume."""
    padded = np.pad(mask, 1)
    inner = np.ones_like(padded)
    for axis, step in itertools.product(range(mask.ndim), (-1, 1)):
        inner &= np.roll(padded, step, axis)
    return mask & ~inner[(slice(1, -1),) * mask.ndim]


def distances_by_transform(prediction, reference, spacing):
    edges = edge(prediction), edge(reference)
    return [
        distance_transform_edt(~there, sampling=spacing)[here]
        for here, there in (edges, edges[::-1])
    ]


@pytest.mark.parametrize(("shape", "spacing"), SHAPES)
@pytest.mark.parametrize("seed", [0, 1])
def test_distances_are_those_of_a_distance_transform(shape, spacing, seed):
    masks = blobs(shape, seed)
    hausdorff95, average = edge_distances(*masks, spacing)
    one_way = distances_by_transform(*masks, spacing)
    assert 0 < average < hausdorff95
    assert hausdorff95 == pytest.approx(max(np.percentile(d, 95) for d in one_way), rel=1e-6)
    assert average == pytest.approx(np.concatenate(one_way).mean(), rel=1e-6)


@pytest.mark.parametrize(("shape", "spacing"), SHAPES)
# What MONAI itself passes on to itself.
@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")
def test_all_are_what_monai_computes(shape, spacing):
    masks = blobs(shape, 2)
    hot = [torch.from_numpy(mask)[None, None] for mask in masks]
    settings = {"include_background": True, "spacing": spacing}
    wanted = compute_hausdorff_distance(*hot, percentile=95, **settings)
    hausdorff95, average = edge_distances(*masks, spacing)
    assert hausdorff95 == pytest.approx(wanted.item(), rel=1e-5)
    wanted = compute_average_surface_distance(*hot, symmetric=True, **settings)
    assert average == pytest.approx(wanted.item(), rel=1e-5)
    for tolerance in (0.0, 1.0, 2.0):
        wanted = compute_surface_dice(*hot, [tolerance], use_subvoxels=True, **settings)
        found = surface_dice(*masks, spacing, tolerance)
        assert found == pytest.approx(wanted.item(), rel=1e-5)


def test_distances_of_two_slabs_by_hand():
    # One voxel thick, two slices of 3 mm apart: every edge voxel is 6 mm away, whatever is beside.
    prediction, reference = np.zeros((2, 6, 8, 8), bool)
    prediction[1], reference[3] = True, True
    assert edge_distances(prediction, reference, (3.0, 1.0, 1.0)) == (6.0, 6.0)
    assert edge_distances(prediction, reference, (1.0, 1.0, 1.0)) == (2.0, 2.0)


def test_hausdorff95_is_the_greater_of_two_directions():
    # The prediction lies in the reference's line of 41 voxels, of which most are far from it.
    prediction, reference = np.zeros((2, 3, 41), bool)
    reference[1], prediction[1, :1] = True, True
    hausdorff95, average = edge_distances(prediction, reference, (1.0, 0.5))
    assert hausdorff95 == pytest.approx(0.95 * 40 * 0.5)
    assert average == pytest.approx(sum(range(41)) * 0.5 / 42)


def elements_of_a_box(low, high, spacing):
    """Where the surface of a box passes, and its area there: faces, edges cut off, corners cut off.

    A face's element is a voxel's face; along an edge the surface runs aslant through the middles of
    two faces, and at a corner through the middles of three edges.
    """
    points, areas = [], []
    for place in itertools.product(*(range(a, b + 1) for a, b in zip(low, high, strict=True))):
        at_end = [p in (a, b) for p, a, b in zip(place, low, high, strict=True)]
        along = [s for s, end in zip(spacing, at_end, strict=True) if not end]
        halves = [s / 2 for s, end in zip(spacing, at_end, strict=True) if end]
        if not any(at_end):
            continue
        if len(halves) == 3:
            a, b, c = halves
            area = math.sqrt((a * b) ** 2 + (b * c) ** 2 + (a * c) ** 2) / 2
        else:
            area = math.prod(along) * (math.hypot(*halves) if len(halves) == 2 else 1)
        points.append(np.multiply(place, spacing))
        areas.append(area)
    return np.array(points), np.array(areas)


@pytest.mark.parametrize(
    ("spacing", "boxes"),
    [
        ((3.0, 0.8, 1.5), [((1, 2, 2), (5, 8, 9)), ((2, 2, 3), (5, 9, 11))]),
        ((2.0, 1.0, 1.0), [((0, 0, 0), (4, 6, 7)), ((0, 1, 0), (3, 5, 7))]),
        ((0.7, 1.3), [((1, 1), (9, 6)), ((2, 3), (11, 6))]),
    ],
)
@pytest.mark.parametrize("tolerance", [0.0, 0.75, 1.0, 2.0, 4.0])
def test_surface_dice_is_a_share_of_area(spacing, boxes, tolerance):
    masks = np.zeros((2, *(12,) * len(spacing)), bool)
    for mask, (low, high) in zip(masks, boxes, strict=True):
        mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
    (points, areas), (other_points, other_areas) = (
        elements_of_a_box(low, high, spacing) for low, high in boxes
    )
    apart = cdist(points, other_points)
    near = areas[apart.min(1) <= tolerance + 1e-9].sum()
    near += other_areas[apart.min(0) <= tolerance + 1e-9].sum()
    wanted = near / (areas.sum() + other_areas.sum())
    assert surface_dice(*masks, spacing, tolerance) == pytest.approx(wanted)


@pytest.mark.parametrize(("shape", "spacing"), SHAPES)
def test_equal_masks_are_no_distance_apart(shape, spacing):
    mask, _ = blobs(shape, 0)
    assert edge_distances(mask, mask, spacing) == (0, 0)
    assert surface_dice(mask, mask, spacing, 0.0) == 1


@pytest.mark.parametrize(("shape", "spacing"), SHAPES)
def test_what_is_around_the_masks_makes_no_difference(shape, spacing):
    masks = blobs(shape, 1)
    wide = [np.pad(mask, 5) for mask in masks]
    assert edge_distances(*masks, spacing) == edge_distances(*wide, spacing)
    assert surface_dice(*masks, spacing, 1.0) == surface_dice(*wide, spacing, 1.0)


def test_a_distance_equal_to_the_tolerance_is_within_it():
    # 3 x 0.9 is not 2.7 in binary.
    prediction, reference = np.zeros((2, 12, 12), bool)
    prediction[2:5, 2:9], reference[5:8, 2:9] = True, True
    assert surface_dice(prediction, reference, (0.9, 0.9), 2.7) == 1
    assert surface_dice(prediction, reference, (0.9, 0.9), 2.6) < 1


@pytest.mark.parametrize(("shape", "spacing"), SHAPES)
@pytest.mark.parametrize("share", [0.0, 0.01, 0.3])
def test_lists_of_voxels_give_what_masks_give(shape, spacing, share):
    """Blobs that touch the border, with and without stray voxels, some at corners."""
    masks = [
        mask ^ (np.random.default_rng(seed).random(shape) < share)
        for seed, mask in enumerate(blobs(shape, 3))
    ]
    masks[0].reshape(-1)[[0, -1]] = True
    listed = [ScatteredMask.of(mask) for mask in masks]
    assert edge_distances(*listed, spacing) == pytest.approx(edge_distances(*masks, spacing))
    for tolerance in (0.0, 1.0, 2.0):
        wanted = surface_dice(*masks, spacing, tolerance)
        assert surface_dice(*listed, spacing, tolerance) == pytest.approx(wanted, rel=1e-12)


def test_a_single_voxel_has_a_surface():
    masks = np.zeros((2, 1, 1, 9), bool)
    masks[0, ..., 0], masks[1, ..., 8] = True, True
    listed = [ScatteredMask.of(mask) for mask in masks]
    assert edge_distances(*listed, (1.0, 1.0, 0.5)) == (4, 4)
    # Its surface is half a voxel around it: one half lies 7 voxels from the other one's, one 8.
    shares = [surface_dice(*listed, (1.0, 1.0, 0.5), far) for far in (3.4, 3.5, 4.0)]
    assert shares == [0, 0.5, 1]


def test_nothing_is_warned_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        edge_distances(*blobs((8, 9, 9), 0), (1.0, 1.0, 1.0))
        surface_dice(*blobs((8, 9, 9), 0), (1.0, 1.0, 1.0), 1.0)
