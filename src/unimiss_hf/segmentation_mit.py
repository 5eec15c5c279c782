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
from .segmentation_loss_mit import check_label_map, deep_supervision_loss


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

    A pretraining checkpoint brings the encoder and the decoder; `segmenter` and `auxiliary_heads`
    are new. The auxiliary heads score the decoder's coarser maps and are computed in training
    alone. They are saved, so that training can go on; to be rid of them, load the model with
    `deep_supervision=False` and save it again.

    Raises:
        ValueError: If the config has fewer than two labels or ignores one of them.

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
        if config.num_labels < 2:
            raise ValueError(
                f"num_labels is {config.num_labels}; the background is a class too, so at least 2 "
                "are needed."
            )
        if 0 <= config.semantic_loss_ignore_index < config.num_labels:
            raise ValueError(
                f"semantic_loss_ignore_index is {config.semantic_loss_ignore_index}, which is one "
                f"of the num_labels={config.num_labels} classes. Set it to a label that none has."
            )
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
            output_attentions: Whether to return each block's attention weights (eager only).
            output_hidden_states: Whether to return the feature maps.
            **kwargs: `return_dict=False` returns a tuple.

        Returns:
            `loss` when `labels` are given: Dice loss plus cross-entropy (MONAI's), in training the
            weighted mean over the head's and the auxiliary heads' logits; `logits`
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
        if labels is not None:
            check_label_map(
                labels,
                (len(pixel_values), *size),
                self.config.num_labels,
                self.config.semantic_loss_ignore_index,
            )
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

    def _loss(
        self, logits: torch.Tensor, decoded: list[torch.Tensor], labels: torch.Tensor
    ) -> torch.Tensor:
        supervised = [logits]
        if self.training and self.auxiliary_heads is not None:
            coarser = [head(m) for head, m in zip(self.auxiliary_heads, decoded, strict=True)]
            supervised.extend(reversed(coarser))
        return deep_supervision_loss(
            supervised, labels.to(logits.device), self.config.semantic_loss_ignore_index
        )


__all__ = ["MiTForSemanticSegmentation"]
