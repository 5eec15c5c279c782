"""MiT, the pyramid U-shaped medical transformer of UniMiSS, in PyTorch.

The dimension of an input is read from its tensor: 4 axes are a batch of 2D images, 5 axes a batch
of 3D volumes. One set of weights serves both; see `layers_mit.py` for where the two part.

Sources: Xie, Zhang, Xia, Wu, "UniMiSS", ECCV 2022, arXiv:2112.09356. Projection head after Caron
et al., "DINO", ICCV 2021, arXiv:2104.14294.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional
from transformers import initialization as init
from transformers.backbone_utils import BackboneMixin
from transformers.modeling_outputs import BackboneOutput, BaseModelOutputWithPooling
from transformers.modeling_utils import PreTrainedModel
from transformers.utils import ModelOutput
from transformers.utils.generic import can_return_tuple

from .configuration_mit import MiTConfig
from .layers_mit import (
    MiTInstanceNorm,
    MiTPatchEmbedding,
    MiTPositionEmbedding,
    MiTStage,
    MiTUpsampling,
    StageShape,
    to_feature_map,
)
from .pushing_mit import PushToHubMixin


@dataclass
class MiTForPreTrainingOutput(ModelOutput):
    """Output of [`MiTForPreTraining`].

    Args:
        logits: Cosine similarity of the bottleneck with each prototype, `(batch, prototypes)`;
            `None` when `output_logits=False`.
        bottleneck: L2-normalised bottleneck of the projection head, `(batch, projection_size)`.
        class_token: The decoder's class token, `(batch, decoder_hidden_sizes[-1])`.
        hidden_states: Feature maps of the stem, the encoder's and the decoder's stages, each
            `(batch, channels, [depth,] height, width)`. Asking for them computes the last
            decoder stage whole.
        attentions: Attention weights of each encoder and decoder block,
            `(batch, heads, queries, keys)`.
    """

    logits: torch.FloatTensor | None = None
    bottleneck: torch.FloatTensor | None = None
    class_token: torch.FloatTensor | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    attentions: tuple[torch.FloatTensor, ...] | None = None


class MiTEncoderStage(MiTStage):
    """Patch embedding, class token from the stage before, blocks."""

    def __init__(self, config: MiTConfig, index: int, drop_path_rates: list[float]):
        width = config.hidden_sizes[index]
        previous_width = config.hidden_sizes[index - 1] if index else config.stem_channels
        shape = StageShape(
            width,
            config.num_attention_heads[index],
            config.spatial_reduction_ratios[index],
            config.qkv_bias,
            config.layer_norm_eps,
        )
        native_grids = (config.native_grids(2)[index], config.native_grids(3)[index])
        super().__init__(config, shape, drop_path_rates, native_grids)
        self.patch_embedding = MiTPatchEmbedding(
            (previous_width, previous_width), width, 3, 2, 2, config
        )
        if index == 0:
            self.class_token = nn.Parameter(torch.zeros(1, 1, width))
            self.class_token_projection = None
        else:
            self.class_token = None
            self.class_token_projection = nn.Linear(previous_width, width)

    def forward(
        self, feature_map: torch.Tensor, class_token: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor | None]]:
        """Return the feature map, the tokens with the class token first, the attentions."""
        feature_map = self.patch_embedding(feature_map)
        if self.class_token_projection is None:
            class_token = self.class_token
        else:
            class_token = self.class_token_projection(class_token)
        hidden_states, attentions = self.run_layers(feature_map, class_token)
        feature_map = to_feature_map(hidden_states, tuple(feature_map.shape[2:]))
        return feature_map, hidden_states, attentions


class MiTDecoderStage(MiTStage):
    """Upsampling, skip connection, class token from the stage before, blocks."""

    def __init__(self, config: MiTConfig, index: int, drop_path_rates: list[float]):
        width = config.decoder_hidden_sizes[index]
        previous_width = (
            config.decoder_hidden_sizes[index - 1] if index else config.hidden_sizes[-1]
        )
        shape = StageShape(
            width,
            config.decoder_num_attention_heads[index],
            config.decoder_spatial_reduction_ratios[index],
            config.decoder_qkv_bias,
            config.decoder_layer_norm_eps,
        )
        skip_index = len(config.hidden_sizes) - 2 - index
        native_grids = (config.native_grids(2)[skip_index], config.native_grids(3)[skip_index])
        super().__init__(config, shape, drop_path_rates, native_grids)
        self.upsampling = MiTUpsampling(previous_width, width)
        self.class_token_projection = nn.Linear(previous_width, width)

    def forward(
        self,
        feature_map: torch.Tensor,
        skip: torch.Tensor,
        class_token: torch.Tensor,
        class_token_only: bool,
    ) -> tuple[torch.Tensor, list[torch.Tensor | None]]:
        """Return the tokens with the class token first, and the attentions."""
        upsampled = self.upsampling(feature_map, tuple(skip.shape[2:]))
        return self.run_layers(
            upsampled + skip, self.class_token_projection(class_token), class_token_only
        )


class MiTPreTrainedModel(PushToHubMixin, PreTrainedModel):
    """Weight initialisation, and what the library may do with every MiT."""

    config: MiTConfig
    config_class = MiTConfig
    base_model_prefix = "encoder"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    supports_gradient_checkpointing = True
    _no_split_modules = ("MiTLayer", "MiTPatchEmbedding")
    _supports_sdpa = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    # Beside the encoder, in one model or another.
    _parts = ("decoder", "projection_head", "norm", "classifier", "segmenter", "auxiliary_heads")

    def post_init(self) -> None:
        """Let loading pass over the parts of other models in a checkpoint, and nothing else."""
        super().post_init()
        absent = [part for part in self._parts if getattr(self, part, None) is None]
        self._keys_to_ignore_on_load_unexpected = {rf"^{part}\." for part in absent}

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        std = self.config.initializer_range
        if isinstance(module, nn.Linear):
            init.trunc_normal_(module.weight, std=std)
        elif isinstance(module, (nn.Conv2d, nn.Conv3d)):
            init.kaiming_normal_(module.weight, a=self.config.leaky_relu_slope)
        elif isinstance(module, (nn.ConvTranspose2d, nn.ConvTranspose3d)):
            # kernel = stride: each output voxel sums over the input channels alone
            init.normal_(module.weight, std=module.in_channels**-0.5)
            init.zeros_(module.bias)
        elif isinstance(module, MiTInstanceNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, MiTPositionEmbedding):
            init.trunc_normal_(module.table_2d, std=std)
            init.trunc_normal_(module.table_3d, std=std)
        elif isinstance(module, MiTEncoderStage) and module.class_token is not None:
            init.trunc_normal_(module.class_token, std=std)
        elif isinstance(module, MiTPrototypes):
            init.normal_(module.weight, std=module.weight.shape[1] ** -0.5)

    def _check_pixel_values(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Check a batch and bring it to the weights' type.

        Raises:
            ValueError: If its number of axes, channels or voxels, or its type, is not taken.
        """
        config, size = self.config, pixel_values.shape[2:]
        is_image = pixel_values.ndim == 4
        channels = {1, config.num_channels_2d} if is_image else {config.num_channels_3d}
        minimum = config.minimum_image_size if is_image else config.minimum_volume_size
        if pixel_values.ndim not in (4, 5):
            fault = f"has {pixel_values.ndim} axes; a single image needs a batch axis too"
        elif not pixel_values.is_floating_point():
            fault = (
                f"has type {pixel_values.dtype}; convert and scale it, as MiTImageProcessor does"
            )
        elif pixel_values.shape[1] not in channels:
            fault = f"has {pixel_values.shape[1]} channels"
        elif any(given < least for given, least in zip(size, minimum, strict=True)):
            fault = "is smaller than the pyramid can hold; pad or resample it"
        else:
            return pixel_values.to(self.dtype)
        raise ValueError(
            f"pixel_values of shape {tuple(pixel_values.shape)} {fault}. Taken are floating-point "
            f"tensors {self._taken_shapes()}."
        )

    def _taken_shapes(self) -> str:
        """Say in words which shapes are taken."""
        config = self.config
        images, volumes = (
            ", ".join(f"{axis} >= {length}" for axis, length in zip(axes, minimum, strict=True))
            for axes, minimum in (
                (("height", "width"), config.minimum_image_size),
                (("depth", "height", "width"), config.minimum_volume_size),
            )
        )
        return (
            f"(batch, {config.num_channels_2d} or 1, {images}) for 2D images, "
            f"(batch, {config.num_channels_3d}, {volumes}) for 3D volumes"
        )

    def _wanted(
        self, output_attentions: bool | None, output_hidden_states: bool | None
    ) -> tuple[bool, bool]:
        """Fill what is not given from the config, and refuse what cannot be had."""
        if output_attentions is None:
            output_attentions = bool(self.config.output_attentions)
        if output_hidden_states is None:
            output_hidden_states = bool(self.config.output_hidden_states)
        if output_attentions and self.config._attn_implementation != "eager":
            raise ValueError(
                f"output_attentions needs attention weights, which "
                f"attn_implementation={self.config._attn_implementation!r} never forms. Load the "
                'model with attn_implementation="eager".'
            )
        return output_attentions, output_hidden_states


