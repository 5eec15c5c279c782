"""MiT with a classifier on its class token, for radiographs and CT volumes alike."""

import torch
from torch import nn
from transformers.modeling_outputs import ImageClassifierOutput
from transformers.utils.generic import can_return_tuple

from .configuration_mit import MiTConfig
from .modeling_mit import MiTModel, MiTPreTrainedModel


class MiTForImageClassification(MiTPreTrainedModel):
    """MiT encoder with layer norm, dropout and a linear layer on its class token.

    What the labels mean is told by `config.problem_type`; where that is `None` it is set by the
    first labels seen, as everywhere in transformers: one output is a regression, integer labels are
    one class a sample, floating-point labels are several classes a sample.

    A pretraining checkpoint brings the encoder; `norm` and `classifier` are new.

    Example:

    ```python
    >>> import torch
    >>> from unimiss_hf import MiTConfig, MiTForImageClassification
    >>> model = MiTForImageClassification(MiTConfig.tiny(num_labels=3)).eval()
    >>> model(torch.rand(1, 1, 16, 96, 96)).logits.shape
    torch.Size([1, 3])
    ```
    """

    # The mean of the losses of a step's batches is the loss of the step, whatever the task.
    accepts_loss_kwargs = False

    def __init__(self, config: MiTConfig):
        super().__init__(config)
        self.encoder = MiTModel(config)
        self.norm = nn.LayerNorm(config.hidden_sizes[-1], eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.classifier_dropout_prob)
        self.classifier = nn.Linear(config.hidden_sizes[-1], config.num_labels)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        labels: torch.Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        **kwargs,
    ) -> ImageClassifierOutput:
        """Classify a batch of images or volumes.

        Args:
            pixel_values: As [`MiTModel`] takes them.
            labels: `(batch,)` int64 in [0, num_labels) for one class a sample;
                `(batch, num_labels)` floating point in [0, 1] for several classes a sample;
                `(batch, num_labels)` floating point for a regression, or `(batch,)` where
                `num_labels` is 1.
            output_attentions: Whether to return each block's attention weights (eager only).
            output_hidden_states: Whether to return the stem's and the stages' feature maps.
            **kwargs: `return_dict=False` returns a tuple.

        Returns:
            `loss` when `labels` are given: cross-entropy, binary cross-entropy of each class, or
            mean squared error, averaged; `logits` `(batch, num_labels)`; `hidden_states` and
            `attentions` as of [`MiTModel`].

        Raises:
            ValueError: If `pixel_values` or `labels` have a shape, type or value that is not taken.
        """
        self.config.require_trained(pixel_values.ndim - 2)
        encoded = self.encoder(
            pixel_values,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=True,
        )
        logits = self.classifier(self.dropout(self.norm(encoded.pooler_output)))
        return ImageClassifierOutput(
            loss=None if labels is None else self._loss(logits, labels.to(logits.device)),
            logits=logits,
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )

    def _loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        problem_type = self.config.problem_type or self._problem_type(labels)
        self._check_labels(problem_type, labels, len(logits))
        if logits.dtype in (torch.float16, torch.bfloat16):
            logits = logits.float()
        if problem_type == "single_label_classification":
            labels = labels.long()
        else:
            labels = labels.to(logits.dtype)
        # also writes the problem type into the config, by the same rules
        return self.loss_function(labels, logits, self.config)

    def _problem_type(self, labels: torch.Tensor) -> str:
        if self.config.num_labels == 1:
            return "regression"
        if labels.is_floating_point():
            return "multi_label_classification"
        return "single_label_classification"

    def _check_labels(self, problem_type: str, labels: torch.Tensor, batch_size: int) -> None:
        """Refuse labels that do not fit the problem type, by name."""
        num_labels = self.config.num_labels
        shapes, has_type = [(batch_size, num_labels)], labels.is_floating_point()
        if problem_type == "single_label_classification":
            wanted = f"int64 labels in [0, {num_labels})"
            shapes, has_type = [(batch_size,)], labels.dtype in (torch.int32, torch.int64)
            in_range = (labels >= 0) & (labels < num_labels)
        elif problem_type == "multi_label_classification":
            wanted = "floating-point labels in [0, 1]"
            in_range = (labels >= 0) & (labels <= 1)
        else:
            wanted, in_range = "finite floating-point labels", labels.isfinite()
            if num_labels == 1:
                shapes.append((batch_size,))

        if tuple(labels.shape) not in shapes:
            fault = f"have shape {tuple(labels.shape)}"
        elif not has_type:
            fault = f"have type {labels.dtype}"
        elif not in_range.all():
            fault = f"hold {labels[~in_range][0].item()}"
        else:
            return
        raise ValueError(
            f"labels {fault}; problem_type={problem_type!r} and num_labels={num_labels} need "
            f"{wanted} of shape {' or '.join(map(str, shapes))}. For another task, set "
            f"config.problem_type and config.num_labels."
        )


__all__ = ["MiTForImageClassification"]
