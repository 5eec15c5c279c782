import dataclasses

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.nn import functional

from unimiss_hf.pretraining import intensity
from unimiss_hf.pretraining.resampling import (
    Box,
    blur,
    crop_and_resize,
    gaussian_matrix,
    multiply_axis,
    resize_matrix,
)
from unimiss_hf.pretraining.view_parameters import draw_image_view, draw_volume_views
from unimiss_hf.pretraining.views import (
    ImageViewSettings,
    VolumeViewSettings,
    _render_images,
    _render_volumes,
    make_image_views,
    make_volume_views,
)

IMAGES = ImageViewSettings(size=(32, 24))
VOLUMES = VolumeViewSettings(size=(6, 20, 16))
STILL_IMAGES = ImageViewSettings(
    size=(40, 40),
    area=(1, 1),
    aspect=(1, 1),
    flip_probability=0,
    jitter_probability=(0, 0),
    blur_probability=(0, 0),
)
STILL_VOLUMES = VolumeViewSettings(
    size=(6, 20, 16),
    region_scale=(1, 1),
    region_depth_scale=(1, 1),
    crop_scale=(1, 1),
    flip_probability=0,
    noise_probability=(0, 0),
    blur_probability=(0, 0),
    multiplier_probability=(0, 0),
    offset_probability=(0, 0),
    contrast_probability=(0, 0),
    gamma_probability=(0, 0),
)


def image_batch(count=4):
    extents = torch.tensor([[40, 40], [40, 33], [25, 40], [13, 1]])[:count]
    return torch.rand(count, 1, 40, 40), extents, torch.arange(count) + 7


def volume_batch(count=4):
    extents = torch.tensor([[9, 36, 30], [6, 20, 16], [9, 20, 30], [7, 30, 21]])[:count]
    return torch.randn(count, 1, 9, 36, 30), extents, torch.arange(count) + 7


CASES = pytest.mark.parametrize(
    ("make", "batch", "settings"),
    [(make_image_views, image_batch, IMAGES), (make_volume_views, volume_batch, VOLUMES)],
    ids=["2d", "3d"],
)


@CASES
def test_views_have_the_size_and_type_asked_for(make, batch, settings):
    views = make(*batch(), settings)
    assert len(views) == 2
    for view in views:
        assert view.shape == (4, 1, *settings.size)
        assert view.dtype == torch.float32
        assert view.is_contiguous() and view.isfinite().all()


def test_default_sizes_are_those_of_the_official_recipe():
    extents = torch.tensor([[24, 172, 172]])
    view, _ = make_volume_views(torch.rand(1, 1, 24, 172, 172), extents, torch.tensor([0]))
    assert view.shape == (1, 1, 16, 96, 96)
    view, _ = make_image_views(
        torch.rand(1, 1, 90, 80), torch.tensor([[90, 80]]), torch.tensor([0])
    )
    assert view.shape == (1, 1, 224, 224)


@CASES
def test_views_are_repeatable_and_do_not_depend_on_the_batch(make, batch, settings):
    images, extents, seeds = batch()
    original = images.clone()
    whole = make(images, extents, seeds, settings)
    torch.manual_seed(99)
    again = make(images, extents, seeds, settings)
    reversed_order = make(images.flip(0), extents.flip(0), seeds.flip(0), settings)
    for view in range(2):
        alone = [
            make(images[i : i + 1], extents[i : i + 1], seeds[i : i + 1], settings)[view]
            for i in range(len(images))
        ]
        assert torch.equal(whole[view], again[view])
        assert torch.equal(whole[view], torch.cat(alone))
        assert torch.equal(whole[view], reversed_order[view].flip(0))
    assert torch.equal(images, original)


@CASES
def test_seeds_and_views_differ(make, batch, settings):
    images, extents, _ = batch(1)
    seeds = torch.tensor([1, 2, 2**62, -1])
    views = make(images.expand(4, *images.shape[1:]), extents.expand(4, -1), seeds, settings)
    flat = torch.cat(views).flatten(1)
    assert (torch.cdist(flat, flat) + torch.eye(8)).min() > 0.1


@CASES
def test_handling_a_batch_at_once_gives_the_same_views(make, batch, settings):
    images, extents, seeds = batch()
    render, draw = (
        (_render_images, lambda e, s: [draw_image_view(e, s, view, settings) for view in (0, 1)])
        if images.ndim == 4
        else (_render_volumes, lambda e, s: draw_volume_views(e, s, settings))
    )
    drawn = [draw(e, s) for e, s in zip(extents.tolist(), seeds.tolist(), strict=True)]
    for view, expected in enumerate(make(images, extents, seeds, settings)):
        plans = [views[view] for views in drawn]
        cropped = crop_and_resize(images, [plan.box for plan in plans], settings.size)
        # Accelerators take this way: all samples are multiplied by stacked matrices.
        torch.testing.assert_close(render(cropped, plans), expected, atol=5e-6, rtol=1e-5)


