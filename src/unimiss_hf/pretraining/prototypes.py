"""Comparing a batch with the prototypes: their norms taken once, their gradient made once."""

import torch
from torch.nn import functional

from ..modeling_mit import MiTPrototypes
from ..training.sharding import mean_like, whole

_EPSILON = 1e-12


class PrototypeComparison:
    """The prototype layer over one batch, as one pass over its weight at the end.

    The layer compares a bottleneck `b` with each row `w` of the weight by `l = b · w / |w|`. So the
    weight, the model's largest parameter by far, need not be normalised: the inverse norms multiply
    the outputs. And with `g` the loss's gradient of the outputs, that of a row is
    `(Σ g b - w / |w| · Σ g l) / |w|`, sums over all rows of bottlenecks: `g`, `b` and `l` of each
    part of a batch are noted while gradients pass, and one matrix product serves all of them.

    Args:
        prototypes: The layer.
        with_gradient: Whether the prototypes get a gradient.
    """

    def __init__(self, prototypes: MiTPrototypes, with_gradient: bool):
        self._parameter = prototypes.weight
        self._weight = whole(prototypes.weight.detach())
        self._inverse_norms = torch.linalg.vector_norm(self._weight, dim=1).clamp_min_(_EPSILON)
        self._inverse_norms.reciprocal_()
        self._with_gradient = with_gradient
        self._noted: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []

    def logits(self, bottleneck: torch.Tensor) -> torch.Tensor:
        """Compare `(rows, projection_size)` with each prototype: `(rows, prototypes)`."""
        logits = functional.linear(bottleneck, self._weight) * self._inverse_norms
        if self._with_gradient and logits.requires_grad:
            rows, outputs = bottleneck.detach(), logits.detach()
            logits.register_hook(lambda gradient: self._noted.append((gradient, rows, outputs)))
        return logits

    @torch.no_grad()
    def add_gradient(self) -> None:
        """Add to the prototypes' gradient what the backward passes since the last call left."""
        if not self._noted:
            return
        gradients, bottlenecks, logits = (
            torch.cat(parts).to(self._weight.dtype) for parts in zip(*self._noted, strict=True)
        )
        self._noted.clear()
        along = (gradients * logits).sum(0).mul_(self._inverse_norms.square())
        gradient = (gradients * self._inverse_norms).T @ bottlenecks
        gradient.addcmul_(self._weight, along[:, None], value=-1)
        gradient = mean_like(gradient, self._parameter)
        if self._parameter.grad is None:
            self._parameter.grad = gradient
        else:
            self._parameter.grad.add_(gradient)
