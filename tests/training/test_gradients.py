import pytest
import torch
from torch import nn

from unimiss_hf.training import gradients
from unimiss_hf.training.gradients import average_gradients_, clip_each_


def with_gradient(*values: float, dtype: torch.dtype = torch.float32) -> nn.Parameter:
    parameter = nn.Parameter(torch.zeros(len(values), dtype=dtype))
    parameter.grad = torch.tensor(values, dtype=dtype)
    return parameter


# -------------------------------------------------------------------------------- clipping


def test_each_gradient_is_clipped_on_its_own():
    # norms 5 and 0.05
    long, short = with_gradient(3.0, -4.0), with_gradient(0.03, 0.04)
    norms = clip_each_([long, short], 0.5)
    torch.testing.assert_close(norms, torch.tensor([5.0, 0.05]))
    factor = 0.5 / (5.0 + 1e-6)
    torch.testing.assert_close(long.grad, torch.tensor([3 * factor, -4 * factor]))
    assert torch.equal(short.grad, torch.tensor([0.03, 0.04]))


def test_the_small_number_counts_at_small_norms():
    parameter = with_gradient(3e-6, 4e-6)
    clip_each_([parameter], 3e-6)
    # 3e-6 / (5e-6 + 1e-6) = 1/2
    torch.testing.assert_close(parameter.grad, torch.tensor([1.5e-6, 2e-6]), rtol=1e-5, atol=0)


def test_clipping_is_the_formula_for_any_shape_and_type():
    shapes = [(4, 3, 2), (), (7,), (2, 5)]
    dtypes = [torch.float32, torch.float64, torch.float32, torch.bfloat16]
    parameters = [
        nn.Parameter(torch.zeros(shape, dtype=dtype))
        for shape, dtype in zip(shapes, dtypes, strict=True)
    ]
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape).to(parameter.dtype)
    before = [parameter.grad.clone() for parameter in parameters]
    norms = clip_each_(parameters, 0.3)
    for parameter, gradient, norm in zip(parameters, before, norms, strict=True):
        expected = gradient.double().norm()
        assert norm.item() == pytest.approx(expected.item(), rel=1e-5)
        factor = min(1.0, 0.3 / (expected.item() + 1e-6))
        torch.testing.assert_close(parameter.grad, (gradient.double() * factor).to(gradient.dtype))


def test_parameters_without_a_gradient_are_left_out():
    missing = nn.Parameter(torch.zeros(2))
    norms = clip_each_(iter([missing, with_gradient(3.0, 4.0), missing]), 1.0)
    torch.testing.assert_close(norms, torch.tensor([5.0]))
    assert missing.grad is None
    assert clip_each_([missing], 1.0).shape == (0,)


@pytest.mark.parametrize("max_norm", [None, 0, 0.0])
def test_measuring_only(max_norm):
    parameter = with_gradient(3.0, 4.0)
    assert clip_each_([parameter], max_norm).tolist() == [5.0]
    assert parameter.grad.tolist() == [3.0, 4.0]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_returned_and_left(value):
    bad, good = with_gradient(1.0, value), with_gradient(3.0, 4.0)
    norms = clip_each_([bad, good], 0.5)
    torch.testing.assert_close(norms, torch.tensor([value, 5.0]), equal_nan=True)
    torch.testing.assert_close(bad.grad, torch.tensor([1.0, value]), equal_nan=True)
    assert good.grad.norm().item() == pytest.approx(0.5, rel=1e-5)


def test_half_precision_norms_do_not_overflow():
    parameter = with_gradient(*[60_000.0] * 4, dtype=torch.float16)
    norms = clip_each_([parameter], 1.0)
    torch.testing.assert_close(norms, torch.tensor([119_936.0]), rtol=1e-3, atol=0)
    assert parameter.grad.tolist() == pytest.approx([0.5] * 4, rel=1e-2)


def test_a_negative_norm():
    with pytest.raises(ValueError, match=r"-0\.3"):
        clip_each_([with_gradient(1.0)], -0.3)


# -------------------------------------------------------------------------------- averaging


