"""What follows the gradients of a step: clip, optimise the student, move the teacher."""

import math
from collections.abc import Callable

import torch

from ..modeling_mit import MiTForPreTraining
from ..training.gradients import clip_each_
from ..training.optimizers import parameter_groups, set_hyperparameters
from .distillation import update_teacher


def make_optimizer(student: MiTForPreTraining) -> torch.optim.AdamW:
    """Make the fused AdamW of the recipe: no decay on biases and 1-D parameters.

    Learning rate and weight decay are set anew at each step.
    """
    return torch.optim.AdamW(parameter_groups(student, weight_decay=0.0), lr=0.0, fused=True)


class NonFiniteGradientError(RuntimeError):
    """A gradient is not a number; nothing has been updated with it."""


class StudentUpdate:
    """Ends a step in the official order: clip, drop the prototypes' gradient, AdamW, teacher.

    Args:
        student: The model whose gradients have been accumulated.
        teacher: Its moving average.
        optimizer: Takes the step; [`make_optimizer`] by default.
        gradient_clip: Norm to which each parameter's gradient is clipped on its own; `None` leaves
            gradients as they are.
        before_clipping: Called once the gradients are there: averages them over processes, undoes
            the scaling of mixed precision.
        passes_over_non_finite: Whether the optimiser leaves out steps whose gradients are not
            finite, as scaling for fp16 does.
    """

    def __init__(
        self,
        student: MiTForPreTraining,
        teacher: MiTForPreTraining,
        optimizer: torch.optim.Optimizer | None = None,
        gradient_clip: float | None = 0.3,
        before_clipping: Callable[[], None] = lambda: None,
        passes_over_non_finite: bool = False,
    ):
        self.student = student
        self.teacher = teacher
        self.optimizer = optimizer or make_optimizer(student)
        self.gradient_clip = gradient_clip
        self.before_clipping = before_clipping
        self.passes_over_non_finite = passes_over_non_finite

    def __call__(
        self,
        learning_rate: float,
        weight_decay: float,
        teacher_momentum: float,
        prototypes_frozen: bool = False,
    ) -> torch.Tensor:
        """Update student and teacher, and clear the gradients.

        Parameters without a gradient, such as the volume-only ones after a step on images, are
        neither moved nor decayed.

        Returns:
            The norm of each gradient before clipping.

        Raises:
            NonFiniteGradientError: If a gradient is not finite, unless the optimiser passes over
                such steps. Nothing has been moved then, and the gradients are cleared.
        """
        norms = self.clip()
        self.require_finite(norms.norm().item())
        self.step(learning_rate, weight_decay, teacher_momentum, prototypes_frozen)
        return norms

    def clip(self) -> torch.Tensor:
        """Finish and clip the gradients: what comes first, and waits for no device.

        Returns:
            The norm of each gradient before clipping.
        """
        self.before_clipping()
        return clip_each_(self.student.parameters(), self.gradient_clip)

    def require_finite(self, norm: float) -> None:
        """Look at the norm of all gradients before a step is taken with them.

        Raises:
            NonFiniteGradientError: If it is not finite, unless the optimiser passes over such
                steps. The gradients are cleared.
        """
        if not self.passes_over_non_finite and not math.isfinite(norm):
            self.optimizer.zero_grad(set_to_none=True)
            raise NonFiniteGradientError("A gradient is not finite.")

    def step(
        self,
        learning_rate: float,
        weight_decay: float,
        teacher_momentum: float,
        prototypes_frozen: bool = False,
    ) -> None:
        """Update student and teacher with the clipped gradients, and clear these."""
        if prototypes_frozen:
            self.student.projection_head.prototypes.weight.grad = None
        set_hyperparameters(self.optimizer, learning_rate, weight_decay)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        update_teacher(self.teacher, self.student, teacher_momentum)
