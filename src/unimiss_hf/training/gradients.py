"""Gradients between backward pass and optimizer: clipped, averaged over processes."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, distributed
from torch.distributed.tensor import DTensor

_EPSILON = 1e-6


@torch.no_grad()
def clip_each_(parameters: Iterable[Tensor], max_norm: float | None) -> Tensor:
    """Clip each parameter's gradient on its own, by `min(1, max_norm / (norm + 1e-6))`.

    This is the clipping of DINO (Caron et al., 2021) and UniMiSS, unlike PyTorch's, which takes one
    norm over all parameters. Parameters without a gradient are left out. A gradient whose norm is
    not finite is left as it is, for the caller to see.

    Args:
        parameters: Any shapes, devices and floating-point types. Those that are split over
            processes are clipped by the norm of the whole, and all processes must call together.
        max_norm: Largest L2 norm of a gradient; `None` or 0 measures only.

    Returns:
        `(gradients,)`, the norms before clipping in the order of the parameters; of 16-bit
        gradients in float32.

    Raises:
        ValueError: If `max_norm` is negative.
    """
    if max_norm is not None and max_norm < 0:
        raise ValueError(f"max_norm is {max_norm}; give a positive norm, or None to clip nothing.")
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not gradients:
        return torch.zeros(0)
    norms: list[Tensor] = [torch.empty(0)] * len(gradients)
    for indices in _by_device_and_dtype(gradients):
        like = gradients[indices[0]]
        group = [gradients[index] for index in indices]
        if isinstance(like, DTensor):
            group = [gradient.to_local() for gradient in group]
        # The squares of half-precision gradients overflow.
        dtype = torch.float32 if group[0].dtype.itemsize < 4 else None
        group_norms = torch.stack(torch._foreach_norm(group, 2, dtype=dtype))
        if isinstance(like, DTensor):
            group_norms = _norms_of_wholes(group_norms, like)
        if max_norm:
            factors = (max_norm / (group_norms + _EPSILON)).clamp(max=1)
            factors = torch.where(group_norms.isfinite(), factors, 1)
            torch._foreach_mul_(group, list(factors.unbind()))
        for index, norm in zip(indices, group_norms.unbind(), strict=True):
            norms[index] = norm
    return torch.stack([norm.to(norms[0]) for norm in norms])


def _norms_of_wholes(norms_of_parts: Tensor, like: DTensor) -> Tensor:
    """Join the norms of this process's parts of tensors to those of the wholes, in one exchange."""
    # Squares of float32 norms can overflow.
    squares = norms_of_parts.double().square()
    for axis, placement in enumerate(like.placements):
        if placement.is_shard():
            distributed.all_reduce(squares, group=like.device_mesh.get_group(axis))
    return squares.sqrt().to(norms_of_parts.dtype)


@torch.no_grad()
def average_gradients_(
    parameters: Iterable[Tensor],
    reduce_mean: Callable[[Tensor], Tensor],
    bucket_elements: int = 2**25,
) -> None:
    """Average gradients over processes, once a step, in few exchanges.

    Any parameters may lack a gradient, as the volume-only ones do after a step on images, as long
    as they are the same ones in all processes. That is checked first, with one number a parameter.

    Args:
        parameters: The same ones, in the same order, in all processes.
        reduce_mean: Returns the mean of a tensor over all processes; may overwrite its argument.
        bucket_elements: Gradients are joined up to this many elements for one exchange; a larger
            gradient is exchanged alone.

    Raises:
        RuntimeError: In all processes, if a parameter has a gradient in some of them only.
        ValueError: If `bucket_elements` is less than 1.
    """
    if bucket_elements < 1:
        raise ValueError(f"bucket_elements is {bucket_elements}; give at least 1.")
    parameters = list(parameters)
    if not parameters:
        return
    _check_same_gradients(parameters, reduce_mean)
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    for bucket in _buckets(gradients, bucket_elements):
        mean = reduce_mean(torch.cat([gradient.reshape(-1) for gradient in bucket]))
        pieces = mean.split([gradient.numel() for gradient in bucket])
        torch._foreach_copy_(
            bucket, [piece.view_as(grad) for piece, grad in zip(pieces, bucket, strict=True)]
        )


def _check_same_gradients(
    parameters: list[Tensor], reduce_mean: Callable[[Tensor], Tensor]
) -> None:
    present = [parameter.grad is not None for parameter in parameters]
    # A mean of zeros and ones lies between them where processes differ, for all of them alike: so
    # all raise, and none waits for the others.
    fractions = reduce_mean(
        torch.tensor(present, dtype=torch.float32, device=parameters[0].device)
    ).tolist()
    differing = [index for index, value in enumerate(fractions) if 1e-6 < value < 1 - 1e-6]
    if differing:
        listed = ", ".join(
            f"{index} of shape {tuple(parameters[index].shape)} "
            f"({'has one' if present[index] else 'has none'} here)"
            for index in differing[:5]
        )
        raise RuntimeError(
            f"{len(differing)} of {len(parameters)} parameters have a gradient in some processes "
            f"only, so gradients cannot be averaged: number {listed}"
            f"{', ...' if len(differing) > 5 else ''}. All processes must run the same parts of "
            "the model in a step."
        )


def _buckets(gradients: list[Tensor], bucket_elements: int) -> Iterator[list[Tensor]]:
    for indices in _by_device_and_dtype(gradients):
        bucket, size = [], 0
        for index in indices:
            gradient = gradients[index]
            if bucket and size + gradient.numel() > bucket_elements:
                yield bucket
                bucket, size = [], 0
            bucket.append(gradient)
            size += gradient.numel()
        yield bucket


def _by_device_and_dtype(tensors: list[Tensor]) -> list[list[int]]:
    groups: dict[tuple[torch.device, torch.dtype], list[int]] = defaultdict(list)
    for index, tensor in enumerate(tensors):
        groups[tensor.device, tensor.dtype].append(index)
    return list(groups.values())
