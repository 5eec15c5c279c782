import pytest
import torch
from torch import nn

from unimiss_hf import MiTForPreTraining
from unimiss_hf.training.optimizers import parameter_groups, set_hyperparameters


def test_what_has_more_than_one_axis_is_decayed(small_config):
    model = MiTForPreTraining(small_config)
    decayed, others = parameter_groups(model, 0.04)
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert sorted(decayed["names"] + others["names"]) == sorted(parameters)
    for group in (decayed, others):
        assert len(group["names"]) == len(group["params"])
        for name, parameter in zip(group["names"], group["params"], strict=True):
            assert parameter is parameters[name]
            assert (parameter.ndim > 1) == (group is decayed)
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.04, 0.0)
    assert any("class_token" in name or "cls_token" in name for name in decayed["names"])


def test_frozen_parameters_are_left_out():
    model = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))
    model[0].requires_grad_(False)
    decayed, others = parameter_groups(model, 0.1)
    assert (decayed["names"], others["names"]) == ([], ["1.weight", "1.bias"])
    torch.optim.AdamW([decayed, others])


def test_a_bias_with_axes_is_not_decayed():
    model = nn.Module()
    model.bias = nn.Parameter(torch.zeros(2, 2))
    model.scale = nn.Parameter(torch.zeros(()))
    assert parameter_groups(model, 0.1)[1]["names"] == ["bias", "scale"]


def test_nothing_to_train():
    with pytest.raises(ValueError, match="Linear is trainable"):
        parameter_groups(nn.Linear(2, 2).requires_grad_(False), 0.1)


def test_only_the_decayed_group_gets_weight_decay():
    optimizer = torch.optim.AdamW(parameter_groups(nn.Linear(2, 2), 0.0), lr=0.0)
    set_hyperparameters(optimizer, 0.5, 0.4)
    assert [(g["lr"], g["weight_decay"]) for g in optimizer.param_groups] == [(0.5, 0.4), (0.5, 0)]


def test_a_step_decays_weights_alone():
    model = nn.Linear(2, 2)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.0), lr=0.0)
    set_hyperparameters(optimizer, 0.1, 0.5)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    # AdamW with zero gradients: weight * (1 - lr * weight decay)
    torch.testing.assert_close(model.weight.detach(), 0.95 * before["weight"])
    torch.testing.assert_close(model.bias.detach(), before["bias"])


def test_a_learning_rate_in_a_tensor_stays_there():
    rate = torch.tensor(0.0)
    optimizer = torch.optim.AdamW(parameter_groups(nn.Linear(2, 2), 0.0), lr=rate, foreach=False)
    set_hyperparameters(optimizer, 0.25, 0.0)
    assert all(isinstance(g["lr"], torch.Tensor) for g in optimizer.param_groups)
    assert [float(g["lr"]) for g in optimizer.param_groups] == [0.25, 0.25]


def test_groups_survive_saving():
    model = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.1))
    other = torch.optim.AdamW(parameter_groups(model, 0.3))
    other.load_state_dict(optimizer.state_dict())
    set_hyperparameters(other, 0.1, 0.2)
    assert [g["names"] for g in other.param_groups] == [["weight"], ["bias"]]
    assert [g["weight_decay"] for g in other.param_groups] == [0.2, 0.0]


def test_groups_of_other_origin():
    optimizer = torch.optim.AdamW(nn.Linear(2, 2).parameters())
    with pytest.raises(ValueError, match=r"Group 0 of AdamW.*parameter_groups"):
        set_hyperparameters(optimizer, 0.1, 0.1)


def test_each_factor_has_groups_of_its_own():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2), nn.Linear(2, 1))
    factors = {"0": 0.25, "1": 0.5, "2": 1.0}
    groups = parameter_groups(model, 0.1, lambda name: factors[name[0]])
    assert [(g["factor"], g["decayed"], g["names"]) for g in groups] == [
        (0.25, True, ["0.weight"]),
        (0.25, False, ["0.bias"]),
        (0.5, True, ["1.weight"]),
        (0.5, False, ["1.bias"]),
        (1.0, True, ["2.weight"]),
        (1.0, False, ["2.bias"]),
    ]


def test_layers_of_one_factor_share_groups():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2), nn.Linear(2, 1))
    groups = parameter_groups(model, 0.1, lambda name: 0.5 if name[0] == "1" else 1.0)
    assert [g["names"] for g in groups if g["factor"] == 1.0] == [
        ["0.weight", "2.weight"],
        ["0.bias", "2.bias"],
    ]


def test_without_factors_there_are_two_groups():
    assert [g["factor"] for g in parameter_groups(nn.Linear(2, 2), 0.1)] == [1.0, 1.0]


def test_a_learning_rate_is_multiplied_by_the_factors_and_decay_is_not():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    groups = parameter_groups(model, 0.0, lambda name: 0.25 if name[0] == "0" else 1.0)
    optimizer = torch.optim.AdamW(groups, lr=0.0)
    for _ in range(2):  # not multiplied again at the next step
        set_hyperparameters(optimizer, 0.4, 0.3)
        assert [(g["lr"], g["weight_decay"]) for g in optimizer.param_groups] == [
            (pytest.approx(0.1), 0.3),
            (pytest.approx(0.1), 0.0),
            (0.4, 0.3),
            (0.4, 0.0),
        ]


def test_frozen_parameters_have_no_factor():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    model[0].requires_grad_(False)
    groups = parameter_groups(model, 0.1, {"1.weight": 1.0, "1.bias": 1.0}.__getitem__)
    assert [g["names"] for g in groups] == [["1.weight"], ["1.bias"]]