def test_an_image_that_nothing_is_done_to_comes_back_exactly():
    images = torch.rand(2, 1, 40, 40)
    views = make_image_views(images, torch.full((2, 2), 40), torch.tensor([1, 2]), STILL_IMAGES)
    assert torch.equal(views[0], images) and torch.equal(views[1], images)
    views[0].zero_()
    assert images.any(), "a view must not share the batch's memory"


def test_a_volume_that_nothing_is_done_to_comes_back_exactly():
    volumes = torch.randn(2, 1, 6, 20, 16)
    extents = torch.tensor([[6, 20, 16]] * 2)
    views = make_volume_views(volumes, extents, torch.tensor([1, 2]), STILL_VOLUMES)
    assert torch.equal(views[0], volumes) and torch.equal(views[1], volumes)


def test_certain_flips_are_exact():
    volumes, extents = torch.randn(1, 1, 6, 20, 16), torch.tensor([[6, 20, 16]])
    flipped = dataclasses.replace(STILL_VOLUMES, flip_probability=1)
    view, _ = make_volume_views(volumes, extents, torch.tensor([1]), flipped)
    assert torch.equal(view, volumes.flip(2, 3, 4))
    images = torch.rand(1, 1, 40, 40)
    flipped = dataclasses.replace(STILL_IMAGES, flip_probability=1)
    view, _ = make_image_views(images, torch.tensor([[40, 40]]), torch.tensor([1]), flipped)
    assert torch.equal(view, images.flip(3))


@CASES
@pytest.mark.parametrize("filling", [float("nan"), 1e30])
def test_padding_never_gets_into_a_view(make, batch, settings, filling):
    images, extents, seeds = batch()
    padded = images.clone()
    for image, extent in zip(padded, extents.tolist(), strict=True):
        valid = image[(slice(None), *(slice(end) for end in extent))].clone()
        image.fill_(filling)
        image[(slice(None), *(slice(end) for end in extent))] = valid
    for view, expected in zip(
        make(padded, extents, seeds, settings), make(images, extents, seeds, settings), strict=True
    ):
        assert torch.equal(view, expected)


@pytest.mark.parametrize(("length", "new_length"), [(100, 96), (40, 96), (96, 33), (7, 1), (1, 5)])
def test_resizing_is_torchs_antialiased_interpolation(length, new_length):
    image = torch.randn(1, 1, length, 3)
    # In float32, torch's own positions are off by up to 1e-5 of a pixel.
    expected = functional.interpolate(
        image.double(), (new_length, 3), mode="bilinear", antialias=True, align_corners=False
    ).float()
    matrix = resize_matrix(length, new_length)
    torch.testing.assert_close(matrix.dense() @ image, expected, atol=2e-6, rtol=0)
    torch.testing.assert_close(multiply_axis(image, [matrix], -2), expected, atol=2e-6, rtol=0)
    turned = multiply_axis(image.mT, [matrix], -1).mT
    torch.testing.assert_close(turned, expected, atol=2e-6, rtol=0)
    flipped = resize_matrix(length, new_length, flipped=True)
    assert torch.equal(flipped.dense(), matrix.dense().flip(0))


def test_resizing_to_the_same_length_is_exact():
    assert torch.equal(resize_matrix(96, 96).dense(), torch.eye(96))


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
        alone = crop_and_resize(volume[None], [box], (6, 20, 16))
        torch.testing.assert_close(alone[0], result, atol=2e-6, rtol=0)


@pytest.mark.parametrize("sigma", [0.1, 0.7, 2.0, 5.0])
@pytest.mark.parametrize("shape", [(40, 33), (6, 40, 33)])
def test_blur_is_scipys_gaussian_filter(sigma, shape):
    images = torch.randn(2, 1, *shape)
    for image, blurred in zip(images, blur(images, [sigma, sigma]), strict=True):
        expected = ndimage.gaussian_filter(image[0].numpy(), sigma, mode="reflect")
        np.testing.assert_allclose(blurred[0], expected, atol=2e-6)
        np.testing.assert_allclose(blur(image[None], [sigma])[0, 0], expected, atol=2e-6)


def test_a_blur_of_no_width_changes_nothing():
    assert torch.equal(gaussian_matrix(40, 0.0).dense(), torch.eye(40))


def test_noise_has_the_standard_deviation_asked_for_and_depends_on_its_seed():
    noise = intensity.GaussianNoise(torch.device("cpu"))
    images = torch.zeros(3, 50001)
    for image, seed in zip(images, (1, 1, 2), strict=True):
        noise.add_(image, 0.05, seed)
    assert torch.equal(images[0], images[1])
    assert abs(torch.corrcoef(images)[0, 2]) < 0.02
    scaled = images[[0, 2]] / 0.05
    assert abs(scaled.mean()) < 0.01
    assert abs(scaled.std() - 1) < 0.01
    assert abs((scaled**4).mean() - 3) < 0.1
    assert abs((scaled.abs() < 1).float().mean() - 0.6827) < 0.01


