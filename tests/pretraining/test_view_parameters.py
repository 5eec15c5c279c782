import dataclasses

import numpy as np
import pytest

from unimiss_hf.pretraining.view_parameters import (
    draw_image_view,
    draw_volume_views,
    needed_region,
)
from unimiss_hf.pretraining.view_settings import ImageViewSettings, VolumeViewSettings

IMAGES = ImageViewSettings(size=(32, 24))
VOLUMES = VolumeViewSettings(size=(6, 20, 16))


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


def test_the_needed_region_is_what_both_views_touch_and_no_more():
    for seed in range(100):
        extent = (24, 172, 150)
        start, length = needed_region(extent, seed, VolumeViewSettings())
        boxes = [view.box for view in draw_volume_views(extent, seed, VolumeViewSettings())]
        for axis in range(3):
            assert start[axis] == min(box.start[axis] for box in boxes)
            end = max(box.start[axis] + box.length[axis] for box in boxes)
            assert start[axis] + length[axis] == end <= extent[axis]
