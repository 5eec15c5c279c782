"""One step of self-distillation: the teacher first, then the student part by part.

The centres depend on the teacher alone, so all targets are known before the student runs. Then each
of its outputs is taken forward and at once backward, and gradients add up: the same numbers as in
one large graph, from a fraction of the memory.
"""

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from einops import rearrange, reduce

from ..modeling_mit import MiTForPreTraining
from ..training.sharding import own_part
from .objective import (
    IMAGE,
    SLICES,
    VOLUME,
    SelfDistillationObjective,
    Targets,
    Views,
    term_name,
)
from .prototypes import PrototypeComparison


@dataclass(frozen=True)
class StepReport:
    """What one batch told: tensors on the device, this process's share.

    Args:
        losses: Each loss term by name.
        entropies: The teacher's entropy in nats, for each term by name.
        mean_bottlenecks: The teacher's mean bottleneck of each output, `(projection_size,)`.
    """

    losses: dict[str, torch.Tensor]
    entropies: dict[str, torch.Tensor]
    mean_bottlenecks: dict[str, torch.Tensor]

    @property
    def loss(self) -> torch.Tensor:
        """The sum of all terms."""
        return torch.stack(list(self.losses.values())).sum()


@dataclass(frozen=True)
class _Part:
    """What goes through a network at once.

    Args:
        output: Which output of the network it makes.
        views: The numbers of the views whose samples `start …` are in it, one after the other.
        start: Index of the first sample.
        images: `(views * samples, 1 or 3, [depth,] height, width)`.
    """

    output: str
    views: tuple[int, ...]
    start: int
    images: torch.Tensor


def dimension_of(view: torch.Tensor) -> str:
    """Read `"2d"` or `"3d"` off a view's number of axes."""
    return "2d" if view.ndim == 4 else "3d"


def make_teacher(student: MiTForPreTraining) -> MiTForPreTraining:
    """Copy a student into a teacher that gets no gradient and drops nothing."""
    return copy.deepcopy(student).requires_grad_(False).eval()


@torch.no_grad()
def update_teacher(teacher: MiTForPreTraining, student: MiTForPreTraining, momentum: float) -> None:
    """Move the teacher towards the student: `momentum * teacher + (1 - momentum) * student`."""
    own, others = ([own_part(p) for p in model.parameters()] for model in (teacher, student))
    torch._foreach_lerp_(own, others, 1 - momentum)


