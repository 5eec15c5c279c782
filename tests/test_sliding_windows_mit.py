"""Whole inputs through windows give what a loop written straight down gives."""

import itertools
import math
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers.modeling_outputs import SemanticSegmenterOutput

from small_pyramid import SMALLEST_PYRAMID
from unimiss_hf import MiTBackbone, MiTConfig, MiTForPreTraining, MiTModel
from unimiss_hf.modeling_mit import MiTPreTrainedModel
from unimiss_hf.sliding_windows_mit import (
    extract_features,
    feature_window,
    patch_size,
    predict_logits,
)

PATCH = {2: (32, 32), 3: (16, 32, 32)}


class PointwiseSegmentation(MiTPreTrainedModel):
    """Logits of each voxel from that voxel alone, and from the window's mean."""

    def __init__(self, config):
        super().__init__(config)
        self.weight = nn.Parameter(torch.tensor([1.0, -2.0, 0.5]))
        self.sizes = []
        self.post_init()

    def forward(self, pixel_values, return_dict=True):
        self.sizes.append(tuple(pixel_values.shape))
        values = pixel_values[:, :1].to(self.dtype)
        context = values.mean(dim=tuple(range(2, values.ndim)), keepdim=True)
        shape = (1, 3, *[1] * (values.ndim - 2))
        return SemanticSegmenterOutput(logits=(values + context) * self.weight.view(shape))


@pytest.fixture(scope="module")
def model():
    """In float64: instance norm of few voxels that are nearly equal blows rounding up."""
    torch.manual_seed(0)
    return MiTModel(MiTConfig(**SMALLEST_PYRAMID)).double().eval()


@pytest.fixture
def segmenter(small_config):
    return PointwiseSegmentation(small_config).eval()


