import numpy as np
import pytest
import torch

from unimiss_hf.pretraining import intensity

CPU = torch.device("cpu")


def test_noise_has_the_standard_deviation_asked_for_and_depends_on_its_seed():
    noise = intensity.GaussianNoise(CPU)
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


def test_noise_is_white():
    noise = intensity.GaussianNoise(CPU)
    for seed in range(3):
        image = torch.zeros(2**16)
        noise.add_(image, 1.0, seed)
        # Products of the noise with itself, one for each distance.
        spectrum = torch.fft.rfft(image).abs().square()
        products = torch.fft.irfft(spectrum) / len(image)
        assert abs(products[0] - 1) < 0.03
        assert products[1:].abs().max() < 6 / len(image) ** 0.5


def test_noises_of_two_seeds_are_alike_at_no_distance():
    noise = intensity.GaussianNoise(CPU)
    images = torch.zeros(2, 2**16)
    for image, seed in zip(images, (2**53 - 1, 7), strict=True):
        noise.add_(image, 1.0, seed)
    first, second = torch.fft.rfft(images)
    products = torch.fft.irfft(first * second.conj()) / images.shape[1]
    assert products.abs().max() < 6 / images.shape[1] ** 0.5


def test_noise_does_not_depend_on_what_was_made_before():
    fresh, used = intensity.GaussianNoise(CPU), intensity.GaussianNoise(CPU)
    used.add_(torch.zeros(100), 1.0, 3)
    used.add_(torch.zeros(70_001), 1.0, 4)
    images = torch.zeros(2, 5000)
    for noise, image in zip((fresh, used), images, strict=True):
        noise.add_(image, 1.0, 5)
    assert torch.equal(*images)


def test_noise_follows_the_order_of_axes_and_not_of_memory():
    noise = intensity.GaussianNoise(CPU)
    image, turned = torch.zeros(4, 5, 6), torch.zeros(5, 4, 6).transpose(0, 1)
    noise.add_(image, 0.1, 9)
    noise.add_(turned, 0.1, 9)
    assert torch.equal(image, turned)


def changed(values, multiplier=1.0, offset=0.0, contrast=1.0, gamma=1.0):
    """Change one image by itself, and require that a batch of it and others gives the same."""
    image = torch.tensor(values, dtype=torch.float32)
    out = torch.empty_like(image)
    parameters = (multiplier, offset, contrast, gamma)
    intensity.change_grey_levels_of_one(image.clone(), *parameters, out=out)
    batch = torch.stack([image.flip(0), image, image * 2 + 1])
    others = (1.0, 0.25, 0.8, 0.9)
    columns = [[other, value, other] for other, value in zip(others, parameters, strict=True)]
    intensity.change_grey_levels(batch, *columns, out=batch)
    torch.testing.assert_close(batch[1], out, atol=2e-5, rtol=1e-5)
    return out


def test_brightness_of_a_volume():
    assert torch.equal(changed([1.0, 2.0], multiplier=2.0), torch.tensor([2.0, 4.0]))
    assert torch.equal(changed([3.0, -1.0], offset=0.5), torch.tensor([3.5, -0.5]))
    assert torch.equal(changed([3.0, 7.0], 0.5, offset=1.0), torch.tensor([2.5, 4.5]))


def test_contrast_of_a_volume_stays_within_its_range():
    # About the mean 2.
    values = [0.0, 1.0, 2.0, 5.0]
    torch.testing.assert_close(changed(values, contrast=0.5), torch.tensor([1, 1.5, 2, 3.5]))
    # It would give -0.5 and 5.75.
    torch.testing.assert_close(changed(values, contrast=1.25), torch.tensor([0, 0.75, 2, 5]))


def test_gamma_of_a_volume_keeps_mean_and_standard_deviation():
    values = np.array([-1.0, -0.5, 0.2, 2.0])
    powers = ((values + 1) / (3 + 1e-7)) ** 1.5 * 3 - 1
    expected = (powers - powers.mean()) / (powers.std() + 1e-8) * values.std() + values.mean()
    np.testing.assert_allclose(changed(values, gamma=1.5), expected, atol=1e-5)
    torch.testing.assert_close(changed([0.3] * 4, gamma=0.7), torch.full((4,), 0.3))


@pytest.mark.parametrize("contrast", [0.75, 1.0, 1.25])
@pytest.mark.parametrize("gamma", [0.7, 1.0, 1.5])
def test_all_changes_are_those_made_one_after_another(contrast, gamma):
    values = np.random.default_rng(0).gamma(2.0, 0.4, (6, 20, 16)) - 1
    step = values * 1.2 - 0.3
    step = np.clip((step - step.mean()) * contrast + step.mean(), step.min(), step.max())
    if gamma != 1:
        length = np.ptp(step)
        powers = ((step - step.min()) / (length + 1e-7)) ** gamma * length
        step = (powers - powers.mean()) / (powers.std() + 1e-8) * step.std() + step.mean()
    np.testing.assert_allclose(changed(values, 1.2, -0.3, contrast, gamma), step, atol=2e-5)


def test_what_is_not_changed_comes_back_exactly():
    values = torch.randn(5, 4).tolist()
    assert torch.equal(changed(values), torch.tensor(values))


def test_the_result_may_lie_in_any_order_of_memory():
    image, out = torch.randn(5, 4, 6), torch.empty(4, 5, 6).transpose(0, 1)
    parameters = (1.1, 0.2, 1.2, 0.8)
    intensity.change_grey_levels_of_one(image.clone(), *parameters, out=out)
    intensity.change_grey_levels_of_one(image, *parameters, out=image)
    assert torch.equal(out, image)


def test_jitter_of_an_image():
    images = torch.tensor([[0.0, 0.25, 0.5, 1.0]])
    intensity.jitter_brightness_(images, [1.4])
    torch.testing.assert_close(images, torch.tensor([[0.0, 0.35, 0.7, 1.0]]))
    images = torch.tensor([[0.0, 0.2, 0.4, 1.0]])
    intensity.jitter_contrast_(images, [1.4])  # about the mean 0.4
    torch.testing.assert_close(images, torch.tensor([[0.0, 0.12, 0.4, 1.0]]))
