import copy

import pytest
import torch

from plain_step import PlainStep
from unimiss_hf import MiTForPreTraining
from unimiss_hf.pretraining.distillation import SelfDistillation, make_teacher, update_teacher
from unimiss_hf.pretraining.objective import SelfDistillationObjective
from unimiss_hf.pretraining.update import StudentUpdate

VIEWS = {
    "2d": lambda batch: tuple(torch.rand(2, batch, 1, 40, 64).double()),
    "3d": lambda batch: tuple(torch.rand(2, batch, 1, 5, 32, 48).double()),
}


@pytest.fixture
def student(small_config):
    return MiTForPreTraining(small_config).double().train()


def distil(student, teacher, **settings):
    objective = SelfDistillationObjective(student.config.num_prototypes).double()
    return SelfDistillation(student, teacher, objective, **settings)


def different_teacher(student):
    teacher = make_teacher(student)
    for parameter in teacher.parameters():
        parameter.add_(0.02 * torch.randn_like(parameter))
    return teacher


@pytest.mark.parametrize("samples_per_backward", [None, 1, 2])
@pytest.mark.parametrize("dimension", ["2d", "3d"])
def test_gradients_are_those_of_one_large_graph(student, dimension, samples_per_backward):
    teacher = different_teacher(student)
    views = VIEWS[dimension](3)

    plain = PlainStep(copy.deepcopy(student), teacher)
    plain.objective.double()
    expected_loss = plain.accumulate(views)
    step = distil(student, teacher, samples_per_backward=samples_per_backward)
    report = step.accumulate(views)

    assert report.loss.item() == pytest.approx(expected_loss, rel=1e-12)
    torch.testing.assert_close(step.objective.centre, plain.objective.centre)
    largest = max(p.grad.abs().max() for p in plain.student.parameters() if p.grad is not None)
    for (name, ours), theirs in zip(
        student.named_parameters(), plain.student.parameters(), strict=True
    ):
        assert (ours.grad is None) == (theirs.grad is None), name
        if ours.grad is not None:
            torch.testing.assert_close(
                ours.grad, theirs.grad, rtol=1e-9, atol=1e-12 * largest.item(), msg=name
            )


# Of the five slices, both views have as many with some of these seeds, and with some not.
@pytest.mark.parametrize("samples_per_backward", [None, 1])
@pytest.mark.parametrize(("stride", "seed"), [(2, 0), (2, 3), (3, 3), (3, 4)])
def test_a_stride_takes_part_of_the_slices(student, stride, seed, samples_per_backward):
    teacher, views = different_teacher(student), VIEWS["3d"](2)
    torch.manual_seed(seed)
    first = [int(torch.randint(stride, ())) for _ in views]

    class StridedSlices(PlainStep):
        def slice_logits(self, model, volume):
            index = [torch.equal(volume, view) for view in views].index(True)
            return super().slice_logits(model, volume[:, :, first[index] :: stride])

    plain = StridedSlices(copy.deepcopy(student), teacher)
    plain.objective.double()
    expected = plain.accumulate(views)
    step = distil(student, teacher, slice_stride=stride, samples_per_backward=samples_per_backward)
    torch.manual_seed(seed)
    assert step.accumulate(views).loss.item() == pytest.approx(expected, rel=1e-12)
    weight = "encoder.stem.embedding_2d.convolution.weight"
    torch.testing.assert_close(
        student.get_parameter(weight).grad, plain.student.get_parameter(weight).grad
    )


def test_the_first_slice_is_drawn(student):
    step = distil(student, make_teacher(student), slice_stride=3)
    view = torch.arange(7.0).reshape(1, 1, 7, 1, 1)
    drawn = {tuple(step._chosen_slices(view).flatten().tolist()) for _ in range(50)}
    assert drawn == {(0, 3, 6), (1, 4), (2, 5)}


def test_frozen_prototypes_get_no_gradient_and_change_no_other(student):
    teacher, views = different_teacher(student), VIEWS["3d"](2)
    gradients = []
    for frozen in (False, True):
        student.zero_grad(set_to_none=True)
        distil(student, teacher).accumulate(views, prototypes_frozen=frozen)
        gradients.append({n: p.grad for n, p in student.named_parameters() if p.grad is not None})
    assert set(gradients[0]) - set(gradients[1]) == {"projection_head.prototypes.weight"}
    for name, gradient in gradients[1].items():
        assert torch.equal(gradient, gradients[0][name]), name


def test_batches_of_a_step_add_up_with_their_weight(student):
    views = VIEWS["2d"](2)
    step = distil(student, make_teacher(student))
    step.accumulate(views)
    once = student.projection_head.mlp[0].weight.grad.clone()
    student.zero_grad()
    step.objective.centre.zero_()
    step.accumulate(views, weight=0.5)
    torch.testing.assert_close(student.projection_head.mlp[0].weight.grad, once / 2)


def test_the_teacher_gets_no_gradient_and_follows(student):
    teacher = make_teacher(student)
    assert not teacher.training
    distil(student, teacher).accumulate(VIEWS["2d"](2))
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    before = [p.clone() for p in teacher.parameters()]
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1.0)
    update_teacher(teacher, student, 0.9)
    for old, new in zip(before, teacher.parameters(), strict=True):
        torch.testing.assert_close(new, old + 0.1)


def test_an_update_in_2d_leaves_the_volume_weights_alone(student):
    teacher = make_teacher(student)
    update = StudentUpdate(student, teacher)
    before = {name: p.detach().clone() for name, p in student.named_parameters()}
    distil(student, teacher).accumulate(VIEWS["2d"](2))
    update(1e-3, 0.5, 0.9, prototypes_frozen=True)
    for name, parameter in student.named_parameters():
        stays = "_3d" in name or name == "projection_head.prototypes.weight"
        assert torch.equal(parameter, before[name]) == stays, name
        assert parameter.grad is None


def test_weight_decay_spares_biases_and_one_axis(student):
    update = StudentUpdate(student, make_teacher(student))
    for parameter in student.parameters():
        parameter.grad = torch.zeros_like(parameter)
    before = {name: p.detach().clone() for name, p in student.named_parameters()}
    update(0.1, 0.5, 0.9)
    for name, parameter in student.named_parameters():
        factor = 1 - 0.1 * 0.5 if parameter.ndim > 1 else 1
        torch.testing.assert_close(parameter.detach(), before[name] * factor, msg=name)


def test_wrong_calls_are_refused(student):
    with pytest.raises(ValueError, match="samples_per_backward is 0"):
        distil(student, make_teacher(student), samples_per_backward=0)
    with pytest.raises(ValueError, match="slice_stride is 0"):
        distil(student, make_teacher(student), slice_stride=0)
    with pytest.raises(ValueError, match=r"slice_stride is 6, but .* have 5 slices"):
        distil(student, make_teacher(student), slice_stride=6).accumulate(VIEWS["3d"](2))
    one, other = torch.rand(2, 1, 32, 32), torch.rand(3, 1, 32, 32)
    with pytest.raises(ValueError, match=r"\(2, 1, 32, 32\) and \(3, 1, 32, 32\)"):
        distil(student, make_teacher(student)).accumulate((one.double(), other.double()))
