import itertools
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from unimiss_hf import MiTModel
from unimiss_hf.pretraining.feature_figure import (
    draw_features,
    features_figure,
    figure_inputs,
    patch_features,
    principal_components,
)


@pytest.fixture
def models(small_config):
    return {"random weights": MiTModel(small_config), "pretrained": MiTModel(small_config)}


@pytest.fixture
def volume():
    return torch.rand(1, 1, 6, 40, 48) * 2 - 1


@pytest.fixture
def image():
    return torch.rand(1, 1, 64, 48)


def test_principal_components_find_known_directions():
    # Three independent patterns of falling strength, along rotated directions of eight channels.
    patterns = torch.stack(
        torch.meshgrid(*[torch.linspace(-1, 1, n) for n in (8, 9, 10)], indexing="ij")
    )
    directions = torch.linalg.qr(torch.randn(8, 3)).Q
    strengths = torch.tensor([3.0, 2.0, 1.0])[:, None, None, None]
    feature_map = torch.einsum("ck,kdhw->cdhw", directions, strengths * patterns)[None] + 7
    components = principal_components(feature_map)
    assert components.shape == (3, 8, 9, 10)
    assert components.dtype == torch.float32
    assert (components.amin((1, 2, 3)) == 0).all()
    assert (components.amax((1, 2, 3)) == 1).all()
    for component, pattern, direction in zip(components, patterns, directions.T, strict=True):
        sign = direction[direction.abs().argmax()].sign()
        low, high = torch.quantile(sign * pattern, torch.tensor([0.02, 0.98]))
        expected = ((sign * pattern - low) / (high - low)).clamp(0, 1)
        torch.testing.assert_close(component, expected, atol=1e-4, rtol=0)


def test_principal_components_repeat_and_do_not_depend_on_scale():
    feature_map = torch.randn(1, 6, 12, 12)
    components = principal_components(feature_map)
    torch.testing.assert_close(
        principal_components(feature_map.clone()), components, atol=0, rtol=0
    )
    torch.testing.assert_close(principal_components(50 * feature_map), components)


@pytest.mark.parametrize("value", [0.0, 3.7, 1e6])
def test_constant_features_become_grey(value):
    components = principal_components(torch.full((1, 5, 4, 4), value))
    assert (components == 0.5).all()


def test_components_without_variance_are_grey():
    feature_map = torch.randn(1, 1, 6, 6)
    components = principal_components(feature_map)
    assert components[0].std() > 0.1
    assert (components[1:] == 0.5).all()
    # One pattern on many channels: the rest is rounding, and must not be blown up to colours.
    spread = feature_map * torch.randn(1, 16, 1, 1)
    assert (principal_components(spread)[1:] == 0.5).all()


def test_a_component_of_few_patches_stays_visible():
    feature_map = torch.zeros(1, 3, 20, 20)
    feature_map[:, 0, 3, 4] = 5.0
    assert principal_components(feature_map)[0].nonzero().tolist() == [[3, 4]]


@pytest.mark.parametrize(
    ("feature_map", "named"),
    [
        (torch.zeros(5, 4, 4), r"got shape \(5, 4, 4\)"),
        (torch.zeros(2, 5, 4, 4), r"got shape \(2, 5, 4, 4\)"),
        (torch.full((1, 5, 4, 4), torch.nan), "not all finite"),
    ],
)
def test_features_that_cannot_be_shown_are_refused(feature_map, named):
    with pytest.raises(ValueError, match=named):
        principal_components(feature_map)


def test_patch_features_join_standardised_stages_on_the_finest_grid(models, volume):
    model = models["pretrained"].train()
    features = patch_features(model, volume, stages=(3, 2))
    assert model.training
    with torch.no_grad():
        states = model.eval()(volume, output_hidden_states=True).hidden_states
    assert features.shape == (1, 8 + 16, *states[2].shape[2:])
    deviation, mean = torch.std_mean(features[0, :8].flatten(1), dim=1, correction=0)
    torch.testing.assert_close(mean, torch.zeros(8), atol=1e-5, rtol=0)
    torch.testing.assert_close(deviation, torch.full((8,), 8**-0.5), atol=1e-4, rtol=0)


def test_figure_has_a_column_for_each_model(models, volume, image):
    figure = features_figure(models, volume, image)
    assert len(figure.axes) == 6
    titles = [panel.get_title() for panel in figure.axes]
    assert [title.split("\n")[0] for title in titles[1:3] + titles[4:]] == list(models) * 2
    assert "-1000 to 400 HU" in titles[0]
    assert all("% of variance" in title for title in titles[1:3] + titles[4:])
    assert "stages 2 and 3" in figure.get_supxlabel()
    shapes = [panel.images[0].get_array().shape for panel in figure.axes]
    assert shapes == [(40, 48), (40, 48, 3), (40, 48, 3), (64, 48), (64, 48, 3), (64, 48, 3)]
    figure.draw_without_rendering()
    boxes = [panel.title.get_window_extent() for panel in figure.axes]
    assert all(left.x1 <= right.x0 for left, right in itertools.pairwise(boxes[:3]))


