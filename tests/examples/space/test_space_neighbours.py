import numpy as np
import pytest

from viewer.images import ViewedImage
from viewer.neighbours import PatchIndex, Scale, nearest_within
from viewer.patch_features import PatchFeatures


@pytest.fixture
def volume():
    """A volume in which the patches (0, 1, 1) and (2, 6, 6) alone are alike."""
    random = np.random.default_rng(0)
    vectors = random.normal(size=(3, 8, 8, 16)).astype(np.float16)
    vectors[2, 6, 6] = vectors[0, 1, 1]
    values = np.zeros((12, 64, 64), np.int16)
    return (
        ViewedImage("a", values, (3.0, 1.0, 1.0), True, True),
        PatchFeatures(vectors, (3.0, 8.0, 8.0)),
    )


def test_the_nearest_patch_within_an_image_is_its_likeness_elsewhere(volume):
    image, features = volume
    scale = Scale.of(features.vectors.reshape(-1, 16))
    first, *others = nearest_within(image, features, (0, 1, 1), scale, 5)
    assert first.similarity == pytest.approx(1, abs=1e-5)
    np.testing.assert_array_equal(first.edges, [[8, 12], [48, 56], [48, 56]])
    similarities = [neighbour.similarity for neighbour in others]
    assert similarities == sorted(similarities, reverse=True)
    assert len(others) == 4 and similarities[0] < 0.9


def test_neighbours_touch_neither_the_patch_nor_one_another(volume):
    image, features = volume
    scale = Scale.of(features.vectors.reshape(-1, 16))
    found = nearest_within(image, features, (0, 1, 1), scale, 6)
    places = [each.edges[:, 0] / (4, 8, 8) for each in found] + [np.array([0, 1, 1])]
    for number, one in enumerate(places):
        for other in places[:number]:
            assert np.abs(one - other).max() > 1


def test_an_index_finds_its_own_patches_and_is_bounded(volume):
    image, features = volume
    index = PatchIndex.of([image, image], [features, features], most=100)
    assert index.directions.shape == (100, 16)
    best, *_ = index.nearest(index.directions[7], 3)
    assert best.similarity == pytest.approx(1, abs=1e-5)
    np.testing.assert_array_equal(best.edges, features.edges(index.places[7], image.shape))


def test_an_index_leaves_out_air_unless_there_is_nothing_else(volume):
    image, features = volume
    values = np.full(image.shape, -1000, np.int16)
    air = ViewedImage("air", values.copy(), image.spacing, True, True)
    assert len(PatchIndex.of([air], [features], most=1000).places) == 3 * 8 * 8
    values[:4, :8, :8] = 0
    body = ViewedImage("body", values, image.spacing, True, True)
    index = PatchIndex.of([body], [features], most=1000)
    assert index.places.tolist() == [[0, 0, 0]]


def test_fewer_patches_than_asked_for_are_all_that_is_found():
    image = ViewedImage("a", np.zeros((1, 16, 16), np.float32), None, False, False)
    features = PatchFeatures(np.random.default_rng(0).normal(size=(1, 2, 2, 4)), (1.0, 2.0, 2.0))
    scale = Scale.of(features.vectors.reshape(-1, 4))
    assert nearest_within(image, features, (0, 0, 0), scale, 6) == []
