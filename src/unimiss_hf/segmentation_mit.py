"""MiT with its U-decoder and a full-resolution head, for semantic segmentation.

One set of weights segments radiographs and CT volumes; the head, like the decoder, has
convolutions of its own for each dimension and shares all else.

Source: Xie, Zhang, Xia, Wu, "UniMiSS", ECCV 2022, arXiv:2112.09356.
"""

import torch
from torch import nn
from torch.nn import functional
from transformers import initialization as init
from transformers.modeling_outputs import SemanticSegmenterOutput
from transformers.utils.generic import can_return_tuple

from .configuration_mit import MiTConfig
from .layers_mit import MiTPatchEmbedding, MiTUpsampling
from .modeling_mit import MiTDecoder, MiTModel, MiTPreTrainedModel
from .segmentation_loss_mit import check_label_map, check_masks, deep_supervision_loss

MULTI_LABEL = "multi_label_classification"


class MiTPointwiseClassifier(nn.Conv1d):
    """1x1 convolution that scores each pixel or voxel, shared by both dimensions."""

    def __init__(self, in_channels: int, num_labels: int):
        super().__init__(in_channels, num_labels, 1)

    def forward(self, feature_map: torch.Tensor) -> torch.Tensor:
        """Score `(batch, channels, [depth,] height, width)`: logits instead of channels."""
        return super().forward(feature_map.flatten(2)).unflatten(2, feature_map.shape[2:])


class MiTSegmentationHead(nn.Module):
    """From the decoder's finest map to logits at the input's own resolution.

    The map is upsampled to the stem's resolution, the stem's map is added, a convolution joins the
    two, and every position is scored. The stem halved the plane alone; the logits are interpolated
    back over it, which, for a linear interpolation, is the same as scoring interpolated features,
    and cheaper.
    """

    def __init__(self, config: MiTConfig):
        super().__init__()
        width = config.stem_channels
        self.upsampling = MiTUpsampling(config.decoder_hidden_sizes[-1], width)
        self.convolution = MiTPatchEmbedding((width, width), width, 3, 1, 1, config)
        self.classifier = MiTPointwiseClassifier(width, config.num_labels)

    def forward(
        self, feature_map: torch.Tensor, stem_map: torch.Tensor, size: tuple[int, ...]
    ) -> torch.Tensor:
        """Return logits `(batch, num_labels, *size)`."""
        feature_map = self.upsampling(feature_map, tuple(stem_map.shape[2:])) + stem_map
        logits = self.classifier(self.convolution(feature_map))
        # (batch, labels, [depth,] height, width) -> (batch, labels [* depth], height, width)
        planes = logits.flatten(1, -3)
        # The stem is centred on every second pixel, from the first: those between are the means of
        # their neighbours, and behind the last there is at most one more.
        between = [2 * length - 1 for length in planes.shape[-2:]]
        planes = functional.interpolate(planes, between, mode="bilinear", align_corners=True)
        beyond = [have - wanted for have, wanted in zip(size[-2:], between, strict=True)]
        planes = functional.pad(planes, (0, beyond[1], 0, beyond[0]), mode="replicate")
        return planes.unflatten(1, logits.shape[1:-2])