def test_the_middle_slice_is_shown_as_radiologists_see_it(models, volume, image):
    # Row 0 is posterior and column 0 the patient's left, which belong at the bottom and right.
    volume = torch.zeros_like(volume)
    volume[0, 0, 3, 0, 0] = 1.0
    shown = features_figure(models, volume, image).axes[0].images[0]
    assert shown.get_array()[-1, -1] == 1.0
    assert np.count_nonzero(shown.get_array()) == 1
    assert shown.get_clim() == (-1000 / 1024, 400 / 1024)


def test_features_follow_the_picture(models, image):
    volume = torch.full((1, 1, 8, 64, 64), -1.0)
    volume[..., 32:] = 0.05
    shown = features_figure(models, volume, image).axes[1].images[0].get_array()
    # The halves differ more than either does inside.
    left, right = shown[16:48, 8:24], shown[16:48, 40:56]
    assert np.abs(left.mean((0, 1)) - right.mean((0, 1))).max() > 2 * max(
        left.std((0, 1)).max(), right.std((0, 1)).max()
    )


def test_pictures_are_written_and_repeat(models, volume, image, tmp_path):
    first = draw_features(models, volume, image, tmp_path / "new" / "features.png")
    second = draw_features(models, volume, image, tmp_path / "again.png", stages=(2, 3))
    pictures = []
    for path in (first, second):
        with Image.open(path) as picture:
            assert picture.format == "PNG"
            pictures.append(np.asarray(picture))
    np.testing.assert_array_equal(*pictures)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"models": {}}, "no model"),
        ({"volume": torch.zeros(1, 6, 40, 48)}, r"volume must be .*\(1, 6, 40, 48\)"),
        ({"image": torch.zeros(1, 3, 64, 48)}, r"image must be .*\(1, 3, 64, 48\)"),
        ({"window": (400, -1000)}, "window must be"),
        ({"stages": (0,)}, r"the stages 1, 2, 3, 4"),
        ({"stages": (2, 5)}, r"the stages 1, 2, 3, 4"),
        ({"stages": ()}, r"the stages 1, 2, 3, 4"),
    ],
)
def test_what_cannot_be_drawn_is_refused(models, volume, image, changes, named):
    with pytest.raises(ValueError, match=named):
        features_figure(**{"models": models, "volume": volume, "image": image, **changes})


def test_missing_matplotlib_says_what_to_install(models, volume, image, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install matplotlib"):
        draw_features(models, volume, image, tmp_path / "features.png")


def test_inputs_are_cropped_around_the_body_and_scaled():
    hounsfield = np.full((30, 500, 400), -1000.0, dtype=np.float32)
    hounsfield[:, 210:491, 10:151] = 40.0
    hounsfield[15, 350, 80] = 9000.0
    hounsfield[14, 350, 81] = -3000.0
    volume, image = figure_inputs(hounsfield, np.full((1, 300, 200), 0.25, dtype=np.float32))
    assert volume.shape == (1, 1, 16, 320, 320)
    assert volume.dtype == image.dtype == torch.float32
    # The middle of the volume stays the middle slice. The body's centre, row 350, would put the
    # window over the edge; columns start at 0 for the same reason.
    assert volume[0, 0, 8, 170, 80] == pytest.approx(3071 / 1024)
    assert volume[0, 0, 7, 170, 81] == -1.0
    assert image.shape == (1, 1, 448, 299)
    torch.testing.assert_close(image, torch.full_like(image, 0.25))


def test_inputs_smaller_than_the_crop_are_kept_whole():
    volume, image = figure_inputs(
        np.full((5, 50, 400), -1000.0), np.zeros((1, 900, 1800), dtype=np.float32)
    )
    assert volume.shape == (1, 1, 5, 50, 320)
    assert image.shape == (1, 1, 224, 448)


@pytest.mark.parametrize(
    ("volume", "radiograph", "named"),
    [
        ((1, 5, 50, 50), (1, 60, 60), r"volume_hu must be .*\(1, 5, 50, 50\)"),
        ((5, 50, 50), (60, 60), r"radiograph must be .*\(60, 60\)"),
        ((0, 50, 50), (1, 60, 60), r"volume_hu must be .*\(0, 50, 50\)"),
    ],
)
def test_inputs_of_other_shapes_are_refused(volume, radiograph, named):
    with pytest.raises(ValueError, match=named):
        figure_inputs(np.zeros(volume), np.zeros(radiograph))
