"""Started by `test_two_processes.py` in each process: half a batch each, gradients averaged.

    torchrun --nproc-per-node 2 two_processes.py TARGET

Writes the gradients and the centre that each process ends up with to `TARGET-RANK.safetensors`.
"""

import sys

import torch
from accelerate import Accelerator
from safetensors.torch import save_file

from small_pyramid import SMALLEST_PYRAMID
from unimiss_hf import MiTConfig, MiTForPreTraining
from unimiss_hf.pretraining.distillation import SelfDistillation, make_teacher
from unimiss_hf.pretraining.objective import SelfDistillationObjective
from unimiss_hf.training.gradients import average_gradients_

BATCH_SIZE = 4
SHAPES = {"2d": (1, 40, 48), "3d": (1, 5, 32, 40)}


def build() -> tuple[MiTForPreTraining, MiTForPreTraining]:
    torch.manual_seed(0)
    student = MiTForPreTraining(MiTConfig(**SMALLEST_PYRAMID)).double().train()
    return student, make_teacher(student)


def batch_of(dimension: str) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    shape = (BATCH_SIZE, *SHAPES[dimension])
    first, second = (torch.rand(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    return first, second


def gradients(student, objective, dimension) -> dict[str, torch.Tensor]:
    found = {
        f"{dimension}.{name}": parameter.grad.clone()
        for name, parameter in student.named_parameters()
        if parameter.grad is not None
    }
    return {**found, f"{dimension}.centre": objective.centre.clone()}


def main(target: str) -> None:
    accelerator = Accelerator(cpu=True)

    def mean(tensor):
        return accelerator.reduce(tensor, reduction="mean")

    student, teacher = build()
    wrapped = accelerator.prepare(student)
    objective = SelfDistillationObjective(student.config.num_prototypes, reduce_mean=mean).double()
    step = SelfDistillation(
        student, teacher, objective, forward=wrapped, backward=accelerator.backward
    )
    share = BATCH_SIZE // accelerator.num_processes
    rank = accelerator.process_index
    results = {}
    for dimension in SHAPES:
        own = tuple(view[rank * share : (rank + 1) * share] for view in batch_of(dimension))
        with accelerator.no_sync(wrapped):
            step.accumulate(own)
        average_gradients_(student.parameters(), mean)
        results |= gradients(student, objective, dimension)
        student.zero_grad()
    results["wrapped"] = torch.tensor(type(wrapped).__name__ == "DistributedDataParallel")
    save_file(results, f"{target}-{rank}.safetensors")
    accelerator.end_training()


if __name__ == "__main__":
    main(sys.argv[1])
