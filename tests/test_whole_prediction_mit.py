"""Label maps that are made slab by slab are those of all logits at once."""

import copy
import gc
import itertools
import sys
import tracemalloc

import numpy as np
import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from transformers.modeling_outputs import SemanticSegmenterOutput

from unimiss_hf import MiTForPreTraining, MiTForSemanticSegmentation, MiTModel
from unimiss_hf.label_restoring_mit import label_map, mask_map
from unimiss_hf.modeling_mit import MiTPreTrainedModel
from unimiss_hf.plane_grids_mit import PlaneGrid
from unimiss_hf.sliding_windows_mit import predict_logits
from unimiss_hf.volume_grids_mit import VolumeGrid
from unimiss_hf.whole_prediction_mit import predict_labels, predict_probabilities

MULTI_LABEL = "multi_label_classification"


class PlacedSegmentation(MiTPreTrainedModel):
    """Logits of each voxel from that voxel and from its place in the window: quick, and uneven."""

    def __init__(self, config):
        super().__init__(config)
        generator = torch.Generator().manual_seed(1)
        self.weight = nn.Parameter(torch.randn(config.num_labels, 6, generator=generator))
        self.post_init()

    def forward(self, pixel_values, return_dict=True):
        values = pixel_values[:, :1].to(self.dtype)
        ramps = [
            torch.linspace(-1, 1, n, dtype=self.dtype).view(n, *[1] * behind).expand_as(values)
            for n, behind in zip(values.shape[2:], range(values.ndim - 3, -1, -1), strict=True)
        ]
        mixed = torch.cat([values, values.square(), torch.sin(9 * values), *ramps], dim=1)
        weight = self.weight[:, : mixed.shape[1]]
        return SemanticSegmenterOutput(logits=torch.einsum("kc,bc...->bk...", weight, mixed))


@pytest.fixture
def make(small_config):
    """A quick model in float64, where rounding decides no voxel."""

    def make(num_labels=5, model_class=PlacedSegmentation, **changes):
        config = copy.deepcopy(small_config)
        for name, value in ({"num_labels": num_labels} | changes).items():
            setattr(config, name, value)
        return model_class(config).double().eval()

    return make


def voxels(*shape) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(1, 1, *shape, generator=generator, dtype=torch.float64) * 2 - 1


def native(shape, factors, cropped=None) -> VolumeGrid:
    """The grid of a volume whose native lengths are `factors` of the prepared ones."""
    source = [max(1, round(n * factor)) for n, factor in zip(shape, factors, strict=True)]
    grid = VolumeGrid.native(source[::-1]).resized(shape)
    return grid if cropped is None else grid.cropped(*cropped)


VOLUMES = {
    "odd": ((21, 45, 37), native((21, 45, 37), (1, 1, 1)), {}),
    "finer": ((19, 40, 33), native((19, 40, 33), (2.7, 1.3, 1.1)), {"overlap": 0.5}),
    "coarser": ((30, 34, 40), native((30, 34, 40), (0.3, 0.7, 0.9)), {"overlap": 0.25}),
    "no overlap": ((17, 70, 40), native((17, 70, 40), (1.5, 1, 1)), {"overlap": 0.0}),
    "great overlap": ((25, 33, 35), native((25, 33, 35), (1, 1, 1.2)), {"overlap": 0.85}),
    "overlap of each axis": (
        (26, 50, 40),
        native((26, 50, 40), (1, 1, 1)),
        {"overlap": (0.75, 0, 0.3), "window": (6, 33, 32), "batch_size": 3},
    ),
    "deep window": ((26, 70, 40), native((26, 70, 40), (1, 1, 1)), {"window": (64, 32, 32)}),
    "wide window": ((30, 40, 40), native((30, 40, 40), (1, 1, 1)), {"window": (8, 64, 64)}),
    "in one window": ((8, 32, 30), native((8, 32, 30), (2, 1, 1)), {}),
    "thinner than the pyramid": ((2, 70, 20), native((2, 70, 20), (3, 1, 1)), {}),
    "cropped": (
        (20, 40, 36),
        native((30, 50, 36), (1.4, 1, 1), ((5, 6, 0), (20, 40, 36))),
        {},
    ),
    "filled up": (
        (20, 40, 36),
        native((12, 34, 36), (1.4, 1, 1), ((-4, -3, 0), (20, 40, 36))),
        {},
    ),
}
cases = pytest.mark.parametrize(("shape", "grid", "options"), VOLUMES.values(), ids=VOLUMES)


