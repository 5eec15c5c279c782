"""Radiographs from CT: attenuation, perspective, orientation and display."""

import math

import numpy as np
import pytest
import torch

from unimiss_hf.data.radiographs import (
    WATER_ATTENUATION,
    RadiographGeometry,
    display_radiograph,
    line_integrals,
    render_radiograph,
)

AIR, WATER = -1000.0, 0.0
SMALL = {"detector_size": (61, 61), "pixel_spacing": 4.0}


def brightest(image: torch.Tensor) -> tuple[int, int]:
    row, column = divmod(int(image.argmax()), image.shape[1])
    return row, column


def centroid(image: torch.Tensor) -> tuple[float, float]:
    rows, columns = (torch.arange(length, dtype=torch.float64) for length in image.shape)
    weights = image.double() / image.double().sum()
    return float((weights.sum(1) * rows).sum()), float((weights.sum(0) * columns).sum())


def marked_volume(depth: int, height: int, width: int) -> torch.Tensor:
    """Air with one bright voxel, in 41 voxels along each axis."""
    volume = torch.full((41, 41, 41), AIR)
    volume[depth, height, width] = 3000.0
    return volume


@pytest.mark.parametrize(
    ("angle", "elevation", "thickness"),
    [(0, 0, 120.0), (180, 0, 120.0), (90, 0, 160.0), (270, 0, 160.0), (0, 89.9, 80.0)],
)
def test_central_ray_through_water_measures_its_thickness(angle, elevation, thickness):
    water = torch.full((40, 40, 40), WATER)
    geometry = RadiographGeometry(angle=angle, elevation=elevation, **SMALL)
    integrals = line_integrals(water, (2.0, 3.0, 4.0), geometry)
    assert integrals.dtype == torch.float32
    assert integrals[30, 30].item() == pytest.approx(WATER_ATTENUATION * thickness, rel=1e-3)
    transmitted = torch.exp(-integrals[30, 30]).item()
    assert transmitted == pytest.approx(math.exp(-WATER_ATTENUATION * thickness), rel=1e-2)


def test_slanted_rays_travel_further():
    water = torch.full((40, 20, 80), WATER)
    geometry = RadiographGeometry(source_to_isocentre=300, source_to_detector=400, **SMALL)
    integrals = line_integrals(water, (5.0, 5.0, 5.0), geometry)
    offset = 20 * 4.0
    slant = math.hypot(offset, 400) / 400
    assert integrals[30, 50].item() == pytest.approx(WATER_ATTENUATION * 100 * slant, rel=1e-3)


def test_oblique_ray_takes_the_diagonal():
    water = torch.full((20, 60, 60), WATER)
    integrals = line_integrals(water, (4.0, 2.0, 2.0), RadiographGeometry(angle=45, **SMALL))
    # The ray meets the box's two edges, which linear interpolation rounds off by about a voxel.
    diagonal = 120 * math.sqrt(2)
    assert integrals[30, 30].item() == pytest.approx(WATER_ATTENUATION * diagonal, rel=1e-2)


def test_attenuation_is_linear_in_hounsfield_units_and_never_negative():
    geometry = RadiographGeometry(**SMALL)
    centre = {
        value: line_integrals(torch.full((30, 30, 30), value), (3.0,) * 3, geometry)[30, 30].item()
        for value in (-2048.0, AIR, -500.0, WATER, 1000.0)
    }
    assert centre[-2048.0] == centre[AIR] == 0
    assert centre[-500.0] == pytest.approx(0.5 * centre[WATER], rel=1e-5)
    assert centre[1000.0] == pytest.approx(2 * centre[WATER], rel=1e-5)


