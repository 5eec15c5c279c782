"""Variations of samples: images and label maps move together, each sample by its seed alone."""

import numpy as np
import pytest
import torch

from unimiss_hf.finetuning.augmentation import Augmentation, AugmentationSettings

SIZES = {2: (33, 41), 3: (9, 33, 41)}
SPATIAL = {"intensity_probability": 0.0, "spatial_probability": 1.0}
STILL = {"intensity_probability": 0.0, "spatial_probability": 0.0}
DIMENSIONS = pytest.mark.parametrize("axes", [2, 3])


def augment(axes, images, maps, seeds, **settings):
    return Augmentation(AugmentationSettings(**settings), axes)(images, maps, seeds)


def blob(axes, count=1):
    """Images that are 1 within a box away from the centre, and the box as their map."""
    maps = torch.zeros(count, 1, *SIZES[axes])
    maps[..., 4:14, 22:36] = 1
    if axes == 3:
        maps[:, :, :2] = 0
    return maps.clone(), maps


@DIMENSIONS
@pytest.mark.parametrize("seed", range(8))
def test_a_label_stays_on_its_object(axes, seed):
    images, maps = blob(axes)
    flips = tuple(range(axes))
    moved, labels = augment(axes, images, maps, [seed], flip_axes=flips, tilt=5.0, **SPATIAL)
    assert not torch.equal(moved, images)
    assert set(labels.unique().tolist()) == {0, 1}
    # Linear and nearest interpolation agree about what is more than half inside, but at corners.
    differing = ((moved > 0.5) != (labels > 0.5)).sum() / labels.sum()
    assert differing < 0.05


@DIMENSIONS
def test_marked_voxels_move_with_their_labels(axes):
    """Two objects of different brightness, each with its label, stay told apart."""
    images, maps = torch.zeros(1, 1, *SIZES[axes]), torch.zeros(1, 1, *SIZES[axes])
    for value, (rows, columns) in enumerate([((6, 13), (8, 15)), ((18, 25), (25, 34))], start=1):
        for tensor in (images, maps):
            tensor[..., rows[0] : rows[1], columns[0] : columns[1]] = value
    for seed in range(5):
        moved, labels = augment(axes, images, maps, [seed], **SPATIAL)
        for value in (1, 2):
            inside = moved[labels == value]
            assert inside.median() == pytest.approx(value, abs=1e-5)


@DIMENSIONS
def test_masks_of_several_channels_move_alike(axes):
    images, maps = blob(axes)
    several = torch.cat([maps, 1 - maps, maps], dim=1)
    _, alone = augment(axes, images, maps, [5], **SPATIAL)
    _, found = augment(axes, images, several, [5], **SPATIAL)
    torch.testing.assert_close(found, torch.cat([alone, 1 - alone, alone], dim=1))


@DIMENSIONS
def test_switched_off_nothing_changes(axes):
    images, maps = torch.rand(3, 1, *SIZES[axes]), torch.rand(3, 2, *SIZES[axes]).round()
    moved, labels = augment(axes, images, maps, [1, 2, 3], **STILL)
    assert torch.equal(moved, images) and torch.equal(labels, maps)


@DIMENSIONS
def test_the_given_tensors_stay_as_they_are(axes):
    images, maps = blob(axes, 2)
    before = images.clone(), maps.clone()
    augment(axes, images, maps, [1, 2], spatial_probability=1.0, intensity_probability=1.0)
    assert torch.equal(images, before[0]) and torch.equal(maps, before[1])


@DIMENSIONS
def test_a_sample_does_not_depend_on_its_batch(axes):
    images, maps = torch.rand(4, 1, *SIZES[axes]), torch.rand(4, 1, *SIZES[axes]).round()
    settings = {"spatial_probability": 0.7, "intensity_probability": 0.7, "flip_axes": (0,)}
    seeds = [11, 12, 13, 14]
    moved, labels = augment(axes, images, maps, seeds, **settings)
    for index, seed in enumerate(seeds):
        alone = slice(index, index + 1)
        one, its_labels = augment(axes, images[alone], maps[alone], [seed], **settings)
        torch.testing.assert_close(one, moved[alone], rtol=0, atol=1e-6)
        assert torch.equal(its_labels, labels[alone])
    assert not torch.equal(moved[0] - images[0], moved[1] - images[1])