def voxels(*shape, seed=0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1


def filled_up(sample: torch.Tensor, lengths) -> torch.Tensor:
    """`(channels, …)` laid into air."""
    result = sample.amin(dim=tuple(range(1, sample.ndim)), keepdim=True).repeat(1, *lengths)
    result[(slice(None), *(slice(n) for n in sample.shape[1:]))] = sample
    return result


def starts_of(length: int, window: int, interval: int) -> list[int]:
    starts = [0]
    while starts[-1] + window < length:
        starts.append(min(starts[-1] + interval, length - window))
    return starts


@torch.no_grad()
def naive_features(model, sample, window, intervals):
    """Features of one `(channels, …)`, window by window."""
    size = sample.shape[1:]
    patch = PATCH[len(size)]
    lengths = [math.ceil(n / step) * step for n, step in zip(size, patch, strict=True)]
    window = [min(n, length) for n, length in zip(lengths, window, strict=True)]
    sample = filled_up(sample, lengths)
    grid = [n // step for n, step in zip(lengths, patch, strict=True)]
    counts = torch.zeros(*grid)
    patches = torch.zeros(model.config.hidden_sizes[-1], *grid, dtype=torch.float64)
    pooled, total = 0, 0
    starts = [starts_of(*axis) for axis in zip(lengths, window, intervals, strict=True)]
    for corner in itertools.product(*starts):
        place = [slice(a, a + n) for a, n in zip(corner, window, strict=True)]
        output = model(sample[(slice(None), *place)][None], output_hidden_states=True)
        inside = [
            len(range(a, min(a + n, real))) / n
            for a, n, real in zip(corner, window, size, strict=True)
        ]
        pooled = pooled + math.prod(inside) * output.pooler_output[0]
        total += math.prod(inside)
        coarse = [
            slice(part.start // step, part.stop // step)
            for part, step in zip(place, patch, strict=True)
        ]
        patches[(slice(None), *coarse)] += output.hidden_states[-1][0]
        counts[tuple(coarse)] += 1
    return pooled / total, patches / counts


class TestExtractFeatures:
    @pytest.mark.parametrize(("num_axes", "patch"), PATCH.items())
    def test_the_patch_is_what_the_pyramid_makes_of_it(self, model, num_axes, patch):
        assert patch_size(model, num_axes) == patch
        assert feature_window(model, num_axes) == ((64, 64) if num_axes == 2 else (16, 32, 32))
        one_stage_less = {
            name: values[:3]
            if name in ("hidden_sizes", "depths", "num_attention_heads")
            else values
            for name, values in SMALLEST_PYRAMID.items()
        }
        one_stage_less |= {
            "spatial_reduction_ratios": [4, 2, 1],
            "decoder_hidden_sizes": [8, 8],
            "decoder_depths": [1, 1],
            "decoder_num_attention_heads": [1, 1],
            "decoder_spatial_reduction_ratios": [2, 4],
        }
        shallow = MiTModel(MiTConfig(**one_stage_less))
        assert patch_size(shallow, num_axes) == tuple(step // 2 for step in patch)

    @pytest.mark.parametrize(
        "shape",
        [(2, 3, 64, 64), (1, 1, 33, 50), (2, 1, 16, 32, 32), (1, 1, 5, 32, 32)],
    )
    def test_what_fits_goes_through_whole(self, model, shape):
        pixels = voxels(*shape)
        with torch.no_grad():
            expected = model(pixels, output_hidden_states=True)
        features = extract_features(model, pixels)
        assert torch.equal(features.pooled, expected.pooler_output)
        assert torch.equal(features.patches, expected.hidden_states[-1])

    @pytest.mark.parametrize(
        ("shape", "window", "overlap", "intervals"),
        [
            # nothing is divisible by anything; two samples; three windows at once of a dozen
            ((2, 1, 20, 71, 45), (16, 32, 32), 0.0, (16, 32, 32)),
            ((2, 1, 35, 71, 45), (16, 64, 32), 0.5, (16, 32, 32)),
            # the window is larger than the input along one axis, or two
            ((1, 1, 7, 97, 40), (16, 32, 64), 0.0, (16, 32, 64)),
            ((1, 1, 50, 20, 33), (32, 64, 64), (0.5, 0, 0), (16, 64, 64)),
            # rounded up to whole patches, as are the native 8 x 32 x 32
            ((1, 1, 33, 65, 32), (17, 33, 32), 0.3, (16, 32, 32)),
            ((1, 1, 17, 32, 33), None, 0.0, (16, 32, 32)),
            # a last window is moved back
            ((1, 1, 16, 32, 150), (16, 32, 64), 0.0, (16, 32, 64)),
            ((1, 1, 16, 33, 300), (16, 32, 320), 0.9, (16, 32, 320)),
            ((1, 1, 16, 33, 400), (16, 32, 320), 0.9, (16, 32, 32)),
            ((2, 3, 65, 100), None, 0.5, (32, 32)),
            ((1, 1, 200, 31), (96, 96), 1 / 3, (64, 64)),
        ],
    )
    def test_windows_agree_with_a_loop(self, model, shape, window, overlap, intervals):
        pixels = voxels(*shape)
        pixels[-1] = pixels[-1] - 3  # samples have air of their own
        features = extract_features(model, pixels, window, overlap, batch_size=3)
        grid = [
            math.ceil(n / step) for n, step in zip(shape[2:], PATCH[len(shape) - 2], strict=True)
        ]
        assert features.patches.shape == (shape[0], 16, *grid)
        window = feature_window(model, len(shape) - 2, window)
        for index, sample in enumerate(pixels):
            pooled, patches = naive_features(model, sample, window, intervals)
            torch.testing.assert_close(features.pooled[index], pooled)
            torch.testing.assert_close(features.patches[index], patches)

    @settings(deadline=None, max_examples=15)
    @given(
        size=st.tuples(st.integers(1, 40), st.integers(1, 80), st.integers(1, 80)),
        window=st.tuples(st.integers(1, 32), st.integers(1, 64), st.integers(1, 64)),
        overlap=st.floats(0, 0.95),
    )
    def test_any_size_gives_one_patch_for_each_part_of_it(self, model, size, window, overlap):
        features = extract_features(model, voxels(1, 1, *size), window, overlap)
        grid = tuple(math.ceil(n / step) for n, step in zip(size, PATCH[3], strict=True))
        assert features.patches.shape == (1, 16, *grid)
        assert features.patches.isfinite().all()
        assert features.pooled.isfinite().all()

    def test_a_thin_volume_is_filled_up_with_air(self, model):
        thin = voxels(1, 1, 2, 20, 32)
        expected = extract_features(model, filled_up(thin[0], (4, 32, 32))[None])
        features = extract_features(model, thin)
        assert torch.equal(features.pooled, expected.pooled)
        assert features.patches.shape == (1, 16, 1, 1, 1)

    def test_a_window_of_mere_air_counts_little(self, model):
        volume = voxels(1, 1, 17, 32, 32)
        first = extract_features(model, volume[:, :, :16]).pooled
        last = extract_features(model, filled_up(volume[0, :, 16:], (16, 32, 32))[None]).pooled
        features = extract_features(model, volume)
        torch.testing.assert_close(features.pooled, (16 * first + last) / 17)

    def test_the_encoder_of_another_model_is_taken(self, small_config):
        pixels = voxels(1, 1, 17, 40, 32)
        for model in (MiTForPreTraining(small_config).eval(), MiTBackbone(small_config).eval()):
            expected = extract_features(model.encoder, pixels)
            torch.testing.assert_close(extract_features(model, pixels).pooled, expected.pooled)

    @pytest.mark.parametrize(
        ("dtype", "given", "wanted"),
        [
            (torch.bfloat16, torch.float32, torch.float32),
            (torch.float32, torch.float16, torch.float32),
            (torch.float64, torch.float32, torch.float64),
        ],
    )
    @pytest.mark.parametrize("size", [(16, 32, 32), (17, 32, 40)])
    def test_types(self, small_config, dtype, given, wanted, size):
        model = MiTModel(small_config).eval()
        pixels = voxels(1, 1, *size)
        expected = extract_features(model, pixels)
        features = extract_features(model.to(dtype), pixels.to(given))
        assert features.pooled.dtype == features.patches.dtype == wanted
        torch.testing.assert_close(features.pooled.float(), expected.pooled, atol=0.05, rtol=0.05)

    def test_features_can_be_trained_on(self, model):
        probe = nn.Linear(16, 2)
        for size in ((16, 32, 32), (17, 32, 32)):
            features = extract_features(model, voxels(1, 1, *size))
            assert not features.pooled.requires_grad
            probe(features.pooled.float()).sum().backward()
        assert probe.weight.grad.abs().sum() > 0

    def test_the_input_and_the_model_stay_as_they_were(self, model):
        pixels = voxels(1, 1, 17, 40, 40)
        before = pixels.clone()
        extract_features(model, pixels)
        assert torch.equal(pixels, before)
        assert not model.training

    @pytest.mark.parametrize(
        ("shape", "options", "message"),
        [
            (
                (1, 1, 16, 32),
                {"window": (16, 32, 32)},
                r"window is \(16, 32, 32\).*\(height, width\)",
            ),
            ((1, 1, 16, 32, 32), {"window": (16, 0, 32)}, r"window is \(16, 0, 32\)"),
            ((1, 1, 16, 32, 32), {"window": (16, 3.5, 32)}, r"positive integers"),
            ((1, 1, 16, 32, 32), {"overlap": 1.0}, "overlap is 1.0"),
            ((1, 1, 16, 32, 32), {"overlap": (0.5, 0.5)}, "each of 3 axes"),
            ((1, 1, 16, 32, 32), {"batch_size": 0}, "batch_size is 0"),
            ((1, 16, 32), {}, r"shape \(1, 16, 32\)"),
            ((1, 1, 0, 32, 32), {}, r"shape \(1, 1, 0, 32, 32\)"),
            ((1, 2, 17, 40, 40), {}, "has 2 channels"),
        ],
    )
    def test_mistakes_are_named(self, model, shape, options, message):
        with pytest.raises(ValueError, match=message):
            extract_features(model, torch.zeros(shape), **options)

    def test_integers_are_refused(self, model):
        with pytest.raises(ValueError, match=r"torch.int16"):
            extract_features(model, torch.zeros((1, 1, 16, 32, 32), dtype=torch.int16))

    def test_training_mode_is_refused(self, small_config, segmenter):
        with pytest.raises(ValueError, match=r"model\.eval\(\)"):
            extract_features(MiTModel(small_config).train(), voxels(1, 1, 16, 32, 32))
        with pytest.raises(ValueError, match=r"model\.eval\(\)"):
            predict_logits(segmenter.train(), voxels(1, 1, 16, 32, 32))

    def test_other_networks_are_refused(self, segmenter):
        with pytest.raises(TypeError, match="got PointwiseSegmentation"):
            extract_features(segmenter, voxels(1, 1, 16, 32, 32))

    def test_monai_is_needed_for_large_inputs_alone(self, model, monkeypatch):
        monkeypatch.setitem(sys.modules, "monai.inferers", None)
        extract_features(model, voxels(1, 1, 16, 32, 32))
        with pytest.raises(ImportError, match="pip install monai"):
            extract_features(model, voxels(1, 1, 17, 32, 32))


class TestPredictLogits:
    @pytest.mark.parametrize("shape", [(2, 3, 50, 64), (1, 1, 8, 32, 30), (1, 1, 2, 9, 32)])
    def test_what_fits_goes_through_whole(self, segmenter, shape):
        pixels = voxels(*shape).float()
        logits = predict_logits(segmenter, pixels)
        assert logits.shape == (shape[0], 3, *shape[2:])
        minimum = (32, 32) if len(shape) == 4 else (4, 32, 32)
        lengths = [max(n, least) for n, least in zip(shape[2:], minimum, strict=True)]
        assert segmenter.sizes == [(*shape[:2], *lengths)]
        whole = torch.stack([filled_up(sample, lengths) for sample in pixels[:, :1]])
        context = whole.mean(dim=tuple(range(2, whole.ndim)), keepdim=True)
        torch.testing.assert_close(logits[:, :1], pixels[:, :1] + context)

    @pytest.mark.parametrize(
        ("shape", "window", "overlap", "intervals"),
        [
            ((2, 1, 11, 45, 33), (8, 32, 32), 0.5, (4, 16, 16)),
            ((1, 1, 3, 70, 20), (8, 32, 48), (0.5, 0.25, 0.5), (2, 24, 16)),
            ((2, 3, 65, 97), (64, 64), 0.5, (32, 32)),
        ],
    )
    def test_windows_agree_with_a_loop(self, segmenter, shape, window, overlap, intervals):
        pixels = voxels(*shape).float()
        logits = predict_logits(segmenter, pixels, window, overlap, batch_size=3)
        assert logits.shape == (shape[0], 3, *shape[2:])
        minimum = (32, 32) if len(shape) == 4 else (4, 32, 32)
        for index, sample in enumerate(pixels):
            lengths = [max(n, least) for n, least in zip(shape[2:], minimum, strict=True)]
            laid = filled_up(sample[:1], lengths)[0]
            kept = [min(n, length) for n, length in zip(lengths, window, strict=True)]
            gaussian = torch.ones(())
            for n in kept:
                distance = torch.arange(n) - (n - 1) / 2
                gaussian = gaussian[..., None] * torch.exp(-0.5 * (distance / (0.125 * n)) ** 2)
            gaussian = gaussian.clamp(min=1e-3)  # MONAI keeps tails from vanishing
            total, weights = torch.zeros(lengths), torch.zeros(lengths)
            starts = [starts_of(*axis) for axis in zip(lengths, kept, intervals, strict=True)]
            for corner in itertools.product(*starts):
                place = tuple(slice(a, a + n) for a, n in zip(corner, kept, strict=True))
                total[place] += (laid[place] + laid[place].mean()) * gaussian
                weights[place] += gaussian
            expected = (total / weights)[tuple(slice(n) for n in shape[2:])]
            torch.testing.assert_close(logits[index, 0], expected)
            torch.testing.assert_close(logits[index, 1], -2 * logits[index, 0])

    def test_types(self, segmenter):
        pixels = voxels(1, 1, 9, 40, 32)
        expected = predict_logits(segmenter, pixels)
        logits = predict_logits(segmenter.bfloat16(), pixels)
        assert logits.dtype == torch.float32
        torch.testing.assert_close(logits, expected, atol=0.05, rtol=0.05)

    def test_a_window_below_the_pyramid_is_refused(self, segmenter):
        with pytest.raises(ValueError, match=r"\(4, 32, 32\) at least"):
            predict_logits(segmenter, voxels(1, 1, 9, 40, 32), window=(2, 32, 32))

    def test_other_networks_are_refused(self, model, segmenter, small_config):
        with pytest.raises(TypeError, match="MiTModel gives no logits"):
            predict_logits(model, voxels(1, 1, 8, 32, 32))
        with pytest.raises(ValueError, match=r"\(1, 32\) for \(1, 1, 8, 32, 32\)"):
            predict_logits(MiTForPreTraining(small_config).eval(), voxels(1, 1, 8, 32, 32))

    def test_monai_is_needed_for_large_inputs_alone(self, segmenter, monkeypatch):
        monkeypatch.setitem(sys.modules, "monai.inferers", None)
        predict_logits(segmenter, voxels(1, 1, 8, 32, 32))
        with pytest.raises(ImportError, match="pip install monai"):
            predict_logits(segmenter, voxels(1, 1, 9, 32, 32))


def test_the_window_is_what_the_model_was_trained_on(small_config):
    small_config.window_size = [4, 48, 48]
    model = MiTModel(small_config)
    assert feature_window(model, 3) == (16, 64, 64)  # whole patches
    assert feature_window(model, 2) == tuple(small_config.image_size)
