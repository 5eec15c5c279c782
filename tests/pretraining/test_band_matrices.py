import pytest
import torch
from torch.nn import functional

from unimiss_hf.pretraining.band_matrices import gaussian_matrix, resize_matrix


@pytest.mark.parametrize(("length", "new_length"), [(100, 96), (40, 96), (96, 33), (7, 1), (1, 5)])
def test_resizing_is_torchs_antialiased_interpolation(length, new_length):
    image = torch.randn(length, 3)
    # In float32, torch's own positions are off by up to 1e-5 of a pixel.
    expected = functional.interpolate(
        image.double()[None, None],
        (new_length, 3),
        mode="bilinear",
        antialias=True,
        align_corners=False,
    )[0, 0].float()
    matrix = resize_matrix(length, new_length)
    torch.testing.assert_close(matrix.dense() @ image, expected, atol=2e-6, rtol=0)
    assert torch.equal(matrix.sparse.to_dense(), matrix.dense())
    halved = resize_matrix(length, new_length, 0.5)
    assert torch.equal(halved.dense(), matrix.dense() / 2)


def test_resizing_to_the_same_length_is_exact():
    assert torch.equal(resize_matrix(96, 96).dense(), torch.eye(96))


def test_a_blur_of_no_width_changes_nothing():
    assert torch.equal(gaussian_matrix(40, 0.0).dense(), torch.eye(40))


@pytest.mark.parametrize("length", [1, 5, 16, 96])
@pytest.mark.parametrize("sigma", [0.3, 2.0, 7.0])
def test_a_blur_keeps_constants_and_sums(length, sigma):
    matrix = gaussian_matrix(length, sigma).dense()
    torch.testing.assert_close(matrix.sum(0), torch.ones(length))
    torch.testing.assert_close(matrix.sum(1), torch.ones(length))
    torch.testing.assert_close(matrix, matrix.flip(0, 1))


@pytest.mark.parametrize("new_length", [1, 16, 31, 96, 97, 224])
@pytest.mark.parametrize("length", [1, 20, 77, 97, 115, 300])
def test_blocks_hold_all_of_a_matrix(length, new_length):
    for matrix in (resize_matrix(length, new_length), gaussian_matrix(new_length, 1.7)):
        num_blocks, rows, columns = matrix.blocks.shape
        assert num_blocks * rows == new_length
        assert (num_blocks - 1) * matrix.step + columns == matrix.shape[1]
        # Linear weights, and those of a Gaussian, of each row sum to one: none is left out.
        torch.testing.assert_close(matrix.blocks.sum(2), torch.ones(num_blocks, rows))


def test_what_a_view_needs_is_in_narrow_blocks():
    for length in range(77, 116):
        assert resize_matrix(length, 96).blocks.numel() <= 96 * 24
    assert gaussian_matrix(96, 2.0).blocks.numel() <= 96 * 48