@cases
def test_labels_are_those_of_all_logits(make, shape, grid, options):
    model, pixels = make(), voxels(*shape)
    labels = predict_labels(model, pixels, grid, **options)
    expected = label_map(predict_logits(model, pixels, **options)[0], grid)
    assert labels.dtype == expected.dtype == np.uint8
    np.testing.assert_array_equal(labels, expected)
    assert len(np.unique(labels)) > 2


@cases
def test_masks_are_those_of_all_logits(make, shape, grid, options):
    model, pixels = make(problem_type=MULTI_LABEL), voxels(*shape)
    masks = predict_labels(model, pixels, grid, **options)
    expected = mask_map(predict_logits(model, pixels, **options)[0], grid)
    assert masks.dtype == bool
    assert masks.shape == (5, *grid.native_shape)
    np.testing.assert_array_equal(masks, expected)
    assert (masks.sum(0) > 1).any() and (masks.sum(0) == 0).any()


@pytest.mark.parametrize("size", [(50, 64), (65, 97), (20, 150)], ids=str)
@pytest.mark.parametrize("source", [(50, 64), (131, 75)], ids=str)
def test_images_too(make, size, source):
    pixels, grid = voxels(*size), PlaneGrid(source, size)
    for options in ({}, {"window": (40, 33), "overlap": 0.7}):
        labels = predict_labels(make(), pixels, grid, **options)
        logits = predict_logits(make(), pixels, **options)[0]
        assert labels.shape == source
        np.testing.assert_array_equal(labels, label_map(logits, grid))
        masks = predict_labels(make(problem_type=MULTI_LABEL), pixels, grid, **options)
        np.testing.assert_array_equal(masks, mask_map(logits, grid))


def test_the_real_network_in_float32(small_config):
    small_config.num_labels = 4
    model = MiTForSemanticSegmentation(small_config).eval()
    pixels, grid = voxels(18, 40, 45).float(), native((18, 40, 45), (2, 1, 1))
    labels = predict_labels(model, pixels, grid)
    expected = label_map(predict_logits(model, pixels)[0], grid)
    # Two classes may be equal to rounding in a voxel.
    assert np.mean(labels == expected) > 0.9999
    assert len(np.unique(labels)) > 1


def test_many_classes_have_a_wider_type(make):
    grid = native((18, 33, 32), (1, 1, 1))
    assert predict_labels(make(300), voxels(18, 33, 32), grid).dtype == np.int16


# ------------------------------------------------------------------------------ probabilities


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@cases
def test_probabilities_agree_with_labels(make, shape, grid, options, dtype):
    model, pixels = make(), voxels(*shape)
    found = predict_probabilities(model, pixels, grid, dtype=dtype, **options)
    assert found.shape == (5, *grid.native_shape) and found.dtype == dtype
    np.testing.assert_allclose(found.sum(0, dtype=np.float64), 1, atol=3e-3)
    labels = predict_labels(model, pixels, grid, **options)
    at_label = np.take_along_axis(found, labels[None].astype(np.int64), 0)[0]
    np.testing.assert_array_equal(at_label, found.max(0))


def test_probabilities_are_the_softmax_and_the_sigmoid_of_the_logits(make):
    pixels, grid = voxels(18, 33, 40), native((18, 33, 40), (1, 1, 1))
    logits = predict_logits(make(), pixels)[0]
    for model, expected in (
        (make(), logits.softmax(0)),
        (make(problem_type=MULTI_LABEL), logits.sigmoid()),
    ):
        found = predict_probabilities(model, pixels, grid)
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-6)


