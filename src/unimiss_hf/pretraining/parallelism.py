"""How student, teacher and optimiser lie in the processes, by what Accelerate is told.

One process, several with whole copies (DDP; DeepSpeed's stage 0 is the same), or several that share
the parameters (FSDP2). All give the same arithmetic: each parameter's gradient is the mean over
processes, and a parameter without a gradient stays without one.
"""

import functools
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, DynamoBackend
from accelerate.utils.fsdp_utils import fsdp2_prepare_model
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, MixedPrecisionPolicy

from ..modeling_mit import MiTForPreTraining
from ..training.gradients import average_gradients_
from .update import make_optimizer


@dataclass(frozen=True)
class Placement:
    """Student, teacher and optimiser as they lie in the processes, and how to work with them.

    Args:
        student: The model that is trained.
        teacher: Its moving average.
        optimizer: Takes the student's steps.
        forward: What to call in the student's place.
        backward: What to call with a loss.
        autocast: Makes the context of the chosen precision.
        accumulating: Makes the context in which the backward passes of a step run.
        finish_gradients: Call it behind them: gradients are then means over processes, unscaled.
    """

    student: MiTForPreTraining
    teacher: MiTForPreTraining
    optimizer: torch.optim.Optimizer
    forward: Callable
    backward: Callable[[torch.Tensor], None]
    autocast: Callable[[], AbstractContextManager]
    accumulating: Callable[[], AbstractContextManager]
    finish_gradients: Callable[[], None]


def check_accelerator(accelerator: Accelerator) -> None:
    """Refuse what pretraining cannot run with, before anything is built.

    Raises:
        ValueError: If Accelerate is configured for something else than it can.
    """
    if accelerator.gradient_accumulation_steps != 1:
        raise ValueError(
            f"Accelerate is configured for {accelerator.gradient_accumulation_steps} gradient "
            "accumulation steps. Leave that at 1, and give --accumulation_2d and "
            "--accumulation_3d instead."
        )
    if accelerator.state.dynamo_plugin.backend != DynamoBackend.NO:
        raise ValueError(
            f"Accelerate is configured for dynamo_backend {accelerator.state.dynamo_plugin.backend}"
            ", which compiles the model as a whole and renames its weights. Leave that at 'no', "
            "and give --compile_blocks instead."
        )
    if accelerator.distributed_type == DistributedType.MEGATRON_LM:
        raise ValueError(
            "Accelerate is configured for Megatron-LM, which has no MiT. Pretraining runs on one "
            "process or on several with DDP, FSDP or DeepSpeed's stage 0."
        )
    if accelerator.distributed_type == DistributedType.FSDP:
        _check_fsdp(accelerator)
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        _check_deepspeed(accelerator.state.deepspeed_plugin.deepspeed_config)


def _check_fsdp(accelerator: Accelerator) -> None:
    plugin = accelerator.state.fsdp_plugin
    faults = []
    if plugin.fsdp_version != 2:
        faults.append(f"fsdp_version {plugin.fsdp_version}: give 2")
    if isinstance(plugin.cpu_offload, CPUOffloadPolicy):
        faults.append("fsdp_offload_params true: the teacher needs the student on its device")
    if plugin.activation_checkpointing:
        faults.append("fsdp_activation_checkpointing true: give --gradient_checkpointing instead")
    if accelerator.scaler is not None:
        faults.append("mixed precision fp16: use bf16, which needs no scaling")
    if faults:
        raise ValueError(
            f"Accelerate is configured for FSDP with {'; '.join(faults)}. "
            "examples/launch/fsdp.yaml is a configuration that runs."
        )


def _check_deepspeed(config: dict) -> None:
    stage = config.get("zero_optimization", {}).get("stage", 0)
    faults = []
    if stage != 0:
        # DeepSpeedZeroOptimizer.get_all_grad_tensors: no gradient becomes one of zeros.
        faults.append(
            f"ZeRO stage {stage}, which moves and decays parameters that have no gradient, as those"
            " of the other dimension have none: give stage 0, or use FSDP to share the parameters"
        )
    for name in ("fp16", "bf16"):
        if config.get(name, {}).get("enabled") is True:
            faults.append(
                f'{name}, which keeps no float32 weights: give "torch_autocast" in its place'
            )
    if config.get("torch_autocast", {}).get("dtype") == "float16":
        faults.append('"torch_autocast" with float16, which needs scaling: give bfloat16')
    if faults:
        raise ValueError(
            f"Accelerate is configured for DeepSpeed with {'; '.join(faults)}. "
            "examples/launch/deepspeed.yaml is a configuration that runs."
        )