class MiTForSemanticSegmentation(MiTPreTrainedModel):
    """MiT with its U-decoder and a segmentation head.

    Each pixel or voxel has one class, the first of which is the background. Where structures
    overlap, as the heart's and the lungs' shadows on a radiograph do, set
    `problem_type="multi_label_classification"`: then each class has a sigmoid of its own, there is
    no background, one class is enough, and no label is ignored.

    A pretraining checkpoint brings the encoder and the decoder; `segmenter` and `auxiliary_heads`
    are new. The auxiliary heads score the decoder's coarser maps and are computed in training
    alone. They are saved, so that training can go on; [`drop_auxiliary_heads`] is rid of them, and
    so is loading with `deep_supervision=False`.

    Raises:
        ValueError: If the config has too few labels, ignores one of them, or has a problem type
            that is none of segmentation.

    Example:

    ```python
    >>> import torch
    >>> from unimiss_hf import MiTConfig, MiTForSemanticSegmentation
    >>> model = MiTForSemanticSegmentation(MiTConfig.tiny(num_labels=3)).eval()
    >>> model(torch.rand(1, 1, 16, 96, 96)).logits.shape
    torch.Size([1, 3, 16, 96, 96])
    ```
    """

    # The mean of the losses of a step's batches is the loss of the step.
    accepts_loss_kwargs = False

    def __init__(self, config: MiTConfig):
        super().__init__(config)
        _check_classes(config)
        self.encoder = MiTModel(config)
        self.decoder = MiTDecoder(config)
        self.segmenter = MiTSegmentationHead(config)
        self.auxiliary_heads = None
        if config.deep_supervision:
            self.auxiliary_heads = nn.ModuleList(
                MiTPointwiseClassifier(width, config.num_labels)
                for width in config.decoder_hidden_sizes
            )
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, MiTPointwiseClassifier):
            # Few channels are scored: weights as small as a wide layer's would be slow to grow.
            init.normal_(module.weight, std=module.in_channels**-0.5)

    @property
    def is_multi_label(self) -> bool:
        """Whether a pixel or voxel may have several classes, or none."""
        return self.config.problem_type == MULTI_LABEL

    def drop_auxiliary_heads(self) -> "MiTForSemanticSegmentation":
        """Remove what only training needs, in place, so that it is not saved.

        Returns:
            The model itself, with `config.deep_supervision=False`; predictions stay the same.
        """
        self.auxiliary_heads = None
        self.config.deep_supervision = False
        return self

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        labels: torch.Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        **kwargs,
    ) -> SemanticSegmenterOutput:
        """Segment a batch of images or volumes.

        Args:
            pixel_values: As [`MiTModel`] takes them.
            labels: Class of each pixel or voxel, `(batch, [depth,] height, width)`, int64, in
                [0, num_labels) with 0 for the background, or `config.semantic_loss_ignore_index`.
                Of a multi-label model: a mask of each class,
                `(batch, num_labels, [depth,] height, width)`, floating point in [0, 1].
            output_attentions: Whether to return each block's attention weights (eager only).
            output_hidden_states: Whether to return the feature maps.
            **kwargs: `return_dict=False` returns a tuple.

        Returns:
            `loss` when `labels` are given: Dice loss plus cross-entropy (MONAI's; binary
            cross-entropy of a multi-label model), in training the weighted mean over the head's
            and the auxiliary heads' logits; `logits`
            `(batch, num_labels, [depth,] height, width)` at the input's size; `hidden_states`, the
            maps of the stem, the encoder's and the decoder's stages; `attentions` of each block.

        Raises:
            ValueError: If `pixel_values` or `labels` have a shape, type or value that is not taken.
            ImportError: If `labels` are given and MONAI is not installed.
        """
        output_attentions, output_hidden_states = self._wanted(
            output_attentions, output_hidden_states
        )
        pixel_values = self._check_pixel_values(pixel_values)
        size = tuple(pixel_values.shape[2:])
        self.config.require_trained(len(size))
        if labels is not None:
            self._check_labels(labels, (len(pixel_values), *size))
        encoded = self.encoder(
            pixel_values,
            output_attentions=output_attentions,
            output_hidden_states=True,
            return_dict=True,
        )
        _, decoded, attentions = self.decoder(encoded.hidden_states, encoded.pooler_output[:, None])
        logits = self.segmenter(decoded[-1], encoded.hidden_states[0], size)
        return SemanticSegmenterOutput(
            loss=None if labels is None else self._loss(logits, decoded, labels),
            logits=logits,
            hidden_states=(*encoded.hidden_states, *decoded) if output_hidden_states else None,
            attentions=(*encoded.attentions, *attentions) if output_attentions else None,
        )

    def _check_labels(self, labels: torch.Tensor, shape: tuple[int, ...]) -> None:
        classes = self.config.num_labels
        if self.is_multi_label:
            check_masks(labels, (shape[0], classes, *shape[1:]))
        else:
            check_label_map(labels, shape, classes, self.config.semantic_loss_ignore_index)

    def _loss(
        self, logits: torch.Tensor, decoded: list[torch.Tensor], labels: torch.Tensor
    ) -> torch.Tensor:
        supervised = [logits]
        if self.training and self.auxiliary_heads is not None:
            coarser = [head(m) for head, m in zip(self.auxiliary_heads, decoded, strict=True)]
            supervised.extend(reversed(coarser))
        ignored = None if self.is_multi_label else self.config.semantic_loss_ignore_index
        return deep_supervision_loss(supervised, labels.to(logits.device), ignored)


def _check_classes(config: MiTConfig) -> None:
    if config.problem_type == MULTI_LABEL:
        if config.num_labels < 1:
            raise ValueError(f"num_labels is {config.num_labels}; at least 1 class is needed.")
        return
    if config.problem_type not in (None, "single_label_classification"):
        raise ValueError(
            f"problem_type is {config.problem_type!r}; a segmentation's is "
            f"'single_label_classification' (or None), or {MULTI_LABEL!r} where structures overlap."
        )
    if config.num_labels < 2:
        raise ValueError(
            f"num_labels is {config.num_labels}; the background is a class too, so at least 2 are "
            f"needed. Classes without a background need problem_type={MULTI_LABEL!r}."
        )
    if 0 <= config.semantic_loss_ignore_index < config.num_labels:
        raise ValueError(
            f"semantic_loss_ignore_index is {config.semantic_loss_ignore_index}, which is one of "
            f"the num_labels={config.num_labels} classes. Set it to a label that none has."
        )


__all__ = ["MiTForSemanticSegmentation"]