def _rising_rates(rate: float, depths: list[int]) -> list[list[float]]:
    """Stochastic depth of each block of each stage, rising linearly from 0 to `rate`."""
    total = sum(depths)
    rates = iter([rate * index / max(1, total - 1) for index in range(total)])
    return [[next(rates) for _ in range(depth)] for depth in depths]


class MiTModel(MiTPreTrainedModel):
    """The bare MiT encoder, for 2D images and 3D volumes alike."""

    def __init__(self, config: MiTConfig):
        super().__init__(config)
        self.stem = MiTPatchEmbedding(
            (config.num_channels_2d, config.num_channels_3d),
            config.stem_channels,
            7,
            2,
            (1, 2, 2),
            config,
        )
        rates = _rising_rates(config.drop_path_rate, config.depths)
        self.stages = nn.ModuleList(
            [MiTEncoderStage(config, index, rates[index]) for index in range(len(config.depths))]
        )
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Return the stem."""
        return self.stem

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        **kwargs,
    ) -> BaseModelOutputWithPooling:
        """Encode a batch of images or volumes.

        Args:
            pixel_values: `(batch, 3 or 1, height, width)` or `(batch, 1, depth, height, width)`,
                floating point, any size from the config's minimum upwards.
            output_attentions: Whether to return each block's attention weights (eager only).
            output_hidden_states: Whether to return the stem's and the stages' feature maps.
            **kwargs: `return_dict=False` returns a tuple.

        Returns:
            `last_hidden_state` `(batch, 1 + patches, channels)`, the class token first;
            `pooler_output` `(batch, channels)`, the class token; `hidden_states`, the feature maps
            `(batch, channels, [depth,] height, width)`, finest first; `attentions`.

        Raises:
            ValueError: If `pixel_values` has a shape or type that is not taken.
        """
        output_attentions, output_hidden_states = self._wanted(
            output_attentions, output_hidden_states
        )
        feature_map = self.stem(self._check_pixel_values(pixel_values))
        feature_maps, attentions, class_token = [feature_map], [], None
        for stage in self.stages:
            feature_map, hidden_states, weights = stage(feature_map, class_token)
            class_token = hidden_states[:, :1]
            feature_maps.append(feature_map)
            attentions.extend(weights)
        return BaseModelOutputWithPooling(
            last_hidden_state=hidden_states,
            pooler_output=hidden_states[:, 0],
            hidden_states=tuple(feature_maps) if output_hidden_states else None,
            attentions=tuple(attentions) if output_attentions else None,
        )


class MiTDecoder(nn.Module):
    """The U-decoder: climbs back to the resolution of the first stage and carries a class token."""

    def __init__(self, config: MiTConfig):
        super().__init__()
        rates = _rising_rates(config.drop_path_rate, config.decoder_depths)
        self.stages = nn.ModuleList(
            [
                MiTDecoderStage(config, index, rates[index])
                for index in range(len(config.decoder_depths))
            ]
        )
        self.norm = nn.LayerNorm(config.decoder_hidden_sizes[-1], eps=config.decoder_layer_norm_eps)

    def forward(
        self,
        feature_maps: tuple[torch.Tensor, ...],
        class_token: torch.Tensor,
        class_token_only: bool = False,
    ) -> tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor | None]]:
        """Decode.

        Args:
            feature_maps: The stem's and the encoder stages' feature maps, finest first.
            class_token: The encoder's last class token, `(batch, 1, channels)`.
            class_token_only: Whether the last block computes the class token alone.

        Returns:
            The normed class token `(batch, channels)`; each stage's feature map, coarsest first
            (the last one normed, and absent for `class_token_only`); each block's attentions.
        """
        feature_map, skips = feature_maps[-1], feature_maps[-2:0:-1]
        decoded, attentions = [], []
        for index, (stage, skip) in enumerate(zip(self.stages, skips, strict=True)):
            is_last = index == len(self.stages) - 1
            hidden_states, weights = stage(
                feature_map, skip, class_token, class_token_only and is_last
            )
            attentions.extend(weights)
            if is_last:
                hidden_states = self.norm(hidden_states)
            class_token = hidden_states[:, :1]
            if not (is_last and class_token_only):
                feature_map = to_feature_map(hidden_states, tuple(skip.shape[2:]))
                decoded.append(feature_map)
        return class_token[:, 0], decoded, attentions


class MiTPrototypes(nn.Module):
    """Linear layer without bias whose rows, the prototypes, have norm 1."""

    def __init__(self, in_features: int, num_prototypes: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_prototypes, in_features))

    def normalized_weight(self) -> torch.Tensor:
        """Return the prototypes, `(prototypes, in_features)`, each of norm 1."""
        return functional.normalize(self.weight, dim=1)

    def forward(self, bottleneck: torch.Tensor) -> torch.Tensor:
        """Compare `(batch, in_features)` with each prototype: `(batch, prototypes)`."""
        return functional.linear(bottleneck, self.normalized_weight())


class MiTProjectionHead(nn.Module):
    """MLP, L2 normalisation, prototypes (DINO, section 3.1)."""

    def __init__(self, config: MiTConfig):
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(config.decoder_hidden_sizes[-1], config.projection_hidden_size),
            nn.GELU(),
            nn.Linear(config.projection_hidden_size, config.projection_hidden_size),
            nn.GELU(),
            nn.Linear(config.projection_hidden_size, config.projection_size),
        )
        self.prototypes = MiTPrototypes(config.projection_size, config.num_prototypes)

    def forward(self, class_token: torch.Tensor) -> torch.Tensor:
        """Return the L2-normalised bottleneck; the prototypes are applied apart from it."""
        return functional.normalize(self.mlp(class_token), dim=-1)


class MiTForPreTraining(MiTPreTrainedModel):
    """MiT with its U-decoder and projection head, as self-distillation trains it."""

    def __init__(self, config: MiTConfig):
        super().__init__(config)
        self.encoder = MiTModel(config)
        self.decoder = MiTDecoder(config)
        self.projection_head = MiTProjectionHead(config)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        output_logits: bool = True,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        **kwargs,
    ) -> MiTForPreTrainingOutput:
        """Project a batch of images or volumes.

        Args:
            pixel_values: As [`MiTModel`] takes them.
            output_logits: Whether to compare the bottleneck with the prototypes. Training leaves
                it out: it averages slices' bottlenecks and normalises the prototypes once a step.
            output_attentions: Whether to return each block's attention weights (eager only).
            output_hidden_states: Whether to return the feature maps.
            **kwargs: `return_dict=False` returns a tuple.

        Raises:
            ValueError: If `pixel_values` has a shape or type that is not taken.
        """
        output_attentions, output_hidden_states = self._wanted(
            output_attentions, output_hidden_states
        )
        encoded = self.encoder(
            pixel_values,
            output_attentions=output_attentions,
            output_hidden_states=True,
            return_dict=True,
        )
        class_token, decoded, attentions = self.decoder(
            encoded.hidden_states,
            encoded.pooler_output[:, None],
            class_token_only=not output_hidden_states,
        )
        bottleneck = self.projection_head(class_token)
        return MiTForPreTrainingOutput(
            logits=self.projection_head.prototypes(bottleneck) if output_logits else None,
            bottleneck=bottleneck,
            class_token=class_token,
            hidden_states=(*encoded.hidden_states, *decoded) if output_hidden_states else None,
            attentions=(*encoded.attentions, *attentions) if output_attentions else None,
        )


class MiTBackbone(BackboneMixin, MiTPreTrainedModel):
    """MiT encoder that returns feature maps, for dense prediction."""

    def __init__(self, config: MiTConfig):
        super().__init__(config)
        self.encoder = MiTModel(config)
        self.num_features = [config.stem_channels, *config.hidden_sizes]
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        **kwargs,
    ) -> BackboneOutput:
        """Return the feature maps named by `config.out_features`.

        Args:
            pixel_values: As [`MiTModel`] takes them.
            output_attentions: Whether to return each block's attention weights (eager only).
            output_hidden_states: Whether to return all feature maps as well.
            **kwargs: `return_dict=False` returns a tuple.

        Raises:
            ValueError: If `pixel_values` has a shape or type that is not taken.
        """
        output_attentions, output_hidden_states = self._wanted(
            output_attentions, output_hidden_states
        )
        encoded = self.encoder(
            pixel_values,
            output_attentions=output_attentions,
            output_hidden_states=True,
            return_dict=True,
        )
        by_name = dict(zip(self.stage_names, encoded.hidden_states, strict=True))
        return BackboneOutput(
            feature_maps=tuple(by_name[name] for name in self.out_features),
            hidden_states=encoded.hidden_states if output_hidden_states else None,
            attentions=encoded.attentions,
        )


__all__ = [
    "MiTBackbone",
    "MiTForPreTraining",
    "MiTForPreTrainingOutput",
    "MiTModel",
    "MiTPreTrainedModel",
]
