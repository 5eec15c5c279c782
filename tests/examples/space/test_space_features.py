import nibabel
import numpy as np
import pytest
import torch

from viewer.patch_features import PatchFeatures, extract_patches, principal_colours


def test_patches_cover_a_volume_and_lie_where_the_encoder_sees_them(models, tmp_path):
    # 20 x 40 x 64 voxels at the network's own spacing: 16 more than a window is deep.
    hu = np.random.default_rng(0).integers(-900, 300, (64, 40, 20)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(hu, np.diag([1.0, 1.0, 3.0, 1.0])), tmp_path / "a.nii")
    features = extract_patches(models.encoder, str(tmp_path / "a.nii"))
    # Patches of the second stage are 4 x 8 x 8 voxels, and channels those of stages 2 and 3.
    assert features.grid == (5, 5, 8)
    assert features.patches == (5.0, 5.0, 8.0)
    assert features.vectors.shape[-1] == 8 + 16


def test_an_image_that_fits_goes_through_the_encoder_whole(models, xray_path):
    features = extract_patches(models.encoder, str(xray_path))
    assert features.grid == (1, 8, 8)
    pixels = models.encoder.image_processor(xray_path, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        states = models.encoder.model(pixels, output_hidden_states=True).hidden_states
    np.testing.assert_allclose(
        features.vectors[0, ..., :8], states[2][0].movedim(0, -1).numpy(), rtol=1e-2, atol=1e-3
    )


def test_a_voxel_lies_between_the_edges_of_its_patch():
    features = PatchFeatures(np.zeros((3, 2, 4, 5), np.float16), (2.5, 1.75, 4.0))
    shape = (7, 30, 9)
    for voxel in np.ndindex(7, 30, 9):
        edges = features.edges(features.patch_of(voxel, shape), shape)
        centre = np.array(voxel) + 0.5
        assert np.all((edges[:, 0] <= centre) & (centre < edges[:, 1]))
    np.testing.assert_allclose(features.edges((2, 1, 3), shape)[:, 1], shape)


def test_colours_are_those_of_the_largest_components_over_all_slices():
    random = np.random.default_rng(0)
    hidden = random.normal(size=(4 * 6 * 6, 3)) * (9, 4, 2)
    mixing = np.linalg.qr(random.normal(size=(12, 12)))[0][:3]
    vectors = (hidden @ mixing + 0.01 * random.normal(size=(144, 12))).astype(np.float16)
    features = PatchFeatures(vectors.reshape(4, 6, 6, 12), (4.0, 6.0, 6.0))
    colours = principal_colours(features)
    assert colours.shape == (4, 6, 6, 3)
    assert colours.min() == 0 and colours.max() == 1
    standard = vectors.astype(np.float64)
    standard = (standard - standard.mean(0)) / standard.std(0)
    first = standard @ np.linalg.svd(standard, full_matrices=False)[2][0]
    inner = (colours[..., 0].ravel() > 0) & (colours[..., 0].ravel() < 1)
    fit = np.corrcoef(first[inner], colours[..., 0].ravel()[inner])[0, 1]
    assert abs(fit) == pytest.approx(1, abs=1e-4)


def test_features_without_variance_are_one_colour():
    features = PatchFeatures(np.ones((1, 3, 3, 4), np.float16), (1.0, 3.0, 3.0))
    colours = principal_colours(features)
    assert np.isfinite(colours).all() and np.ptp(colours) == 0