def test_what_was_cropped_away_is_background_for_certain(make):
    shape, grid, _ = VOLUMES["cropped"]
    kept = np.ix_(*(grid.positions(axis, n)[1] for axis, n in enumerate(shape)))
    away = np.ones(grid.native_shape, dtype=bool)
    away[kept] = False
    found = predict_probabilities(make(), voxels(*shape), grid)
    assert (found[0][away] == 1).all() and (found[1:, away] == 0).all()
    assert not (found[0][~away] == 1).any()
    found = predict_probabilities(make(problem_type=MULTI_LABEL), voxels(*shape), grid)
    assert (found[:, away] == 0).all() and (found[:, ~away] > 0).all()


# ----------------------------------------------------------------------------------- mirroring


@pytest.mark.parametrize(
    ("shape", "mirror"),
    [((18, 40, 33), (2,)), ((18, 40, 33), (0, 1, 2)), ((40, 70), (1,)), ((40, 70), (0, 1))],
)
def test_mirrored_windows_are_averaged(make, shape, mirror):
    model, pixels = make(), voxels(*shape)

    class Mirrored(nn.Module):
        """The same model, mirrored in its own forward pass."""

        config, dtype, device = model.config, model.dtype, model.device

        def forward(self, pixel_values, return_dict=True):
            logits = []
            for number in range(len(mirror) + 1):
                for axes in itertools.combinations([2 + axis for axis in mirror], number):
                    logits.append(model(pixel_values.flip(axes)).logits.flip(axes))
            return SemanticSegmenterOutput(logits=sum(logits) / len(logits))

    grid = native(shape, (2, 1, 1)) if len(shape) == 3 else PlaneGrid((80, 71), shape)
    plain = predict_labels(model, pixels, grid)
    labels = predict_labels(model, pixels, grid, mirror=mirror)
    np.testing.assert_array_equal(labels, predict_labels(Mirrored().eval(), pixels, grid))
    assert (labels != plain).any()
    torch.testing.assert_close(
        predict_logits(model, pixels, mirror=mirror), predict_logits(Mirrored().eval(), pixels)
    )


def test_a_mirrored_input_has_mirrored_labels(make):
    pixels, grid = voxels(8, 32, 32), native((8, 32, 32), (1, 1, 1))
    labels = predict_labels(make(), pixels, grid, mirror=(0, 2))
    turned = predict_labels(make(), pixels.flip(2, 4), grid, mirror=(0, 2))
    np.testing.assert_array_equal(turned, labels[::-1, :, ::-1])


# -------------------------------------------------------------------------------------- memory


