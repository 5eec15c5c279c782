"""Patches of the sample CT, each labelled with the organ at its centre.

This task needs no label of the user's, so a pretraining run can be measured by it on the way.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import nibabel
import numpy as np
import torch

from ..data.organ_map import ORGANS, read_organ_map, read_structures
from ..data.reading import Dimension
from ..data.sample import find_sample_ct
from ..hounsfield_mit import AIR_HU, HU_SCALE, MAX_HU
from ..image_reading_mit import load_volume
from ..input_checks_mit import require_spacing
from ..volume_grids_mit import nearest, resample

PATCH_CLASSES = (*ORGANS, "other tissue", "air")
"""What may be at a patch's centre; other tissue is any other structure that is labelled."""

# Heights of the test patches' centres, in mm from the CT's lower end: the lower half of the heart
# and the dome of the liver, with lungs, aorta and spine.
_TEST_CENTRES = (110.0, 155.0)
# So far from them, liver (below) and heart (above) are still there to learn from.
_LARGEST_DISTANCE = 54.0
_AIR_BELOW = -900  # HU, of what no structure's label covers
_NO_CLASS = 255
_NATIVE_DEPTH = 2.5  # mm between the CT's slices


@dataclass(frozen=True)
class PatchSet:
    """Patches of one CT.

    Attributes:
        voxels: the CT in HU, int16 `(depth, height, width)`, with half a patch of air around it.
        corners: the first voxel of each patch, `(patches, 3)`.
        labels: the class at each patch's centre, `(patches,)`; see [`PATCH_CLASSES`].
        size: `(depth, height, width)` of a patch in voxels.
    """

    voxels: np.ndarray
    corners: np.ndarray
    labels: np.ndarray
    size: tuple[int, int, int]

    def __len__(self) -> int:
        return len(self.corners)

    def batches(self, dimension: Dimension, batch_size: int) -> Iterator[torch.Tensor]:
        """Cut the patches, in their order, as pretraining shows volumes and slices to a network.

        Args:
            dimension: "3d" for whole patches; "2d" for the slice through their centre.
            batch_size: patches of a batch; the last may be smaller.

        Yields:
            `(batch, 1, [depth,] height, width)`, float32, HU / 1024.
        """
        for start in range(0, len(self), batch_size):
            patches = [
                self.voxels[tuple(map(slice, corner, np.add(corner, self.size)))]
                for corner in self.corners[start : start + batch_size]
            ]
            batch = np.stack(patches)[:, None]
            if dimension == "2d":
                batch = batch[:, :, self.size[0] // 2]
            yield torch.from_numpy(batch / np.float32(HU_SCALE))


@dataclass(frozen=True)
class OrganPatches:
    """Patches to learn from and to test on, as many of each class.

    Attributes:
        train: from below and above the test patches.
        test: their centres lie within 45 mm of the body's height.
        overlap: how far a training patch may reach into what a test patch shows, in mm along the
            body; 0 if they share nothing.
    """

    train: PatchSet
    test: PatchSet
    overlap: float


def draw_patches(
    size: Sequence[int] = (16, 96, 96),
    spacing: Sequence[float] = (3.0, 1.0, 1.0),
    per_class: int = 32,
    seed: int = 0,
) -> OrganPatches:
    """Draw patches of the sample CT, the same ones for the same arguments.

    Training and test patches come from different heights of the body: up to a depth of 16 slices
    of 3 mm, none shows what one of the other part does, nor do the voxels that it was resampled
    from. Deeper patches overlap as little as the organs' places allow. All are of one patient, so
    scores tell networks apart, and tell nothing of other patients.

    Args:
        size: `(depth, height, width)` of a patch in voxels.
        spacing: distance of voxel centres in mm, (depth, height, width).
        per_class: training patches of each class; half as many are tested.
        seed: of the choice.

    Returns:
        The patches.

    Raises:
        FileNotFoundError: if the package with the CT is not installed.
        ValueError: if a size or number is not positive, or a class has fewer voxels.
    """
    size, spacing = tuple(map(int, size)), tuple(require_spacing("spacing", spacing))
    if len(size) != 3 or min(size) < 1:
        raise ValueError(f"size is {size}; it must be depth, height, width, 1 or more of each.")
    if per_class < 2:
        raise ValueError(f"There are {per_class} patches of each class; at least 2 are needed.")
    voxels, classes = _read(find_sample_ct(), spacing)
    heights = (np.arange(len(voxels)) + 0.5) * spacing[0]
    low, high = _TEST_CENTRES
    wanted = size[0] * spacing[0] + 2 * max(spacing[0], _NATIVE_DEPTH)
    distance = min(wanted, _LARGEST_DISTANCE)
    heights_of = {
        "train": (heights < low - distance) | (heights > high + distance),
        "test": (heights >= low) & (heights <= high),
    }
    margin = [(length // 2, length - length // 2) for length in size]
    padded = np.pad(voxels, margin, constant_values=AIR_HU)
    random = np.random.default_rng(seed)

    def draw(part: Literal["train", "test"], count: int) -> PatchSet:
        slices = np.flatnonzero(heights_of[part])
        corners = []
        for number, name in enumerate(PATCH_CLASSES):
            places = np.argwhere(classes[slices] == number)
            if len(places) < count:
                raise ValueError(
                    f"There are {len(places)} voxels of {name} for {part} patches at a spacing of "
                    f"{spacing} mm, and {count} patches are asked for. Ask for fewer."
                )
            chosen = places[random.choice(len(places), count, replace=False)]
            chosen[:, 0] = slices[chosen[:, 0]]
            # The margin in front is half a patch, so a centre is its patch's corner there.
            corners.append(chosen)
        labels = np.repeat(np.arange(len(PATCH_CLASSES)), count)
        return PatchSet(padded, np.concatenate(corners), labels, size)

    return OrganPatches(
        draw("train", per_class), draw("test", max(1, per_class // 2)), wanted - distance
    )


@functools.lru_cache(maxsize=1)
def _read(path: Path, spacing: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The CT in HU, int16, and the class of each voxel, 255 for none; both are read-only."""
    ct = load_volume(path)
    hounsfield = resample(ct.voxels, ct.spacing, spacing).clip(AIR_HU, MAX_HU)
    voxels = np.rint(hounsfield).astype(np.int16)
    labels = nearest(load_volume(_class_map()).voxels, voxels.shape).astype(np.uint8)
    air = (labels == _NO_CLASS) & (voxels < _AIR_BELOW)
    classes = np.where(air, np.uint8(PATCH_CLASSES.index("air")), labels)
    for array in (voxels, classes):
        array.setflags(write=False)
    return voxels, classes


def _class_map() -> nibabel.Nifti1Image:
    """The classes of all that is labelled, on the CT's grid."""
    structures, _ = read_structures()
    organs = np.asanyarray(read_organ_map().dataobj)
    others = np.where(
        np.asanyarray(structures.dataobj), PATCH_CLASSES.index("other tissue"), _NO_CLASS
    )
    classes = np.where(organs, organs - 1, others).astype(np.int16)
    return nibabel.Nifti1Image(classes, structures.affine)