def mean_over_processes(accelerator: Accelerator, tensor: torch.Tensor) -> torch.Tensor:
    """Average a tensor over processes; it may be overwritten."""
    if accelerator.num_processes == 1:
        return tensor
    return accelerator.reduce(tensor, reduction="mean")


def precision_of(accelerator: Accelerator) -> str:
    """Return the precision of forward passes: `"no"` (float32), `"bf16"` or `"fp16"`."""
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        autocast = accelerator.state.deepspeed_plugin.deepspeed_config.get("torch_autocast", {})
        return "bf16" if autocast.get("enabled") else "no"
    return accelerator.mixed_precision


def place(
    accelerator: Accelerator, student: MiTForPreTraining, teacher: MiTForPreTraining
) -> Placement:
    """Place student, teacher and an optimiser in the processes.

    Args:
        accelerator: One that [`check_accelerator`] lets pass.
        student: The same in all processes.
        teacher: Likewise.
    """
    if accelerator.distributed_type == DistributedType.FSDP:
        return _share(accelerator, student, teacher)
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        return _copy_with_deepspeed(accelerator, student, teacher)
    teacher = teacher.to(accelerator.device)
    wrapped = accelerator.prepare(student)
    student = accelerator.unwrap_model(wrapped)
    optimizer = accelerator.prepare(make_optimizer(student))

    def finish_gradients() -> None:
        _average(accelerator, student)
        accelerator.unscale_gradients(optimizer)

    return Placement(
        student,
        teacher,
        optimizer,
        forward=wrapped,
        backward=accelerator.backward,
        autocast=accelerator.autocast,
        # Gradients are averaged over processes once, when all of them are there.
        accumulating=functools.partial(accelerator.no_sync, wrapped),
        finish_gradients=finish_gradients,
    )


def _average(accelerator: Accelerator, student: MiTForPreTraining) -> None:
    if accelerator.num_processes > 1:
        average_gradients_(
            student.parameters(), functools.partial(mean_over_processes, accelerator)
        )


def _share(
    accelerator: Accelerator, student: MiTForPreTraining, teacher: MiTForPreTraining
) -> Placement:
    """Split all parameters over the processes (FSDP2).

    FSDP averages gradients itself, in each backward pass. The teacher is split as the student is,
    so that it follows part by part.
    """
    # Weights, gradients and their mean stay in float32, and autocast chooses the precision of each
    # operation, as it does without FSDP.
    accelerator.state.fsdp_plugin.mixed_precision_policy = MixedPrecisionPolicy()
    student, optimizer = accelerator.prepare(student, make_optimizer(student))
    teacher = fsdp2_prepare_model(accelerator, teacher)
    if not isinstance(student.projection_head.prototypes, FSDPModule):
        raise ValueError(
            "Accelerate is configured for FSDP without a unit for the prototypes, which are used "
            "outside of the model. Give fsdp_auto_wrap_policy TRANSFORMER_BASED_WRAP and "
            "fsdp_transformer_layer_cls_to_wrap MiTLayer,MiTPatchEmbedding,MiTPrototypes, as "
            "examples/launch/fsdp.yaml does."
        )
    # The class token is a view of the tokens, and nothing here writes into it.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    # No backward pass splits the teacher again, so its forward pass must.
    teacher.set_reshard_after_forward(True)
    return Placement(
        student,
        teacher,
        optimizer,
        forward=student,
        backward=accelerator.backward,
        autocast=accelerator.autocast,
        accumulating=nullcontext,
        finish_gradients=lambda: None,
    )


def _copy_with_deepspeed(
    accelerator: Accelerator, student: MiTForPreTraining, teacher: MiTForPreTraining
) -> Placement:
    """Wrap the student in DeepSpeed's engine, which at stage 0 keeps whole copies, as DDP does.

    Its backward pass runs without its exchange of gradients and its step not at all: that clips one
    norm over all parameters, and this recipe clips each on its own.
    """
    teacher = teacher.to(accelerator.device)
    optimizer = make_optimizer(student)
    engine, _ = accelerator.prepare(student, optimizer)
    autocast = nullcontext
    if precision_of(accelerator) == "bf16":
        autocast = functools.partial(torch.autocast, accelerator.device.type, dtype=torch.bfloat16)
    return Placement(
        student,
        teacher,
        optimizer,
        forward=engine,
        backward=engine.backward,
        autocast=autocast,
        accumulating=engine.no_sync,
        finish_gradients=functools.partial(_average, accelerator, student),
    )