def test_a_small_sphere_is_projected_where_perspective_puts_it():
    axis = torch.arange(60) * 2.0 - 59
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    centre = (25.0, -30.0, 20.0)  # mm superior, anterior, right of the centre
    inside = (z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2 <= 8.0**2
    volume = torch.where(inside, 1500.0, AIR)
    geometry = RadiographGeometry(
        source_to_isocentre=500,
        source_to_detector=700,
        detector_size=(201, 201),
        pixel_spacing=1.0,
    )
    row, column = centroid(line_integrals(volume, (2.0,) * 3, geometry))
    # The sphere is behind the isocentre and so 30 mm closer to the source.
    magnification = 700 / (500 - 30)
    assert row == pytest.approx(100 - 25 * magnification, abs=0.5)
    assert column == pytest.approx(100 - 20 * magnification, abs=0.5)


def test_moving_the_isocentre_moves_the_picture():
    geometry = RadiographGeometry(isocentre=(10.0, 0.0, 20.0), **SMALL)
    row, column = centroid(line_integrals(marked_volume(20, 20, 20), (3.0,) * 3, geometry))
    assert row == pytest.approx(30 + 10 * 1.2 / 4, abs=0.1)
    assert column == pytest.approx(30 + 20 * 1.2 / 4, abs=0.1)


def test_a_roll_turns_the_picture_clockwise():
    upright = line_integrals(marked_volume(38, 20, 20), (3.0,) * 3, RadiographGeometry(**SMALL))
    turned = line_integrals(
        marked_volume(38, 20, 20), (3.0,) * 3, RadiographGeometry(roll=90, **SMALL)
    )
    torch.testing.assert_close(turned, torch.rot90(upright, k=-1), rtol=1e-3, atol=1e-4)
    assert brightest(turned)[1] > 30


def test_a_raised_source_throws_what_is_near_it_further_down():
    flat = line_integrals(marked_volume(20, 4, 20), (3.0,) * 3, RadiographGeometry(**SMALL))
    raised = line_integrals(
        marked_volume(20, 4, 20), (3.0,) * 3, RadiographGeometry(elevation=20, **SMALL)
    )
    assert centroid(flat)[0] == pytest.approx(30, abs=0.1)
    expected = 48 * math.sin(math.radians(20)) * 1800 / (1500 - 48 * math.cos(math.radians(20)))
    assert centroid(raised)[0] == pytest.approx(30 + expected / 4, abs=0.1)


@pytest.mark.parametrize("angle", [0, 30, 330, 135, 180, 225])
def test_frontal_and_oblique_views_have_the_head_up_and_the_patients_right_at_the_left(angle):
    spacing, geometry = (3.0,) * 3, RadiographGeometry(angle=angle, **SMALL)
    assert brightest(line_integrals(marked_volume(38, 20, 20), spacing, geometry))[0] < 25
    assert brightest(line_integrals(marked_volume(2, 20, 20), spacing, geometry))[0] > 35
    assert brightest(line_integrals(marked_volume(20, 20, 38), spacing, geometry))[1] < 25
    assert brightest(line_integrals(marked_volume(20, 20, 2), spacing, geometry))[1] > 35


@pytest.mark.parametrize("angle", [80, 90, 101])
def test_laterals_look_at_the_side_next_to_the_detector(angle):
    front = marked_volume(20, 38, 20)
    left_lateral, right_lateral = (
        line_integrals(front, (3.0,) * 3, RadiographGeometry(angle=turned, **SMALL))
        for turned in (angle, 360 - angle)
    )
    assert brightest(left_lateral)[1] < 25
    assert brightest(right_lateral)[1] > 35


def test_left_lateral_has_the_source_at_the_patients_right():
    source, _ = RadiographGeometry(angle=90).rays()
    torch.testing.assert_close(source, torch.tensor([0.0, 0.0, 1500.0]).double())


def test_halving_the_step_changes_little():
    torch.manual_seed(0)
    blurred = torch.nn.functional.avg_pool3d(torch.randn(1, 48, 48, 48) * 4000, 9, 1, 4)[0]
    geometry = RadiographGeometry(angle=20, **SMALL)
    default = line_integrals(blurred, (4.0,) * 3, geometry)
    halved = line_integrals(blurred, (4.0,) * 3, geometry, step=2.0)
    assert not torch.equal(default, halved)
    assert (default - halved).abs().max() < 0.01 * default.max()


def test_the_volume_is_left_as_it_was():
    volume = torch.full((8, 8, 8), -500.0)
    line_integrals(volume, (5.0,) * 3, RadiographGeometry(**SMALL))
    assert (volume == -500).all()


def test_splitting_the_planes_over_chunks_changes_nothing(monkeypatch):
    torch.manual_seed(0)
    volume = torch.randn(20, 20, 20) * 500
    geometry = RadiographGeometry(**SMALL)
    whole = line_integrals(volume, (5.0,) * 3, geometry)
    monkeypatch.setattr("unimiss_hf.data.radiographs._SAMPLES_PER_CHUNK", 3 * 61 * 61)
    torch.testing.assert_close(line_integrals(volume, (5.0,) * 3, geometry), whole)


def test_display_has_bone_bright_and_air_dark():
    volume = torch.full((40, 40, 40), AIR)
    volume[:, 10:30, 8:32] = WATER
    volume[:, 18:22, 18:22] = 1200.0
    geometry = RadiographGeometry(detector_size=(48, 64), pixel_spacing=3.0)
    image = render_radiograph(volume.numpy().astype(np.int16), (3.0,) * 3, geometry)
    assert image.shape == (48, 64)
    assert image.dtype == torch.float32
    assert image.min() == 0
    assert image.max() == 1
    assert image[24, 2] == 0
    assert image[24, 32] > image[24, 24] + 0.2 > 0.2


def test_display_does_not_hang_on_the_air_around_the_patient():
    torch.manual_seed(0)
    patient = torch.rand(40, 40) * 3 + 2
    surrounded = torch.nn.functional.pad(patient, (40, 40, 40, 40))
    shown = display_radiograph(surrounded)[40:80, 40:80]
    torch.testing.assert_close(shown, display_radiograph(patient))


def test_a_ray_through_much_metal_stays_finite():
    torch.manual_seed(0)
    integrals = torch.rand(40, 40) * 3 + 2
    plain = display_radiograph(integrals)
    integrals[0, :3] = 1e4
    image = display_radiograph(integrals)
    assert torch.isfinite(image).all()
    assert (image[0, :3] == 1).all()
    torch.testing.assert_close(image[1:], plain[1:], atol=0.01, rtol=0)


def test_an_image_without_contrast_is_refused():
    with pytest.raises(ValueError, match="no contrast"):
        display_radiograph(torch.ones(8, 8))


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        (torch.zeros(4, 4), r"shape \(4, 4\).*three axes"),
        (torch.zeros(1, 4, 4, 4), r"shape \(1, 4, 4, 4\).*three axes"),
        (torch.zeros(4, 0, 4), r"shape \(4, 0, 4\).*no voxel"),
        (torch.full((4, 4, 4), math.nan), "not finite"),
        (torch.full((4, 4, 4), math.inf), "not finite"),
        (torch.full((20, 20, 20), AIR), "air alone"),
    ],
)
def test_volumes_that_cannot_be_rendered_are_refused(volume, message):
    with pytest.raises(ValueError, match=message):
        render_radiograph(volume, (2.0,) * 3, RadiographGeometry(**SMALL))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"spacing": (1.0, 1.0)}, "three lengths"),
        ({"spacing": (1.0, 0.0, 1.0)}, "spacing of height is 0.0"),
        ({"step": -1.0}, "step is -1.0"),
        ({"step": 0.0}, "step is 0.0"),
        ({"water_attenuation": math.nan}, "water_attenuation is nan"),
        ({"percentiles": (99.0, 1.0)}, "percentiles is"),
    ],
)
def test_settings_out_of_range_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        render_radiograph(torch.zeros(8, 8, 8), **{"spacing": (2.0,) * 3, **arguments})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"angle": math.nan}, "angle is nan"),
        ({"elevation": 90.0}, "elevation is 90"),
        ({"source_to_isocentre": 1900.0}, "between source and detector"),
        ({"detector_size": (0, 10)}, "detector_size"),
        ({"pixel_spacing": 0.0}, "pixel_spacing"),
        ({"isocentre": (0.0, 0.0)}, "isocentre"),
    ],
)
def test_impossible_geometry_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        RadiographGeometry(**settings)


def test_source_or_detector_inside_the_volume_is_refused():
    water = torch.zeros(10, 10, 10)
    for distances in ((40.0, 1800.0), (1500.0, 1540.0)):
        geometry = RadiographGeometry(
            source_to_isocentre=distances[0], source_to_detector=distances[1]
        )
        with pytest.raises(ValueError, match="between the source"):
            line_integrals(water, (10.0,) * 3, geometry)


def test_a_detector_far_too_wide_is_refused():
    geometry = RadiographGeometry(detector_size=(8, 8), pixel_spacing=5000.0)
    with pytest.raises(ValueError, match="too large"):
        line_integrals(torch.zeros(10, 10, 10), (10.0,) * 3, geometry)