# Two processes with half a batch each; the 3D layer takes no part. Small buckets: one gradient
# is larger than a bucket, others share one. Then gradients that are split over both processes are
# clipped, one of which has a single row. Then one process lacks a gradient.
AVERAGING = """
import sys
import torch.distributed as distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

rank, rendezvous = int(sys.argv[1]), sys.argv[2]
distributed.init_process_group("gloo", f"file://{rendezvous}", rank=rank, world_size=2)

def mean(tensor):
    tensor = tensor.clone()
    distributed.all_reduce(tensor)
    return tensor / 2

torch.manual_seed(0)
model = torch.nn.ModuleDict({
    "volume": torch.nn.Conv3d(1, 2, 3),
    "first": torch.nn.Linear(6, 5),
    "last": torch.nn.Linear(5, 3).double(),
})
batch = torch.randn(8, 6)

def gradients(samples):
    model.zero_grad()
    model["last"](model["first"](samples).tanh().double()).square().mean().backward()
    return [parameter.grad for parameter in model.parameters()]

expected = [None if g is None else g.clone() for g in gradients(batch)]
gradients(batch[4 * rank : 4 * rank + 4])
average_gradients_(model.parameters(), mean, bucket_elements=20)
for parameter, gradient in zip(model.parameters(), expected, strict=True):
    assert (parameter.grad is None) == (gradient is None)
    if gradient is not None:
        torch.testing.assert_close(parameter.grad, gradient)
print("equal")
mesh = init_device_mesh("cpu", (2,))
split = [torch.nn.Parameter(distribute_tensor(torch.zeros(n, 2), mesh, [Shard(0)])) for n in (3, 1)]
for parameter, value in zip(split, (2.0, 0.1), strict=True):
    whole = torch.full(parameter.shape, value)
    parameter.grad = distribute_tensor(whole, mesh, [Shard(0)])
print([round(norm, 4) for norm in clip_each_(split, 1.0).tolist()])
print([round(parameter.grad.full_tensor()[-1, -1].item(), 4) for parameter in split])
if rank == 1:
    model["first"].bias.grad = None
try:
    average_gradients_(model.parameters(), mean)
except RuntimeError as error:
    print(error)
distributed.destroy_process_group()
"""


def test_two_processes_average_and_clip_as_one_does(start, monkeypatch, tmp_path):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    processes = [start(gradients, AVERAGING, rank, tmp_path / "rendezvous") for rank in range(2)]
    results = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], results
    for (output, _), here in zip(results, ["has one", "has none"], strict=True):
        equal, norms, clipped, mismatch = output.splitlines()
        assert equal == "equal"
        # the square roots of 6 * 2² and of 2 * 0.1²; a gradient of norm 1, and one left as it was
        assert (norms, clipped) == ("[4.899, 0.1414]", "[0.4082, 0.1]")
        # Both are told, so that neither waits for the other.
        assert mismatch.startswith("1 of 6 parameters have a gradient in some processes only")
        assert f"number 3 of shape (5,) ({here} here)" in mismatch


def test_gradients_are_joined_up_to_the_bucket_size():
    parameters = [with_gradient(*range(n)) for n in (3, 4, 9, 2)]
    parameters.insert(1, nn.Parameter(torch.zeros(5)))
    sizes = []

    def halve(tensor):
        sizes.append(tensor.numel())
        # The first exchange compares which gradients are there.
        return tensor if len(sizes) == 1 else tensor / 2

    average_gradients_(iter(parameters), halve, bucket_elements=7)
    assert sizes == [5, 7, 9, 2]
    present = [parameter for parameter in parameters if parameter.grad is not None]
    for parameter in present:
        assert torch.equal(parameter.grad, torch.arange(float(parameter.numel())) / 2)


def test_gradients_in_other_memory_order():
    parameter = nn.Parameter(torch.zeros(2, 3, 4, 5).to(memory_format=torch.channels_last))
    parameter.grad = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    before = parameter.grad.clone()
    average_gradients_([parameter], lambda tensor: tensor.clone())
    assert torch.equal(parameter.grad, before)


def test_no_parameters_and_no_gradients():
    average_gradients_([], torch.clone)
    average_gradients_([nn.Parameter(torch.zeros(2))], torch.clone)


def test_a_bucket_holds_something():
    with pytest.raises(ValueError, match="bucket_elements is 0"):
        average_gradients_([with_gradient(1.0)], torch.clone, bucket_elements=0)
