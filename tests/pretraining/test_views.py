import dataclasses

import pytest
import torch

from unimiss_hf.pretraining.resampling import crop_and_resize
from unimiss_hf.pretraining.view_parameters import (
    draw_image_view,
    draw_volume_views,
    needed_region,
)
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
def test_other_processes_need_not_copy_shared_views(make, batch, settings):
    samples = batch()
    shared = make(*samples, settings, shared=True)
    assert all(view.is_shared() for view in shared)
    for view, expected in zip(shared, make(*samples, settings), strict=True):
        assert torch.equal(view, expected)
        assert not expected.is_shared()


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


def needed_parts(volumes, extents, seeds):
    """Cut out what views need, in a batch that is as large as the largest, and filled with NaN."""
    regions = [
        needed_region(extent, seed, VOLUMES)
        for extent, seed in zip(extents.tolist(), seeds.tolist(), strict=True)
    ]
    starts, lengths = (torch.tensor(numbers) for numbers in zip(*regions, strict=True))
    filling = float("nan") if volumes.is_floating_point() else 7
    parts = volumes.new_full((len(volumes), 1, *lengths.amax(0)), filling)
    for part, volume, (start, length) in zip(parts, volumes, regions, strict=True):
        place = tuple(slice(s, s + n) for s, n in zip(start, length, strict=True))
        part[(slice(None), *(slice(n) for n in length))] = volume[(slice(None), *place)]
    return parts, starts


def test_views_need_no_more_than_the_needed_region():
    volumes, extents, seeds = volume_batch()
    parts, starts = needed_parts(volumes, extents, seeds)
    assert parts.numel() < volumes.numel()
    whole = make_volume_views(volumes, extents, seeds, VOLUMES)
    for view, expected in zip(
        make_volume_views(parts, extents, seeds, VOLUMES, starts), whole, strict=True
    ):
        assert torch.equal(view, expected)
    with pytest.raises(ValueError, match=r"part of volume 2 .* does not hold the view"):
        moved = starts + torch.tensor([0, 0, 3, 0])[:, None]
        make_volume_views(parts, extents, seeds, VOLUMES, moved)
    with pytest.raises(ValueError, match=r"part of volume 0 .* does not hold the view"):
        make_volume_views(parts[..., :10], extents, seeds, VOLUMES, starts)
    with pytest.raises(ValueError, match=r"starts have shape \(4, 2\)"):
        make_volume_views(parts, extents, seeds, VOLUMES, starts[:, :2])


def test_volumes_may_be_whole_hounsfield_units():
    _, extents, seeds = volume_batch()
    volumes = torch.randint(-1024, 3071, (4, 1, 9, 36, 30), dtype=torch.int16)
    whole = make_volume_views(volumes, extents, seeds, VOLUMES)
    parts, starts = needed_parts(volumes, extents, seeds)
    for view, of_part, expected in zip(
        whole,
        make_volume_views(parts, extents, seeds, VOLUMES, starts),
        make_volume_views(volumes / 1024, extents, seeds, VOLUMES),
        strict=True,
    ):
        assert view.dtype == torch.float32
        assert torch.equal(view, expected)
        assert torch.equal(of_part, expected)


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


def test_images_stay_in_the_unit_range():
    images, extents, _ = image_batch(1)
    extents, images = extents.expand(50, -1), images.expand(50, -1, -1, -1)
    for view in make_image_views(images, extents, torch.arange(50), IMAGES):
        assert view.min() >= 0 and view.max() <= 1


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