@DIMENSIONS
def test_flips_are_exact_and_happen_in_half_of_the_samples(axes):
    images = torch.rand(1, 1, *SIZES[axes]).expand(64, 1, *SIZES[axes])
    for axis in range(axes):
        moved, labels = augment(
            axes, images, images.round(), list(range(64)), flip_axes=(axis,), **STILL
        )
        flipped = images[0].flip(axis + 1)
        turned = [torch.allclose(sample, flipped, atol=1e-5) for sample in moved]
        stayed = [torch.equal(sample, images[0]) for sample in moved]
        assert [a != b for a, b in zip(turned, stayed, strict=True)] == [True] * 64
        assert 20 <= sum(turned) <= 44
        first = turned.index(True)
        assert torch.equal(labels[first], flipped.round())


@DIMENSIONS
@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_a_factor_above_1_makes_things_larger(axes, factor):
    images = torch.zeros(1, 1, *([41] * axes))
    images[(..., *[slice(12, 29)] * axes)] = 1
    _, labels = augment(axes, images, images, [3], rotation=0.0, scale=(factor, factor), **SPATIAL)
    found = float(labels.sum() ** (1 / axes))
    assert found == pytest.approx(17 * factor, abs=1.01)


def test_a_turn_of_a_volume_is_within_its_slices():
    volume = torch.zeros(1, 1, 9, 41, 41)
    volume[:, :, 4, 8:33, 18:23] = 1
    _, labels = augment(3, volume, volume, [2], rotation=45.0, scale=(1.0, 1.0), **SPATIAL)
    assert not torch.equal(labels, volume)
    assert labels[:, :, 4].sum() == labels.sum()
    assert float(labels.sum()) == pytest.approx(25 * 5, rel=0.1)


def test_a_turn_keeps_right_angles_where_height_and_width_differ():
    """What is turned in voxels, not in shares of the sample's lengths, stays a square."""
    image = torch.zeros(1, 1, 40, 120)
    image[..., 12:28, 52:68] = 1
    _, labels = augment(2, image, image, [7], rotation=40.0, scale=(1.0, 1.0), **SPATIAL)
    rows, columns = np.nonzero(labels[0, 0].numpy())
    assert float(labels.sum()) == pytest.approx(16 * 16, rel=0.05)
    assert np.ptp(rows) == pytest.approx(np.ptp(columns), abs=1)


def test_intensity_leaves_label_maps_alone():
    images, maps = blob(2, 4)
    settings = {"spatial_probability": 0.0, "intensity_probability": 1.0}
    moved, labels = augment(2, images, maps, [1, 2, 3, 4], **settings)
    assert torch.equal(labels, maps)
    assert all(not torch.equal(sample, image) for sample, image in zip(moved, images, strict=True))


def test_noise_has_at_most_the_deviation_that_is_asked_for():
    images = torch.zeros(16, 1, 64, 64)
    only_noise = {"blur": 0.0, "brightness": 0.0, "contrast": 0.0, "gamma": (1.0, 1.0)}
    moved, _ = augment(
        2,
        images,
        None,
        list(range(16)),
        noise=0.1,
        spatial_probability=0.0,
        intensity_probability=1.0,
        **only_noise,
    )
    deviations = moved.flatten(1).std(1)
    assert deviations.max() < 0.105 and deviations.max() > 0.07
    assert deviations.min() < 0.05


def test_images_alone_are_varied_too():
    moved, maps = augment(2, torch.rand(2, 1, 33, 41), None, [1, 2])
    assert maps is None and moved.shape == (2, 1, 33, 41)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"spatial_probability": 1.5}, r"spatial_probability is 1\.5; it must lie in \[0, 1\]"),
        ({"scale": (1.2, 0.8)}, r"scale is \(1\.2, 0\.8\); wanted two positive numbers, rising"),
        ({"gamma": (0.0, 1.0)}, r"gamma is \(0\.0, 1\.0\)"),
        ({"noise": -0.1}, r"noise is -0\.1; it must be 0 or more"),
        ({"rotation": float("inf")}, "rotation is inf"),
    ],
)
def test_settings_that_cannot_be(settings, told):
    with pytest.raises(ValueError, match=told):
        AugmentationSettings(**settings)


def test_a_misspelt_setting():
    with pytest.raises(
        ValueError, match=r"no setting 'rotations'; it has rotation, .*Did you mean"
    ):
        AugmentationSettings.of({"rotations": 10})


def test_settings_from_a_recipe():
    found = AugmentationSettings.of({"rotation": 10, "scale": [0.9, 1.1], "flip_axes": [1]})
    assert (found.rotation, found.scale, found.flip_axes) == (10, (0.9, 1.1), (1,))
    assert AugmentationSettings.of(None) == AugmentationSettings()


def test_an_axis_that_is_not_there():
    settings = AugmentationSettings(flip_axes=(2,))
    Augmentation(settings, 3)
    with pytest.raises(ValueError, match=r"flip_axes is \[2\]; a 2D sample has the axes \[0, 1\]"):
        Augmentation(settings, 2)
