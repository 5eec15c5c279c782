"""Switches for speed on a GPU that leave the method as it is."""

import torch
from torch import nn

from ..layers_mit import MiTLayer

# Each shape of tokens, in each mode, is a compiled graph of its own: two dimensions and the slices
# of a volume, seven stages, teacher and student, first and last block, a last smaller part of a
# batch, and with stochastic depth each block.
_COMPILED_GRAPHS = 1024


def compile_blocks(model: nn.Module, backend: str = "inductor") -> None:
    """Let `torch.compile` compile each transformer block of a model, in place.

    Blocks hold nearly all of the work and are alike, so that few graphs serve all of them. Each
    size of input and of a batch is compiled when it comes first, once; that takes minutes for a
    run on both dimensions. Names of weights stay, and outputs change by rounding alone.

    Args:
        model: Any MiT. If its parameters are to be split over processes, compile it first.
        backend: As `torch.compile` takes it.
    """
    limits = torch._dynamo.config
    limits.recompile_limit = max(limits.recompile_limit, _COMPILED_GRAPHS)
    limits.accumulated_recompile_limit = max(limits.accumulated_recompile_limit, _COMPILED_GRAPHS)
    # The random numbers of stochastic depth are to be those of a run that is not compiled.
    options = {"fallback_random": True} if backend == "inductor" else None
    for module in model.modules():
        if isinstance(module, MiTLayer):
            module.compile(backend=backend, dynamic=False, options=options)


def choose_float32_arithmetic(tf32: bool) -> None:
    """Choose how a GPU multiplies float32 matrices and convolves.

    Left to itself, torch multiplies matrices in float32 and convolves in TF32.

    Args:
        tf32: Whether to round their factors to TF32, 10 bits of mantissa instead of 23: several
            times faster, with errors like those of half precision.
    """
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
