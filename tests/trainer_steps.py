"""Training by transformers' Trainer, as short as it can be."""

from pathlib import Path

import torch
from transformers import PreTrainedModel, Trainer, TrainingArguments


def step_of_two_batches(
    model: PreTrainedModel, pixel_values: torch.Tensor, labels: torch.Tensor, output: Path
) -> float:
    """Take one optimiser step of two batches, half of the samples each; return its loss."""
    samples = [
        {"pixel_values": sample, "labels": label}
        for sample, label in zip(pixel_values, labels, strict=True)
    ]
    arguments = TrainingArguments(
        output,
        max_steps=1,
        per_device_train_batch_size=len(samples) // 2,
        gradient_accumulation_steps=2,
        learning_rate=3e-3,
        use_cpu=True,
        disable_tqdm=True,
        report_to="none",
        save_strategy="no",
    )
    return Trainer(model, arguments, train_dataset=samples).train().training_loss