def test_brightness_of_a_volume():
    volumes = torch.tensor([[1.0, 2.0], [3.0, -1.0]])
    intensity.scale_and_shift_(volumes, [2.0, 1.0], [0.0, 0.5])
    assert torch.equal(volumes, torch.tensor([[2.0, 4.0], [3.5, -0.5]]))


def test_contrast_of_a_volume_stays_within_its_range():
    volumes = torch.tensor([[0.0, 1.0, 2.0, 5.0], [0.0, 1.0, 2.0, 5.0]])
    intensity.stretch_contrast_(volumes, [0.5, 1.25])
    # About the mean 2; 1.25 would give -0.5 and 5.75.
    expected = torch.tensor([[1.0, 1.5, 2.0, 3.5], [0.0, 0.75, 2.0, 5.0]])
    torch.testing.assert_close(volumes, expected)


def test_gamma_of_a_volume_keeps_mean_and_standard_deviation():
    values = np.array([-1.0, -0.5, 0.2, 2.0])
    powers = ((values + 1) / (3 + 1e-7)) ** 1.5 * 3 - 1
    expected = (powers - powers.mean()) / (powers.std() + 1e-8) * values.std() + values.mean()
    volumes = torch.tensor(np.stack([values, values]), dtype=torch.float32)
    intensity.apply_gamma_(volumes, [1.5, 1.0])
    np.testing.assert_allclose(volumes[0], expected, atol=1e-5)
    np.testing.assert_allclose(volumes[1], values, atol=1e-5)
    constant = torch.full((1, 4), 0.3)
    intensity.apply_gamma_(constant, [0.7])
    torch.testing.assert_close(constant, torch.full((1, 4), 0.3))


def test_jitter_of_an_image():
    images = torch.tensor([[0.0, 0.25, 0.5, 1.0]])
    intensity.jitter_brightness_(images, [1.4])
    torch.testing.assert_close(images, torch.tensor([[0.0, 0.35, 0.7, 1.0]]))
    images = torch.tensor([[0.0, 0.2, 0.4, 1.0]])
    intensity.jitter_contrast_(images, [1.4])  # about the mean 0.4
    torch.testing.assert_close(images, torch.tensor([[0.0, 0.12, 0.4, 1.0]]))


def test_images_stay_in_the_unit_range():
    images, extents, _ = image_batch(1)
    extents, images = extents.expand(50, -1), images.expand(50, -1, -1, -1)
    for view in make_image_views(images, extents, torch.arange(50), IMAGES):
        assert view.min() >= 0 and view.max() <= 1


def test_image_crops_keep_to_area_and_aspect():
    views = [draw_image_view((400, 300), seed, 0, IMAGES) for seed in range(300)]
    areas = [np.prod(view.box.length) / (400 * 300) for view in views]
    aspects = [view.box.length[1] / view.box.length[0] for view in views]
    assert 0.13 < min(areas) < 0.2 and 0.85 < max(areas) <= 1
    assert 0.74 < min(aspects) < 0.8 and 1.25 < max(aspects) < 1.35
    ends = np.array([np.add(view.box.start, view.box.length) for view in views])
    assert (ends <= (400, 300)).all()
    # Second views blur always, first views in half of the cases.
    blurred = [view.blur_sigma > 0 for view in views]
    assert 0.4 < np.mean(blurred) < 0.6
    seconds = [draw_image_view((400, 300), seed, 1, IMAGES) for seed in range(50)]
    assert all(0.1 <= view.blur_sigma <= 2 for view in seconds)


@pytest.mark.parametrize(
    ("extent", "start", "length"),
    [((10, 1000), (0, 493), (10, 13)), ((1000, 12), (492, 0), (16, 12)), ((1, 1), (0, 0), (1, 1))],
)
def test_a_crop_that_cannot_fit_is_the_largest_at_the_centre(extent, start, length):
    settings = ImageViewSettings(area=(1, 1))
    box = draw_image_view(extent, 5, 0, settings).box
    assert (box.start, box.length) == (start, length)


def test_both_views_of_a_volume_lie_in_one_region():
    settings = VolumeViewSettings()
    for seed in range(200):
        first, second = draw_volume_views((60, 400, 350), seed, settings)
        for axis, largest in ((0, 24), (1, 172), (2, 172)):
            starts = [view.box.start[axis] for view in (first, second)]
            ends = [view.box.start[axis] + view.box.length[axis] for view in (first, second)]
            assert max(ends) - min(starts) <= largest
        for view in (first, second):
            assert view.box.length[0] == 16
            assert all(77 <= n <= 115 for n in view.box.length[1:])
            assert 0 <= view.noise_std <= 0.1


