"""The pretraining step written straight down, to measure against and to check against."""

import torch
from torch.nn import functional

from unimiss_hf import MiTForPreTraining
from unimiss_hf.pretraining.objective import SelfDistillationObjective


class PlainStep:
    """One graph over all outputs, one backward pass, unfused optimiser, teacher by a loop."""

    def __init__(self, student: MiTForPreTraining, teacher: MiTForPreTraining):
        self.student = student
        self.teacher = teacher
        self.objective = SelfDistillationObjective(student.config.num_prototypes).to(student.device)
        parameters = list(student.parameters())
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.04},
                {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0},
            ],
            lr=1e-4,
            foreach=False,
        )

    def accumulate(self, views) -> float:
        dimension = "2d" if views[0].ndim == 4 else "3d"
        with torch.no_grad():
            teacher_logits = self.outputs(self.teacher, views)
        targets = self.objective.targets(dimension, teacher_logits)
        student_logits = self.outputs(self.student, views)
        loss = 0.0
        for output, logits_of_views in student_logits.items():
            for view, logits in enumerate(logits_of_views):
                loss = loss + sum(self.objective.losses(targets, output, view, logits).values())
        loss.backward()
        return loss.item()

    def __call__(self, views) -> float:
        loss = self.accumulate(views)
        with torch.no_grad():
            for parameter in self.student.parameters():
                if parameter.grad is not None:
                    parameter.grad.mul_((0.3 / (parameter.grad.norm() + 1e-6)).clamp(max=1))
            self.optimizer.step()
            self.optimizer.zero_grad()
            for old, new in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
                old.mul_(0.996).add_(new, alpha=1 - 0.996)
        return loss

    def outputs(self, model, views):
        if views[0].ndim == 4:
            return {
                "image": tuple(self.logits(model, view.expand(-1, 3, -1, -1)) for view in views)
            }
        return {
            "volume": tuple(self.logits(model, view) for view in views),
            "slices": tuple(self.slice_logits(model, view) for view in views),
        }

    def slice_logits(self, model, volume):
        slices = volume.transpose(1, 2).flatten(0, 1).expand(-1, 3, -1, -1)
        return self.logits(model, slices).unflatten(0, (len(volume), -1)).mean(1)

    @staticmethod
    def logits(model, pixel_values):
        encoded = model.encoder(pixel_values, output_hidden_states=True)
        class_token, _, _ = model.decoder(encoded.hidden_states, encoded.pooler_output[:, None])
        bottleneck = model.projection_head(class_token)
        prototypes = functional.normalize(model.projection_head.prototypes.weight, dim=1)
        return functional.linear(bottleneck, prototypes)
