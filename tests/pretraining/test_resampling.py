import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch.nn import functional

from unimiss_hf.pretraining.band_matrices import resize_matrix
from unimiss_hf.pretraining.resampling import (
    Box,
    SingleImageResampler,
    blur,
    by_height,
    crop_and_resize,
    multiply_axis,
)

RESAMPLER = SingleImageResampler()


def alone(image, box, size, *arguments, **options):
    """What the resampler of single images makes of an image (depth,) height, width."""
    result = RESAMPLER.crop_and_resize(image, box, size, *arguments, **options)
    assert result.is_contiguous()
    return by_height(result)


@pytest.mark.parametrize(("length", "new_length"), [(100, 96), (40, 96), (96, 33), (7, 1), (1, 5)])
def test_any_axis_is_multiplied(length, new_length):
    matrix = resize_matrix(length, new_length)
    images = torch.randn(2, 1, length, 3)
    expected = matrix.dense() @ images
    product = multiply_axis(images, [matrix, matrix], -2)
    torch.testing.assert_close(product, expected, atol=2e-6, rtol=0)
    turned = multiply_axis(images.mT, [matrix, matrix], -1).mT
    torch.testing.assert_close(turned, expected, atol=2e-6, rtol=0)


def test_crops_of_a_batch_are_resized_like_each_by_itself():
    volumes = torch.randn(3, 1, 9, 36, 30)
    boxes = [
        Box((1, 2, 3), (6, 25, 18), (True, True, False)),
        Box((3, 0, 0), (6, 20, 30), (False, True, True)),
        Box((0, 16, 14), (9, 17, 16), (True, False, True)),
    ]
    together = crop_and_resize(volumes, boxes, (6, 20, 16))
    for volume, box, result in zip(volumes, boxes, together, strict=True):
        crop = volume[(slice(None), *box.slices)]
        flat = functional.interpolate(crop, (20, 16), mode="bilinear", antialias=True)
        swapped = flat[0].flatten(1)[None, None]
        deep = functional.interpolate(swapped, (6, 320), mode="bilinear", antialias=True)
        axes = [axis for axis, flipped in enumerate(box.flipped) if flipped]
        expected = deep.view(6, 20, 16).flip(axes)
        torch.testing.assert_close(result[0], expected, atol=2e-6, rtol=0)
        by_itself = alone(volume[0], box, (6, 20, 16))
        torch.testing.assert_close(by_itself, result[0], atol=2e-6, rtol=0)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_one_image_is_resampled_as_in_a_batch(data):
    axes = data.draw(st.integers(2, 3))
    lengths = data.draw(st.tuples(*[st.integers(1, 40)] * axes))
    sizes = st.sampled_from((1, 2, 5, 16, 32, 33, 48))
    size = tuple(length if data.draw(st.booleans()) else data.draw(sizes) for length in lengths)
    starts = data.draw(st.tuples(*[st.integers(0, 3)] * axes))
    box = Box(starts, lengths, data.draw(st.tuples(*[st.booleans()] * axes)))
    seed = data.draw(st.integers(0, 99))
    shape = [start + length + 2 for start, length in zip(starts, lengths, strict=True)]
    image = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    expected = crop_and_resize(image[None, None], [box], size)
    result = alone(image, box, size)
    torch.testing.assert_close(result, expected[0, 0], atol=5e-6, rtol=0)
    sigma = data.draw(st.sampled_from((0.05, 0.4, 2.0)))
    blurred = by_height(RESAMPLER.blur(by_height(result).contiguous(), sigma))
    torch.testing.assert_close(blurred, blur(expected, [sigma])[0, 0], atol=5e-6, rtol=0)


@pytest.mark.parametrize("length", [20, 27])
def test_whole_numbers_are_scaled_and_a_sum_is_added(length):
    image = torch.randint(-1024, 3071, (4, length, length), dtype=torch.int16)
    box, size = Box((0, 0, 0), (4, length, length), (True, False, True)), (4, 20, 20)
    expected = alone(image / 1024, box, size).clone()
    assert torch.equal(alone(image, box, size, 1 / 1024), expected)
    batched = crop_and_resize(image[None, None], [box], size, 1 / 1024)
    torch.testing.assert_close(batched[0, 0], expected)
    values = torch.randn(2, 20, 4, 20)
    plus = [(values[0].flatten(), 0.5), (values[1].flatten(), -2.0)]
    for count in (1, 2):
        summed = alone(image, box, size, 1 / 1024, plus=plus[:count])
        weighted = 0.5 * values[0] - (2.0 * values[1] if count == 2 else 0)
        torch.testing.assert_close(summed, expected + by_height(weighted))


def test_the_image_stays_as_it_was():
    image = torch.randn(4, 20, 20)
    original = image.clone()
    for lengths in ((4, 20, 20), (3, 17, 18)):
        result = alone(image, Box((0, 0, 0), lengths, (False,) * 3), (4, 20, 20))
        RESAMPLER.blur(by_height(result), 1.0).zero_()
        result.zero_()
        assert torch.equal(image, original)


@pytest.mark.parametrize("sigma", [0.1, 0.7, 2.0, 5.0])
@pytest.mark.parametrize("shape", [(40, 33), (6, 40, 33)])
def test_blur_is_scipys_gaussian_filter(sigma, shape):
    images = torch.randn(2, 1, *shape)
    for image, blurred in zip(images, blur(images, [sigma, sigma]), strict=True):
        expected = ndimage.gaussian_filter(image[0].numpy(), sigma, mode="reflect")
        np.testing.assert_allclose(blurred[0], expected, atol=2e-6)
        by_itself = RESAMPLER.blur(by_height(image[0]).contiguous(), sigma)
        np.testing.assert_allclose(by_height(by_itself), expected, atol=2e-6)
