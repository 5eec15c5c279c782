"""The cross-dimension self-distillation objective of UniMiSS.

Cross-entropy between a sharpened, centred teacher and a student, over crossed pairs of views
(DINO, arXiv:2104.14294, eq. 1-4), within and across the dimensions (UniMiSS, arXiv:2112.09356).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

IMAGE, VOLUME, SLICES = "image", "volume", "slices"

# Which output of the teacher each output of the student is compared with, as (teacher, student), in
# the order of the official code: the centre moves behind each of them.
TERMS: dict[str, tuple[tuple[str, str], ...]] = {
    "2d": ((IMAGE, IMAGE),),
    "3d": ((VOLUME, VOLUME), (VOLUME, SLICES), (SLICES, SLICES), (SLICES, VOLUME)),
}

Views = tuple[torch.Tensor, torch.Tensor]


def term_name(term: tuple[str, str]) -> str:
    """Name a loss term in logs, as `teacher_to_student`."""
    return f"{term[0]}_to_{term[1]}"


@dataclass(frozen=True)
class ObjectiveSettings:
    """Settings of the objective (DINO, table 8; UniMiSS, section 4.1)."""

    teacher_temperature: float = field(
        default=0.04, metadata={"help": "temperature of the teacher's softmax"}
    )
    student_temperature: float = field(
        default=0.1, metadata={"help": "temperature of the student's softmax"}
    )
    centre_momentum: float = field(
        default=0.9, metadata={"help": "share of the old centre kept at each use"}
    )

    def __post_init__(self):
        for name in ("teacher_temperature", "student_temperature"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0.")
        if not 0 <= self.centre_momentum <= 1:
            raise ValueError(f"centre_momentum is {self.centre_momentum}; it must lie in [0, 1].")


@dataclass(frozen=True)
class Targets:
    """What the student is to predict.

    Args:
        probabilities: For each term, the teacher's distribution for each of its two views,
            `(batch, prototypes)`.
        entropies: For each term, the mean entropy in nats of those distributions.
    """

    probabilities: dict[tuple[str, str], Views]
    entropies: dict[tuple[str, str], torch.Tensor]


class SelfDistillationObjective(nn.Module):
    """Targets from the teacher, losses for the student, and the centre between them.

    Args:
        num_prototypes: Length of the outputs compared, K.
        settings: Temperatures and the centre's momentum.
        reduce_mean: Averages a tensor over all processes.

    Example:

    ```python
    >>> objective = SelfDistillationObjective(num_prototypes=256)
    >>> teacher, student = torch.randn(2, 4, 256), torch.randn(2, 4, 256)  # two views of 4 images
    >>> targets = objective.targets("2d", {"image": (teacher[0], teacher[1])})
    >>> losses = objective.losses(targets, "image", view=0, logits=student[0])
    ```
    """

    centre: torch.Tensor

    def __init__(
        self,
        num_prototypes: int,
        settings: ObjectiveSettings | None = None,
        reduce_mean: Callable[[torch.Tensor], torch.Tensor] = lambda tensor: tensor,
    ):
        super().__init__()
        self.settings = settings or ObjectiveSettings()
        self.reduce_mean = reduce_mean
        self.register_buffer("centre", torch.zeros(num_prototypes))

    @torch.no_grad()
    def targets(self, dimension: str, teacher_logits: Mapping[str, Views]) -> Targets:
        """Turn all teacher outputs of a step into targets, moving the centre behind each term.

        Args:
            dimension: `"2d"` or `"3d"`; names the terms and their order.
            teacher_logits: For `"image"`, or for `"volume"` and `"slices"`, the teacher's outputs
                for the two views, `(batch, prototypes)` each.

        Raises:
            ValueError: If an output that the dimension's terms need is missing.
        """
        probabilities, entropies = {}, {}
        for term in TERMS[dimension]:
            if term[0] not in teacher_logits:
                raise ValueError(
                    f"A {dimension} step needs the teacher's outputs for "
                    f"{sorted({teacher for teacher, _ in TERMS[dimension]})}, got "
                    f"{sorted(teacher_logits)}."
                )
            views = [logits.to(self.centre.dtype) for logits in teacher_logits[term[0]]]
            log_probabilities = [
                torch.log_softmax((view - self.centre) / self.settings.teacher_temperature, dim=-1)
                for view in views
            ]
            probabilities[term] = tuple(view.exp() for view in log_probabilities)
            entropies[term] = -torch.stack(
                [
                    (p * log_p).sum(-1).mean()
                    for p, log_p in zip(probabilities[term], log_probabilities, strict=True)
                ]
            ).mean()
            batch_mean = self.reduce_mean(torch.cat(views).mean(0))
            self.centre.lerp_(batch_mean, 1 - self.settings.centre_momentum)
        return Targets(probabilities, entropies)

    def losses(
        self, targets: Targets, output: str, view: int, logits: torch.Tensor, start: int = 0
    ) -> dict[tuple[str, str], torch.Tensor]:
        """Cross-entropies in which one student output takes part.

        Args:
            targets: What `targets` returned for the batch.
            output: Which output of the student: `"image"`, `"volume"` or `"slices"`.
            view: Which view it is of, 0 or 1; it is compared with the teacher's other view.
            logits: `(samples, prototypes)`, for samples `start … start + samples` of the batch.
            start: Index of the first of these samples.

        Returns:
            Each term's share of the loss. The shares of both views and of all samples of a batch
            add up to the term's mean over them.
        """
        dtype = torch.promote_types(logits.dtype, torch.float32)
        log_student = torch.log_softmax(
            logits.to(dtype) / self.settings.student_temperature, dim=-1
        )
        losses = {}
        for term, probabilities in targets.probabilities.items():
            if term[1] == output:
                target = probabilities[1 - view]
                batch_size = target.shape[0]
                target = target[start : start + logits.shape[0]]
                # each of the two crossed pairs has half the weight
                losses[term] = -(target * log_student).sum() / (2 * batch_size)
        return losses
