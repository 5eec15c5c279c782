"""Windows of a volume about a place in it, such as a nodule."""

from __future__ import annotations

from collections.abc import Sequence

import nibabel
import numpy as np

from ...hounsfield_mit import AIR_HU


def cut_window(
    voxels: np.ndarray, affine: np.ndarray, middle: Sequence[float], extent: Sequence[float]
) -> nibabel.Nifti1Image:
    """Cut a window out of a CT, on the CT's own voxels; what lies outside of the CT is air.

    Args:
        voxels: `(x, y, z)`, HU.
        affine: takes their indices to mm, RAS+.
        middle: the voxel in the middle, which fractions are rounded of.
        extent: of the window, along the voxels' axes, in mm; it is that or up to two voxels more.

    Returns:
        The window as float32 in HU, of odd lengths, where it lies in the patient.
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    reach = np.ceil(np.asarray(extent) / spacing / 2 - 0.5).astype(int)
    first = np.round(middle).astype(int) - reach
    last = first + 2 * reach + 1
    window = np.full(2 * reach + 1, AIR_HU, dtype=np.float32)
    inside = [
        slice(min(max(start, 0), length), min(max(stop, 0), length))
        for start, stop, length in zip(first, last, voxels.shape, strict=True)
    ]
    place = [
        slice(part.start - start, part.stop - start)
        for part, start in zip(inside, first, strict=True)
    ]
    if all(part.start < part.stop for part in inside):
        window[tuple(place)] = voxels[tuple(inside)]
    moved = affine.copy()
    moved[:3, 3] += affine[:3, :3] @ first
    return nibabel.Nifti1Image(window, moved)