class LargestTensor(TorchFunctionMode):
    """Notes the most elements that a tensor had which torch was asked for."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.elements = max(self.elements, result.untyped_storage().nbytes() // 4)
        return result


def test_no_tensor_holds_the_logits_of_a_whole_volume(make):
    shape, classes = (96, 40, 40), 20
    model, grid = make(classes).float(), native(shape, (3, 1, 1))
    pixels = voxels(*shape).float()
    with LargestTensor() as largest:
        labels = predict_labels(model, pixels, grid, batch_size=1)
    slab = classes * model.config.volume_size[0] * 40 * 40
    assert largest.elements <= slab
    assert labels.shape == (288, 40, 40)
    with LargestTensor() as largest:
        label_map(predict_logits(model, pixels, batch_size=1)[0], grid)
    assert largest.elements >= classes * 96 * 40 * 40


def test_two_slabs_of_logits_are_held_at_most(make, monkeypatch):
    shape, classes = (64, 40, 40), 20
    model, grid = make(classes).float(), native(shape, (3, 1, 1))
    pixels, forward, held = voxels(*shape).float(), model.forward, []

    def weigh_then_forward(*args, **kwargs):
        tensors = [
            known
            for known in gc.get_objects()
            # other tests of this process may have left sparse ones, or some on no device
            if type(known) is torch.Tensor
            and known.layout is torch.strided
            and known.device.type == "cpu"
        ]
        storages = {known.untyped_storage().data_ptr(): known for known in tensors}
        held.append(sum(known.untyped_storage().nbytes() for known in storages.values()))
        return forward(*args, **kwargs)

    monkeypatch.setattr(model, "forward", weigh_then_forward)
    predict_labels(model, pixels, grid)
    slab = 4 * classes * model.config.volume_size[0] * 40 * 40
    # the first call holds none yet, but all else that lives in this process
    assert len(held) > 10
    assert 0 < max(held) - held[0] < 2 * slab


def test_numpy_holds_the_labels_and_little_more(make):
    shape = (60, 40, 40)
    grid = native(shape, (3, 2, 2))
    pixels = voxels(*shape)
    tracemalloc.start()
    labels = predict_labels(make(20), pixels, grid)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert labels.nbytes == 180 * 80 * 80
    assert peak < 2 * labels.nbytes


# -------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("shape", "options", "named"),
    [
        ((2, 1, 18, 33, 32), {}, "hold 2 inputs; wanted one"),
        ((1, 1, 18, 33, 40), {}, r"lengths \(18, 33, 40\), but their grid has \(18, 33, 32\)"),
        ((1, 1, 33, 32), {}, r"lengths \(33, 32\), but their grid has \(18, 33, 32\)"),
        ((1, 1, 18, 33, 32), {"mirror": (0, 3)}, r"mirror is \(0, 3\); .* 0 \(depth\), 1 \(hei"),
        ((1, 1, 18, 33, 32), {"mirror": (1, 1)}, "wanted different axes"),
        ((1, 1, 18, 33, 32), {"overlap": 1}, "overlap is 1"),
        ((1, 1, 18, 33, 32), {"batch_size": 0}, "batch_size is 0"),
    ],
)
def test_mistakes_are_named(make, shape, options, named):
    grid = native((18, 33, 32), (1, 1, 1))
    for predict in (predict_labels, predict_probabilities):
        with pytest.raises(ValueError, match=named):
            predict(make(), torch.zeros(shape), grid, **options)


def test_results_of_absurd_size_are_refused_before_anything_is_computed(make):
    large = VolumeGrid.native((512, 512, 600)).resized((16, 32, 32))
    model = make(104)
    model.forward = None
    with pytest.raises(ValueError, match=r"104 classes.*\(600, 512, 512\).*60.9 GiB as float32"):
        predict_probabilities(model, voxels(16, 32, 32), large)
    with pytest.raises(ValueError, match=r"30.5 GiB as float16, more than 16.0 GiB"):
        predict_probabilities(model, voxels(16, 32, 32), large, dtype=np.float16)
    model = make(120, problem_type=MULTI_LABEL)
    with pytest.raises(ValueError, match=r"masks of 120 classes.*17.6 GiB as bool"):
        predict_labels(model, voxels(16, 32, 32), large)
    small = native((16, 32, 32), (1, 1, 1))
    with pytest.raises(ValueError, match=r"more than 0\.0 GiB"):
        predict_probabilities(make(), voxels(16, 32, 32), small, largest=1000)


def test_models_of_other_things_are_refused(make, small_config):
    pixels, grid = voxels(18, 33, 32), native((18, 33, 32), (1, 1, 1))
    with pytest.raises(TypeError, match="MiTModel gives no logits"):
        predict_labels(make(model_class=MiTModel), pixels, grid)
    with pytest.raises(ValueError, match="wanted the same lengths"):
        predict_labels(make(model_class=MiTForPreTraining), pixels, grid)
    model = make()
    model.config.num_labels = 7
    with pytest.raises(TypeError, match="logits of 5 classes, but its config has 7 labels"):
        predict_labels(model, pixels, grid)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_are_told(make, value):
    model = make()
    with torch.no_grad():
        model.weight[2, 0] = value
    for shape in ((18, 33, 32), (8, 32, 32)):
        with pytest.raises(ValueError, match=r"not finite numbers.*torch\.float64"):
            predict_labels(model, voxels(*shape), native(shape, (1, 1, 1)))


def test_training_mode_is_refused(make):
    with pytest.raises(ValueError, match=r"model\.eval\(\)"):
        predict_labels(make().train(), voxels(8, 32, 32), native((8, 32, 32), (1, 1, 1)))


def test_monai_is_needed_for_large_inputs_alone(make, monkeypatch):
    monkeypatch.setitem(sys.modules, "monai.inferers", None)
    predict_labels(make(), voxels(8, 32, 32), native((8, 32, 32), (1, 1, 1)))
    with pytest.raises(ImportError, match="pip install monai"):
        predict_labels(make(), voxels(9, 32, 32), native((9, 32, 32), (1, 1, 1)))
