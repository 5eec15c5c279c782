import base64
import io

import numpy as np
import pytest
from PIL import Image

from viewer.images import ViewedImage
from viewer.neighbours import Neighbour
from viewer.patch_features import PatchFeatures
from viewer.rendering import (
    data_address,
    draw_neighbour,
    draw_plane,
    lay_features,
    lay_segments,
    mark_patch,
    plane_of,
)
from viewer.segmentations import Segment, Segmentation


@pytest.fixture
def image():
    """Left half black, right half white, as seen through a window of level 0."""
    values = np.full((4, 32, 32), -100, np.int16)
    values[..., :16] = 100
    return ViewedImage("a", values, (4.0, 1.0, 1.0), True, True)


@pytest.fixture
def plane(image):
    return plane_of(image, 0, 1)


def test_a_plane_is_drawn_through_the_window(image, plane):
    picture = np.asarray(draw_plane(image, plane, 0, 10))
    assert picture.shape == (512, 512, 3)
    # The patient's left, the first half of the width, is at the picture's right.
    assert picture[:, :240].max() == 0 and picture[:, 272:].min() == 255


def test_segments_are_laid_over_with_their_colour_and_opacity(image, plane):
    masks = np.zeros(image.shape, np.uint8)
    masks[1, :16] = 2
    segments = [Segment("a", "#FF0000", 0, 0.0), Segment("b", "#0000FF", 1, 0.1)]
    black = Image.new("RGB", (512, 512))
    drawn = lay_segments(black, plane, Segmentation(segments, masks, None), 0.5)
    # Posterior rows are at the bottom.
    assert drawn.getpixel((100, 400)) == pytest.approx((0, 0, 128), abs=1)
    assert drawn.getpixel((100, 100)) == (0, 0, 0)
    other = plane_of(image, 0, 2)
    assert lay_segments(black, other, Segmentation(segments, masks, None), 0.5) == black
    overlapping = Segmentation(segments, np.stack([masks == 2, masks == 2]), None)
    assert lay_segments(black, plane, overlapping, 1.0).getpixel((100, 400)) == (0, 0, 255)


def test_features_are_laid_over_where_their_patches_lie(image, plane):
    features = PatchFeatures(np.zeros((1, 4, 4, 2), np.float16), (1.0, 4.0, 4.0))
    colours = np.zeros((1, 4, 4, 3), np.float32)
    colours[0, 3, 0, 1] = 1  # anterior, left
    drawn = lay_features(Image.new("RGB", (512, 512)), plane, features, colours, 1.0)
    pixels = np.asarray(drawn)
    assert pixels[10, 500, 1] == 255 and pixels[..., 0].max() == 0
    assert pixels[300:, :].max() == 0 and pixels[:, :256].max() == 0


def test_features_are_interpolated_between_slices(image):
    features = PatchFeatures(np.zeros((2, 1, 1, 2), np.float16), (2.0, 1.0, 1.0))
    colours = np.array([0.0, 1.0], np.float32).reshape(2, 1, 1, 1).repeat(3, axis=3)
    black = Image.new("RGB", (512, 512))
    found = [
        lay_features(black, plane_of(image, 0, index), features, colours, 1.0).getpixel((9, 9))[0]
        for index in range(4)
    ]
    assert found == pytest.approx([0, 64, 191, 255], abs=1)


def test_the_marked_patch_is_framed_in_the_planes_that_cut_it(image, plane):
    black = Image.new("RGB", (512, 512))
    edges = np.array([[1, 2], [8, 16], [8, 16]])
    frame = np.asarray(mark_patch(black, plane, edges)).max(axis=2)
    rows, columns = np.nonzero(frame)
    # The outer black line does not show on black.
    assert (rows.min(), rows.max()) == (254, 386)
    assert (columns.min(), columns.max()) == (254, 386)
    assert frame[300, 300] == 0
    assert mark_patch(black, plane_of(image, 0, 2), edges) == black


def test_a_neighbour_is_drawn_with_what_lies_around_it(image):
    drawn = draw_neighbour(Neighbour(image, np.array([[0, 4], [12, 20], [12, 20]]), 0.5))
    assert drawn.size == (144, 144)
    assert len(set(drawn.get_flattened_data())) > 2


def test_a_picture_as_an_address_is_the_picture():
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (5, 6, 3), np.uint8))
    kind, _, content = data_address(picture).partition(",")
    assert kind == "data:image/png;base64"
    found = Image.open(io.BytesIO(base64.b64decode(content)))
    np.testing.assert_array_equal(np.asarray(found), np.asarray(picture))
