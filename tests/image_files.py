"""Small images and files that tests read."""

import struct
from pathlib import Path

import nibabel
import numpy as np

RANDOM = np.random.default_rng(0)


def nifti(voxels, affine=(1.5, 1.5, 2.5)) -> nibabel.Nifti1Image:
    affine = np.diag([*affine, 1.0]) if np.ndim(affine) == 1 else affine
    return nibabel.Nifti1Image(voxels, affine)


def saved(image: nibabel.Nifti1Image, path: Path) -> Path:
    nibabel.save(image, path)
    return path


def grid(x=6, y=5, z=4, dtype=np.int16) -> np.ndarray:
    return RANDOM.integers(-1000, 1000, (x, y, z)).astype(dtype)


def tiff(pixels: np.ndarray, photometric: int) -> bytes:
    """A little-endian TIFF of one strip, as Pillow writes none with white as zero."""
    height, width = pixels.shape
    data = pixels.tobytes()
    entries = [(256, width), (257, height), (258, pixels.itemsize * 8), (259, 1)]
    entries += [(262, photometric), (273, 8), (277, 1), (278, height), (279, len(data))]
    tags = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    directory = struct.pack("<H", len(entries)) + tags + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory
