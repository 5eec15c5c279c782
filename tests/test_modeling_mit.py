import copy

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoBackbone, AutoConfig, AutoModel, AutoModelForPreTraining

from unimiss_hf import MiTBackbone, MiTConfig, MiTForPreTraining, MiTModel

# The smallest sizes, odd ones, non-square ones, shallower and deeper than the native depth.
IMAGE_SIZES = [(32, 32), (33, 47), (64, 64), (65, 32), (50, 130), (224, 96), (111, 113)]
VOLUME_SIZES = [
    (4, 32, 32),
    (5, 33, 35),
    (8, 32, 32),
    (7, 64, 40),
    (16, 96, 96),
    (33, 37, 61),
    (40, 32, 96),
]


def image(batch=2, channels=3, size=(64, 64)):
    return torch.rand(batch, channels, *size)


def volume(batch=2, size=(8, 32, 32)):
    return torch.rand(batch, 1, *size)


@pytest.fixture
def model(small_config):
    return MiTForPreTraining(small_config).eval()


def test_parameter_counts_are_the_papers():
    def millions(parameters):
        return round(sum(parameter.numel() for parameter in parameters) / 1e6, 2)

    for config, encoder, backbone in (
        (MiTConfig.tiny(num_prototypes=8), 13.86, 20.38),
        (MiTConfig.small(num_prototypes=8), 28.52, 43.94),
    ):
        model = MiTForPreTraining(config)
        assert millions(model.encoder.parameters()) == encoder
        assert millions([*model.encoder.parameters(), *model.decoder.parameters()]) == backbone


@pytest.mark.parametrize("size", IMAGE_SIZES + VOLUME_SIZES, ids=str)
def test_any_size_goes_forward_and_backward(model, size):
    pixel_values = torch.rand(1, 3 if len(size) == 2 else 1, *size)
    output = model.train()(pixel_values, output_hidden_states=True)
    assert output.logits.shape == (1, 32)
    assert torch.isfinite(output.logits).all()
    stem, *stages = output.hidden_states
    in_plane = [-(-length // 2) for length in size[-2:]]
    assert list(stem.shape[2:]) == [*size[:-2], *in_plane]
    # the decoder climbs back through exactly the encoder's grids
    grids = [tuple(feature_map.shape[2:]) for feature_map in stages]
    assert grids[4:] == grids[2::-1]
    output.logits.sum().backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("size", [(64, 64), (40, 66), (8, 32, 32), (5, 33, 40)], ids=str)
def test_samples_do_not_see_each_other(model, size):
    pixel_values = torch.rand(3, 3 if len(size) == 2 else 1, *size)
    together = model(pixel_values).bottleneck
    alone = torch.cat([model(sample[None]).bottleneck for sample in pixel_values])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("pixel_values", "named"),
    [
        (torch.rand(1, 3, 31, 64), r"\(1, 3, 31, 64\) is smaller .*height >= 32"),
        (torch.rand(1, 1, 3, 32, 32), r"\(1, 1, 3, 32, 32\) is smaller .*depth >= 4"),
        (torch.rand(1, 1, 8, 32, 31), "width >= 32"),
        (torch.rand(1, 2, 64, 64), r"2 channels\. Taken are .*\(batch, 3 or 1"),
        (torch.rand(1, 3, 8, 32, 32), r"3 channels.*\(batch, 1, depth"),
        (torch.rand(64, 64), r"\(64, 64\) has 2 axes.*batch axis"),
        (torch.rand(3, 64, 64), "3 axes"),
        (torch.rand(1, 1, 1, 8, 32, 32), "6 axes"),
        (torch.ones(1, 3, 64, 64, dtype=torch.uint8), r"type torch.uint8.*MiTImageProcessor"),
    ],
    ids=lambda value: str(tuple(value.shape)) if isinstance(value, torch.Tensor) else "",
)
@pytest.mark.parametrize("model_class", [MiTModel, MiTBackbone, MiTForPreTraining])
def test_refuses_other_inputs_by_name(small_config, model_class, pixel_values, named):
    with pytest.raises(ValueError, match=named):
        model_class(small_config)(pixel_values)


def test_one_channel_stands_for_three_equal_ones():
    model = MiTForPreTraining(MiTConfig.tiny(num_prototypes=16)).double().eval()
    one = image(channels=1).double()
    with torch.no_grad():
        torch.testing.assert_close(
            model(one).logits, model(one.expand(-1, 3, -1, -1)).logits, rtol=1e-10, atol=1e-12
        )


def test_one_channel_costs_less_arithmetic_in_the_stem(small_config):
    from torch.utils.flop_counter import FlopCounterMode

    model = MiTModel(small_config).eval()
    counts = []
    for channels in (1, 3):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model.stem(image(channels=channels))
        counts.append(counter.get_total_flops())
    assert counts[0] * 3 == counts[1]


@pytest.mark.parametrize("pixel_values", [image(size=(40, 70)), volume()], ids=["2d", "3d"])
def test_eager_and_sdpa_agree(small_config, pixel_values):
    eager, sdpa = (
        MiTForPreTraining._from_config(
            copy.deepcopy(small_config), attn_implementation=implementation
        ).eval()
        for implementation in ("eager", "sdpa")
    )
    sdpa.load_state_dict(eager.state_dict())
    assert (eager.config._attn_implementation, sdpa.config._attn_implementation) == (
        "eager",
        "sdpa",
    )
    torch.testing.assert_close(
        eager(pixel_values).logits, sdpa(pixel_values).logits, rtol=1e-4, atol=1e-5
    )


def test_attentions_come_with_eager_and_are_refused_by_sdpa(small_config):
    eager = MiTForPreTraining._from_config(small_config, attn_implementation="eager").eval()
    attentions = eager(volume(), output_attentions=True).attentions
    assert len(attentions) == sum(small_config.depths) + sum(small_config.decoder_depths)
    # 4 x 8 x 8 patches and a class token ask; one reduced patch and the class token answer
    assert attentions[0].shape == (2, 1, 1 + 4 * 8 * 8, 1 + 1)
    for weights in attentions:
        torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights.sum(-1)))
    sdpa = MiTModel._from_config(small_config, attn_implementation="sdpa")
    with pytest.raises(ValueError, match='attn_implementation="eager"'):
        sdpa(volume(), output_attentions=True)


def test_outputs_of_the_encoder(small_config):
    model = MiTModel(small_config).eval()
    output = model(volume(), output_hidden_states=True)
    assert output.last_hidden_state.shape == (2, 1 + 1, 16)
    assert torch.equal(output.pooler_output, output.last_hidden_state[:, 0])
    assert [tuple(m.shape[1:]) for m in output.hidden_states] == [
        (4, 8, 16, 16),
        (8, 4, 8, 8),
        (8, 2, 4, 4),
        (16, 1, 2, 2),
        (16, 1, 1, 1),
    ]
    assert model(volume()).hidden_states is None
    assert isinstance(model(volume(), return_dict=False), tuple)


def test_backbone_returns_the_feature_maps_asked_for(small_config):
    small_config.out_features = ["stem", "stage2", "stage4"]
    backbone = MiTBackbone(small_config).eval()
    maps = backbone(image()).feature_maps
    assert [m.shape[1] for m in maps] == backbone.channels == [4, 8, 16]
    everything = backbone.encoder(image(), output_hidden_states=True).hidden_states
    assert [m.shape for m in maps] == [everything[i].shape for i in (0, 2, 4)]


def test_the_class_token_alone_is_the_same_as_with_all_tokens(model):
    for pixel_values in (image(), volume()):
        alone = model(pixel_values)
        whole = model(pixel_values, output_hidden_states=True)
        torch.testing.assert_close(alone.class_token, whole.class_token)
        assert alone.hidden_states is None


@pytest.mark.parametrize("pixel_values", [image(), volume()], ids=["2d", "3d"])
def test_gradient_checkpointing_changes_no_gradient(small_config, pixel_values):
    model = MiTForPreTraining(small_config).train()
    gradients = []
    for enable in (model.activation_checkpointing_disable, model.activation_checkpointing_enable):
        enable()
        model.zero_grad()
        model(pixel_values).logits.sum().backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], msg=name)


def test_each_dimension_trains_its_own_parameters(model):
    for pixel_values, other in ((image(), "3d"), (volume(), "2d")):
        model.zero_grad(set_to_none=True)
        model(pixel_values).logits.sum().backward()
        for name, parameter in model.named_parameters():
            assert (parameter.grad is None) == (f"_{other}" in name), name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("pixel_values", [image(size=(48, 80)), volume()], ids=["2d", "3d"])
def test_other_types_are_near_float32(model, dtype, pixel_values):
    with torch.no_grad():
        expected = model(pixel_values).bottleneck
        output = model.to(dtype)(pixel_values).bottleneck
    assert output.dtype == dtype
    torch.testing.assert_close(output.float(), expected, rtol=0, atol=0.05)


@pytest.mark.parametrize("pixel_values", [image(size=(48, 80)), volume()], ids=["2d", "3d"])
def test_compiles_in_one_graph(model, pixel_values):
    torch.compiler.reset()  # A second dimension would make sizes symbolic, which takes minutes.
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(pixel_values).logits, model(pixel_values).logits)


def test_stochastic_depth_drops_whole_branches(small_config):
    small_config.drop_path_rate = 0.5
    model = MiTModel(small_config)
    rates = [layer.drop_path.rate for stage in model.stages for layer in stage.layers]
    assert rates == pytest.approx([0.0, 0.125, 0.25, 0.375, 0.5])
    model.eval()
    assert torch.equal(model(image()).pooler_output, model(image()).pooler_output) is False
    same = image()
    assert torch.equal(model(same).pooler_output, model(same).pooler_output)
    model.train()
    assert not torch.equal(model(same).pooler_output, model(same).pooler_output)


# ------------------------------------------------------------------------ saving and loading


def test_saving_and_loading_is_exact(model, tmp_path):
    model.save_pretrained(tmp_path)
    loaded, info = MiTForPreTraining.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    for pixel_values in (image(), volume()):
        with torch.no_grad():
            assert torch.equal(loaded(pixel_values).logits, model(pixel_values).logits)


def test_every_class_opens_a_pretraining_checkpoint(model, tmp_path):
    model.save_pretrained(tmp_path)
    pixel_values = volume()
    with torch.no_grad():
        expected = model.encoder(pixel_values).pooler_output
        for opened in (
            AutoModel.from_pretrained(tmp_path),
            AutoModelForPreTraining.from_pretrained(tmp_path).encoder,
            MiTBackbone.from_pretrained(tmp_path).encoder,
        ):
            assert torch.equal(opened(pixel_values).pooler_output, expected)
    assert isinstance(AutoModel.from_pretrained(tmp_path), MiTModel)
    assert isinstance(AutoConfig.from_pretrained(tmp_path), MiTConfig)
    assert isinstance(AutoBackbone.from_config(model.config), MiTBackbone)


def test_missing_and_unknown_weights_are_reported(model, tmp_path):
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    lost = "encoder.stages.1.layers.0.mlp.up_projection.weight"
    del weights[lost]
    weights["encoder.stages.9.invented"] = torch.zeros(1)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    _, info = MiTForPreTraining.from_pretrained(tmp_path, output_loading_info=True)
    assert set(info["missing_keys"]) == {lost}
    assert set(info["unexpected_keys"]) == {"encoder.stages.9.invented"}
    _, info = MiTModel.from_pretrained(tmp_path, output_loading_info=True)
    assert set(info["missing_keys"]) == {lost.removeprefix("encoder.")}
    assert any("invented" in key for key in info["unexpected_keys"])


def test_an_encoder_checkpoint_reports_the_rest_as_missing(small_config, tmp_path):
    MiTModel(small_config).save_pretrained(tmp_path)
    _, info = MiTForPreTraining.from_pretrained(tmp_path, output_loading_info=True)
    assert info["missing_keys"]
    assert all(not key.startswith("encoder.") for key in info["missing_keys"])


def test_new_weights_are_drawn_for_every_parameter(small_config):
    for name, parameter in MiTForPreTraining(small_config).named_parameters():
        values = parameter.detach()
        if "norm.bias" in name or name.endswith(".bias"):
            assert (values == 0).all() or "mlp" in name, name
        elif "norm" in name:
            assert (values == 1).all(), name
        else:
            assert 1e-3 < values.std() < 2, name