class SelfDistillation:
    """Accumulates the gradients of the cross-dimension objective into the student.

    Args:
        student: The model that is trained.
        teacher: Its moving average; see [`make_teacher`].
        objective: Targets, losses and centre.
        forward: What to call in the student's place, when it is wrapped for several processes.
        backward: What to call with a loss, when gradients are scaled; `Tensor.backward` otherwise.
        autocast: Makes the context in which the prototypes are compared.
        samples_per_backward: How many samples of one view go forward and backward at once, and
            through the teacher; `None` takes the whole batch. Fewer need less memory and more time,
            and give the same numbers.
        slice_stride: Every how many slices of a volume one is seen in 2D, 1 for all. The first is
            drawn for each view of each batch with torch's random numbers. (UniMiSS sees all;
            UniMiSS+ every second one.)
    """

    def __init__(
        self,
        student: MiTForPreTraining,
        teacher: MiTForPreTraining,
        objective: SelfDistillationObjective,
        forward: Callable | None = None,
        backward: Callable[[torch.Tensor], None] = torch.Tensor.backward,
        autocast: Callable = nullcontext,
        samples_per_backward: int | None = None,
        slice_stride: int = 1,
    ):
        if samples_per_backward is not None and samples_per_backward < 1:
            raise ValueError(
                f"samples_per_backward is {samples_per_backward}; give 1 or more, or None for the "
                "whole batch."
            )
        if slice_stride < 1:
            raise ValueError(f"slice_stride is {slice_stride}; give 1, for all slices, or more.")
        self.student = student
        self.teacher = teacher
        self.objective = objective
        self.forward = forward or student
        self.backward = backward
        self.autocast = autocast
        self.samples_per_backward = samples_per_backward
        self.slice_stride = slice_stride

    def accumulate(
        self, views: Views, prototypes_frozen: bool = False, weight: float = 1.0
    ) -> StepReport:
        """Add one batch's gradients to the student's.

        Args:
            views: Two views of each sample, `(batch, 1 or 3, height, width)` or
                `(batch, 1, depth, height, width)` each.
            prototypes_frozen: Whether the prototypes get no gradient, as in the first epoch.
            weight: What the gradients are multiplied by: one over the batches of a step.

        Returns:
            The losses and what tells a collapse.

        Raises:
            ValueError: If the two views differ in shape, or have fewer slices than `slice_stride`.
        """
        if views[0].shape != views[1].shape:
            raise ValueError(
                f"The two views of a batch have shapes {tuple(views[0].shape)} and "
                f"{tuple(views[1].shape)}; they must be the same."
            )
        dimension = dimension_of(views[0])
        if dimension == "2d":
            readings = {IMAGE: views}
        else:
            slices = (self._chosen_slices(views[0]), self._chosen_slices(views[1]))
            readings = {VOLUME: views, SLICES: slices}

        targets, mean_bottlenecks = self._run_teacher(dimension, readings)
        losses = dict.fromkeys(targets.probabilities, 0.0)

        prototypes = PrototypeComparison(
            self.student.projection_head.prototypes, with_gradient=not prototypes_frozen
        )
        for part in self._parts(readings):
            with self.autocast():
                bottleneck = _bottleneck(self.forward, part.images, part.output)
                logits = prototypes.logits(bottleneck)
            shares: list[torch.Tensor] = []
            for view, rows in zip(part.views, logits.chunk(len(part.views)), strict=True):
                of_view = self.objective.losses(targets, part.output, view, rows, part.start)
                shares += of_view.values()
                for term, share in of_view.items():
                    losses[term] = losses[term] + share.detach()
            self.backward(weight * torch.stack(shares).sum())
        prototypes.add_gradient()

        return StepReport(
            losses={term_name(term): loss for term, loss in losses.items()},
            entropies={term_name(term): value for term, value in targets.entropies.items()},
            mean_bottlenecks=mean_bottlenecks,
        )

    def _parts(self, readings: dict[str, Views]) -> Iterator[_Part]:
        """Split a batch into what goes through a network at once, in as few parts as there is room.

        The largest is a view as all of its slices: two as part of theirs, or as volumes, are less.
        """
        for output, views in readings.items():
            together = ((0, 1),) if self._fit_together(output, views) else ((0,), (1,))
            size = self.samples_per_backward or len(views[0])
            for indices in together:
                for start in range(0, len(views[0]), size):
                    images = [views[index][start : start + size] for index in indices]
                    yield _Part(output, indices, start, torch.cat(images))

    def _fit_together(self, output: str, views: Views) -> bool:
        if output == IMAGE or views[0].shape != views[1].shape:
            return False
        if self.slice_stride > 1:
            return True
        # On a CPU, what two whole batches of volumes take would be kept beside what slices take. A
        # GPU is short of work before it is short of memory.
        has_room = self.samples_per_backward is not None or views[0].device.type != "cpu"
        return output == VOLUME and has_room

    def _chosen_slices(self, view: torch.Tensor) -> torch.Tensor:
        """Take every `slice_stride`-th slice of `(batch, 1, depth, height, width)`."""
        if self.slice_stride == 1:
            return view
        if view.shape[2] < self.slice_stride:
            raise ValueError(
                f"slice_stride is {self.slice_stride}, but the views, of shape "
                f"{tuple(view.shape)}, have {view.shape[2]} slices. Give at most that."
            )
        # On the CPU, whose random state a checkpoint holds, and which no GPU must wait for.
        first = int(torch.randint(self.slice_stride, ()))
        return view[:, :, first :: self.slice_stride]

    @torch.no_grad()
    def _run_teacher(
        self, dimension: str, readings: dict[str, Views]
    ) -> tuple[Targets, dict[str, torch.Tensor]]:
        prototypes = PrototypeComparison(
            self.teacher.projection_head.prototypes, with_gradient=False
        )
        pieces = defaultdict(list)
        with self.autocast():
            for part in self._parts(readings):
                bottleneck = _bottleneck(self.teacher, part.images, part.output)
                for view, rows in zip(part.views, bottleneck.chunk(len(part.views)), strict=True):
                    pieces[part.output, view].append(rows)
            bottlenecks = {key: torch.cat(rows) for key, rows in pieces.items()}
            # All at once, as the prototypes are larger than anything that is compared with them.
            rows = prototypes.logits(torch.cat(list(bottlenecks.values())))
        logits = dict(zip(bottlenecks, rows.chunk(len(bottlenecks)), strict=True))
        teacher_logits = {output: (logits[output, 0], logits[output, 1]) for output in readings}
        mean_bottlenecks = {
            output: torch.cat((bottlenecks[output, 0], bottlenecks[output, 1])).mean(0)
            for output in readings
        }
        return self.objective.targets(dimension, teacher_logits), mean_bottlenecks


def _bottleneck(model: Callable, view: torch.Tensor, output: str) -> torch.Tensor:
    """Project a view; for slices, average them, which the linear prototypes allow before them."""
    if output != SLICES:
        return model(view, output_logits=False).bottleneck
    slices = rearrange(view, "batch 1 depth height width -> (batch depth) 1 height width")
    bottlenecks = model(slices, output_logits=False).bottleneck
    return reduce(bottlenecks, "(batch depth) size -> batch size", "mean", batch=view.shape[0])
