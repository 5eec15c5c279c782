import math

import pytest
import torch

from unimiss_hf.pretraining.objective import (
    TERMS,
    ObjectiveSettings,
    SelfDistillationObjective,
    term_name,
)


def softmax(values):
    exponentials = [math.exp(value) for value in values]
    return [value / sum(exponentials) for value in exponentials]


def test_a_hand_worked_image_step():
    settings = ObjectiveSettings(
        teacher_temperature=0.5, student_temperature=2.0, centre_momentum=0.8
    )
    objective = SelfDistillationObjective(2, settings).double()
    objective.centre.copy_(torch.tensor([0.1, -0.1]))
    teacher = (torch.tensor([[1.0, 0.0]]).double(), torch.tensor([[0.5, 0.5]]).double())
    student = (torch.tensor([[0.0, 1.0]]).double(), torch.tensor([[2.0, 0.0]]).double())

    targets = objective.targets("2d", {"image": teacher})
    loss = sum(
        objective.losses(targets, "image", view, student[view])[("image", "image")]
        for view in range(2)
    )

    p0 = softmax([(1.0 - 0.1) / 0.5, (0.0 + 0.1) / 0.5])
    p1 = softmax([(0.5 - 0.1) / 0.5, (0.5 + 0.1) / 0.5])
    q0, q1 = softmax([0.0, 0.5]), softmax([1.0, 0.0])
    # the teacher's first view with the student's second, and the other way round
    crossed = [(p0, q1), (p1, q0)]
    expected = sum(-sum(p * math.log(q) for p, q in zip(*pair, strict=True)) for pair in crossed)
    assert loss.item() == pytest.approx(expected / 2)
    # centre <- 0.8 centre + 0.2 mean of both teacher outputs
    assert objective.centre.tolist() == pytest.approx([0.08 + 0.2 * 0.75, -0.08 + 0.2 * 0.25])


def test_the_centre_moves_behind_each_term_of_a_volume_step():
    objective = SelfDistillationObjective(4).double()
    torch.manual_seed(3)
    outputs = {name: tuple(torch.randn(2, 2, 4).double()) for name in ("volume", "slices")}
    targets = objective.targets("3d", outputs)

    centre = torch.zeros(4).double()
    for teacher, student in [
        ("volume", "volume"),
        ("volume", "slices"),
        ("slices", "slices"),
        ("slices", "volume"),
    ]:
        for view in range(2):
            expected = torch.softmax((outputs[teacher][view] - centre) / 0.04, -1)
            torch.testing.assert_close(targets.probabilities[(teacher, student)][view], expected)
        centre = 0.9 * centre + 0.1 * torch.cat(outputs[teacher]).mean(0)
    torch.testing.assert_close(objective.centre, centre)


def test_shares_of_samples_add_up_to_the_batch():
    objective = SelfDistillationObjective(8)
    outputs = {name: tuple(torch.randn(2, 5, 8)) for name in ("volume", "slices")}
    targets = objective.targets("3d", outputs)
    student = torch.randn(5, 8)
    whole = objective.losses(targets, "slices", 0, student)
    assert set(whole) == {("volume", "slices"), ("slices", "slices")}
    for term, loss in whole.items():
        parts = [
            objective.losses(targets, "slices", 0, student[start : start + 2], start)[term]
            for start in (0, 2, 4)
        ]
        torch.testing.assert_close(sum(parts), loss)


def test_entropies_lie_between_one_prototype_and_all_alike():
    objective = SelfDistillationObjective(16)
    flat = tuple(torch.zeros(2, 3, 16))
    sharp = tuple(torch.nn.functional.one_hot(torch.arange(6), 16).float().view(2, 3, 16) * 9)
    assert objective.targets("2d", {"image": flat}).entropies[("image", "image")] == pytest.approx(
        math.log(16)
    )
    objective.centre.zero_()
    assert objective.targets("2d", {"image": sharp}).entropies[("image", "image")] < 1e-6


def test_gradient_in_low_precision_is_taken_in_float32():
    objective = SelfDistillationObjective(8)
    targets = objective.targets("2d", {"image": tuple(torch.randn(2, 3, 8).bfloat16())})
    loss = objective.losses(targets, "image", 0, torch.randn(3, 8).bfloat16())
    assert loss[("image", "image")].dtype == torch.float32


def test_terms_are_named_by_teacher_and_student():
    assert [term_name(term) for term in TERMS["3d"]] == [
        "volume_to_volume",
        "volume_to_slices",
        "slices_to_slices",
        "slices_to_volume",
    ]


def test_what_is_missing_or_wrong_is_named():
    with pytest.raises(ValueError, match=r"3d step needs .*\['slices', 'volume'\], got \['image"):
        SelfDistillationObjective(4).targets("3d", {"image": tuple(torch.randn(2, 3, 4))})
    with pytest.raises(ValueError, match="teacher_temperature is 0"):
        ObjectiveSettings(teacher_temperature=0)
    with pytest.raises(ValueError, match="centre_momentum is 2"):
        ObjectiveSettings(centre_momentum=2)