def test_frequencies_follow_the_settings():
    views = [draw_volume_views((24, 172, 172), seed, VolumeViewSettings()) for seed in range(400)]
    firsts, seconds = zip(*views, strict=True)
    for of_view, probabilities in (
        (firsts, {"blur_sigma": 0.64, "multiplier": 0.8, "offset": 0.64, "gamma": 0.8}),
        (seconds, {"blur_sigma": 0.4, "multiplier": 1.0, "offset": 0.4, "gamma": 1.0}),
    ):
        for name, probability in probabilities.items():
            values = np.array([getattr(view, name) for view in of_view])
            neutral = 1 if name in ("multiplier", "gamma") else 0
            assert abs((values != neutral).mean() - probability) < 0.08, name
    gammas = np.array([view.gamma for view in seconds])
    assert gammas.min() >= 0.7 and gammas.max() <= 1.5
    assert abs((gammas < 1).mean() - 0.5) < 0.08
    offsets = np.array([view.offset for view in firsts if view.offset])
    assert abs(offsets.std() - 0.4) < 0.06 and abs(offsets.mean()) < 0.08
    flips = np.array([view.box.flipped for view in firsts])
    assert np.abs(flips.mean(0) - 0.8).max() < 0.07


def test_a_setting_does_not_shift_the_numbers_of_others():
    without = dataclasses.replace(
        VOLUMES, noise_probability=(0, 0), blur_probability=(0, 0), multiplier=(1, 1)
    )
    for seed in range(20):
        for a, b in zip(
            draw_volume_views((9, 36, 30), seed, VOLUMES),
            draw_volume_views((9, 36, 30), seed, without),
            strict=True,
        ):
            neutral = {"noise_std": 0.0, "blur_sigma": 0.0, "multiplier": 1.0}
            assert dataclasses.replace(a, **neutral) == b


def test_drawn_numbers_stay_the_same_between_versions():
    view = draw_image_view((400, 300), 11, 1, ImageViewSettings())
    assert (view.box.start, view.box.length) == ((67, 111), (236, 177))
    view = draw_volume_views((24, 172, 172), 11, VolumeViewSettings())[1]
    assert (view.box.start, view.box.length) == ((0, 13, 61), (16, 111, 81))


def test_lists_as_yaml_has_them_are_taken_for_tuples():
    settings = ImageViewSettings(size=[32, 24], area=[0.2, 1])
    assert settings == ImageViewSettings(size=(32, 24), area=(0.2, 1))
    assert hash(settings)


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (ImageViewSettings, "size", (32,)),
        (ImageViewSettings, "size", (32, 0)),
        (ImageViewSettings, "size", 32),
        (ImageViewSettings, "area", (0.0, 1)),
        (ImageViewSettings, "area", (0.5, 1.5)),
        (ImageViewSettings, "aspect", (2, 1)),
        (ImageViewSettings, "flip_probability", 1.5),
        (ImageViewSettings, "jitter_probability", 0.8),
        (ImageViewSettings, "brightness", 1.2),
        (ImageViewSettings, "blur_probability", (0.5, "a")),
        (ImageViewSettings, "blur_sigma", (-1, 1)),
        (VolumeViewSettings, "size", (16, 96)),
        (VolumeViewSettings, "crop_scale", (float("nan"), 1)),
        (VolumeViewSettings, "noise_std", (0, float("inf"))),
        (VolumeViewSettings, "offset_std", -0.1),
        (VolumeViewSettings, "gamma", (0, 1)),
        (VolumeViewSettings, "gamma_probability", (1, 2)),
    ],
)
def test_wrong_settings_are_named(kind, name, value):
    with pytest.raises(ValueError, match=rf"^{name} is "):
        kind(**{name: value})


@CASES
def test_wrong_batches_are_named(make, batch, settings):
    images, extents, seeds = batch()
    with pytest.raises(ValueError, match=r"have shape \(4, 3, "):
        make(images.expand(-1, 3, *images.shape[2:]), extents, seeds, settings)
    with pytest.raises(ValueError, match=r"float64.*torch.float32"):
        make(images.double(), extents, seeds, settings)
    with pytest.raises(ValueError, match=r"extents have shape \(3, "):
        make(images, extents[:3], seeds, settings)
    with pytest.raises(ValueError, match=r"seeds have shape .* integers"):
        make(images, extents, seeds.float(), settings)
    with pytest.raises(ValueError, match=r"extent of sample 2 .* at least"):
        make(images, extents * torch.tensor([1, 1, 0, 1])[:, None], seeds, settings)
    with pytest.raises(ValueError, match=r"extent of sample 0 .* at most"):
        make(images, extents * 2, seeds, settings)
