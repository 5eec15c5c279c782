"""Shadows of organs: where a radiograph's rays have passed through them, and how far."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import nibabel
import numpy as np
import torch

from ..image_reading_mit import read_volume
from .radiographs import RadiographGeometry, line_integrals

_AIR = -1000  # HU, where the renderer's attenuation is 0
_ROUNDING = 0.01  # HU, of resampled air


class OrganShadows:
    """Organs of a CT, ready to be projected as its radiographs are.

    Args:
        organ_map: what nibabel opens, on the CT's grid: 0 for none, 1 for the first organ, and so
            on.
        organs: the organs' names, in the order of their numbers.
        spacing: of the voxels that are projected, in mm, (depth, height, width); that of the CT
            as it is rendered.

    Raises:
        ValueError: if the map does not hold one of the organs.
    """

    def __init__(self, organ_map: Any, organs: Sequence[str], spacing: Sequence[float]) -> None:
        self.spacing = tuple(spacing)
        labels = np.asanyarray(organ_map.dataobj)
        self._organs: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for number, organ in enumerate(organs, start=1):
            if not (labels == number).any():
                raise ValueError(f"The organ map holds no voxel of {organ} (label {number}).")
            # In HU, as the renderer takes them: what is wholly inside attenuates as water does.
            inside = np.where(labels == number, 0, _AIR).astype(np.int16)
            volume = read_volume(nibabel.Nifti1Image(inside, organ_map.affine), self.spacing)
            self._organs[organ] = _cut_out(volume, self.spacing)

    def lengths(self, organ: str, geometry: RadiographGeometry) -> torch.Tensor:
        """How far the ray to each pixel passes through an organ.

        Args:
            organ: its name.
            geometry: of the radiograph; its isocentre is in mm from the whole volume's centre.

        Returns:
            `(height, width)`, float32, in mm.

        Raises:
            ValueError: as `line_integrals` does.
        """
        volume, centre = self._organs[organ]
        isocentre = tuple(np.subtract(geometry.isocentre, centre).tolist())
        moved = replace(geometry, isocentre=isocentre)
        return line_integrals(volume, self.spacing, moved, water_attenuation=1.0)

    def mask(self, organ: str, geometry: RadiographGeometry, shortest: float) -> np.ndarray:
        """Where an organ's shadow falls.

        Args:
            organ: its name.
            geometry: of the radiograph.
            shortest: a pixel is in the shadow if its ray passes through more of the organ, in mm.

        Returns:
            `(height, width)`, bool.

        Raises:
            ValueError: as `line_integrals` does.
        """
        return (self.lengths(organ, geometry) > shortest).numpy()


def _cut_out(volume: np.ndarray, spacing: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """The box that holds an organ, as rendering takes time for the air around it, and its centre.

    The centre is in mm from the whole volume's centre, along the volume's axes.
    """
    inside = volume > _AIR + _ROUNDING
    box, centre = [], []
    for axis, length in enumerate(volume.shape):
        others = tuple(other for other in range(3) if other != axis)
        places = np.flatnonzero(inside.any(axis=others))
        # Around it, a voxel of air: values fade to it linearly, as they do in the whole volume.
        start, stop = max(places[0] - 1, 0), min(places[-1] + 2, length)
        box.append(slice(start, stop))
        centre.append(((start + stop) / 2 - length / 2) * spacing[axis])
    return np.ascontiguousarray(volume[tuple(box)]), np.array(centre)
