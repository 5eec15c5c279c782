"""The layers MiT is built of: embeddings, spatial-reduction attention, blocks.

Four modules switch on the dimension of their input: [`MiTPatchEmbedding`],
[`MiTPositionEmbedding`], [`MiTSpatialReduction`] and [`MiTUpsampling`]. All others are shared by
images and volumes.

Spatial-reduction attention after Wang et al., "PVT v2", 2022, arXiv:2106.13797.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .configuration_mit import MiTConfig


class MiTInstanceNorm(nn.Module):
    """Affine instance norm without running statistics.

    A group norm with one channel a group is the same function, is faster on a CPU, and takes
    feature maps of a single voxel, whose normalised value is 0.
    """

    def __init__(self, num_channels: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))
        self.eps = eps

    def forward(self, feature_map: torch.Tensor) -> torch.Tensor:
        """Normalise each channel of each sample of `(batch, channels, …)`."""
        return torch.group_norm(
            feature_map, feature_map.shape[1], self.weight, self.bias, eps=self.eps
        )


class MiTConvolution(nn.Module):
    """Convolution without bias, instance norm, leaky ReLU, for one dimension."""

    def __init__(
        self,
        convolution_class: type[nn.Conv2d] | type[nn.Conv3d],
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int | tuple[int, ...],
        config: MiTConfig,
    ):
        super().__init__()
        self.convolution = convolution_class(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=kernel_size // 2,
            bias=False,
        )
        self.norm = MiTInstanceNorm(out_channels, config.instance_norm_eps)
        self.negative_slope = config.leaky_relu_slope

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Embed `(batch, channels, …)`; one channel stands for as many equal ones as needed."""
        if pixel_values.shape[1] == self.convolution.in_channels:
            feature_map = self.convolution(pixel_values)
        else:
            # One channel that stands for several equal ones: their weights may be summed first.
            feature_map = self.convolution._conv_forward(
                pixel_values, self.convolution.weight.sum(1, keepdim=True), None
            )
        feature_map = self.norm(feature_map)
        return functional.leaky_relu(feature_map, self.negative_slope, inplace=True)


class MiTPatchEmbedding(nn.Module):
    """Strided convolution with weights of its own for 2D and for 3D."""

    def __init__(
        self,
        in_channels: tuple[int, int],
        out_channels: int,
        kernel_size: int,
        stride_2d: int | tuple[int, ...],
        stride_3d: int | tuple[int, ...],
        config: MiTConfig,
    ):
        super().__init__()
        self.embedding_2d = MiTConvolution(
            nn.Conv2d, in_channels[0], out_channels, kernel_size, stride_2d, config
        )
        self.embedding_3d = MiTConvolution(
            nn.Conv3d, in_channels[1], out_channels, kernel_size, stride_3d, config
        )

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Embed `(batch, channels, [depth,] height, width)`."""
        embedding = self.embedding_2d if pixel_values.ndim == 4 else self.embedding_3d
        return embedding(pixel_values)


class MiTPositionEmbedding(nn.Module):
    """Learnt positions of the class token and of each patch, with a table for each dimension.

    At the native grid a table is added as it is. At any other grid the patches' rows are
    interpolated by the official rule: the scale factor `(n + 0.1) / native n` of each axis sets the
    sampling, bicubic in 2D and trilinear in 3D; the class token's row is kept.
    """

    def __init__(
        self, hidden_size: int, native_grid_2d: tuple[int, ...], native_grid_3d: tuple[int, ...]
    ):
        super().__init__()
        self.native_grid_2d = native_grid_2d
        self.native_grid_3d = native_grid_3d
        self.table_2d = nn.Parameter(
            torch.zeros(1, 1 + torch.Size(native_grid_2d).numel(), hidden_size)
        )
        self.table_3d = nn.Parameter(
            torch.zeros(1, 1 + torch.Size(native_grid_3d).numel(), hidden_size)
        )

    def forward(self, grid: tuple[int, ...]) -> torch.Tensor:
        """Return the embedding of `grid`, `(1, 1 + patches, channels)`, class token first."""
        if len(grid) == 2:
            table, native_grid, mode = self.table_2d, self.native_grid_2d, "bicubic"
        else:
            table, native_grid, mode = self.table_3d, self.native_grid_3d, "trilinear"
        if tuple(grid) == native_grid:
            return table

        # (1, patches, channels) -> (1, channels, *native grid), at least in float32
        patch_rows = table[:, 1:].transpose(1, 2).unflatten(2, native_grid)
        if patch_rows.dtype in (torch.float16, torch.bfloat16):
            patch_rows = patch_rows.float()
        patch_rows = functional.interpolate(
            patch_rows,
            scale_factor=[
                (length + 0.1) / native for length, native in zip(grid, native_grid, strict=True)
            ],
            mode=mode,
        )
        patch_rows = patch_rows.flatten(2).transpose(1, 2).to(table.dtype)
        return torch.cat((table[:, :1], patch_rows), dim=1)


class MiTSpatialReduction(nn.Module):
    """Reduces the keys' and values' grid by a convolution with kernel = stride = ratio.

    An axis shorter than the ratio is zero-padded at its end to one full kernel, so that it reduces
    to a length of 1; longer axes are left as they are, remainders dropped.
    """

    def __init__(self, hidden_size: int, ratio: int):
        super().__init__()
        self.ratio = ratio
        self.reduction_2d = nn.Conv2d(hidden_size, hidden_size, ratio, stride=ratio)
        self.reduction_3d = nn.Conv3d(hidden_size, hidden_size, ratio, stride=ratio)

    def forward(self, patch_tokens: torch.Tensor, grid: tuple[int, ...]) -> torch.Tensor:
        """Reduce `(batch, patches, channels)` laid out on `grid`."""
        feature_map = patch_tokens.unflatten(1, grid)
        if min(grid) < self.ratio:
            padding = [0] * (2 * len(grid))
            # pad() counts axes from the last, with the end of each axis second
            padding[1::2] = [max(0, self.ratio - length) for length in reversed(grid)]
            feature_map = functional.pad(feature_map, [0, 0, *padding])
        for axis, length in enumerate(feature_map.shape[1:-1], start=1):
            if length % self.ratio:
                feature_map = feature_map.narrow(axis, 0, length - length % self.ratio)
        # A convolution whose windows do not overlap is one matrix product over them, which spares
        # convolution libraries' reordering of weights that outweigh the tokens.
        reduction = self.reduction_2d if len(grid) == 2 else self.reduction_3d
        # Tokens or weights must change the order of their axes: whichever are fewer.
        channels_last = feature_map.numel() > reduction.weight.numel()
        window = "p q r"[-2 * len(grid) + 1 :]
        inner = f"({window} c)" if channels_last else f"(c {window})"
        outer = "(h q) (w r) c -> b (h w)" if len(grid) == 2 else "(d p) (h q) (w r) c -> b (d h w)"
        lengths = dict.fromkeys(window.split(), self.ratio)
        windows = rearrange(feature_map, f"b {outer} {inner}", **lengths)
        weight = rearrange(reduction.weight, f"k c {window} -> k {inner}")
        return functional.linear(windows, weight, reduction.bias)


class MiTUpsampling(nn.Module):
    """Doubles a feature map's grid by a transposed convolution with kernel = stride = 2."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.upsampling_2d = nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2)
        self.upsampling_3d = nn.ConvTranspose3d(in_channels, out_channels, 2, stride=2)

    def forward(self, feature_map: torch.Tensor, grid: tuple[int, ...]) -> torch.Tensor:
        """Upsample to `grid`, twice the map's own or, along odd axes, one less."""
        upsampling = self.upsampling_2d if feature_map.ndim == 4 else self.upsampling_3d
        upsampled = upsampling(feature_map)
        # Halving rounds odd lengths up, so doubling overshoots them by one.
        for axis, length in enumerate(grid, start=2):
            if upsampled.shape[axis] != length:
                upsampled = upsampled.narrow(axis, 0, length)
        return upsampled


def eager_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention written out, `(batch, heads, tokens, head_dim)` each; also returns its weights."""
    weights = torch.matmul(query, key.transpose(2, 3)) * scaling
    weights = weights.softmax(dim=-1, dtype=_softmax_dtype(query.dtype)).to(query.dtype)
    weights = functional.dropout(weights, p=dropout, training=module.training)
    return torch.matmul(weights, value).transpose(1, 2), weights


def _softmax_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


@dataclass(frozen=True)
class StageShape:
    """Settings of the blocks of one stage."""

    hidden_size: int
    num_heads: int
    ratio: int
    qkv_bias: bool
    layer_norm_eps: float


class MiTAttention(nn.Module):
    """Spatial-reduction attention (PVT v2, eq. 2): all tokens ask, few answer.

    Keys and values come from the class token and the spatially reduced patch tokens, which pass one
    layer norm together when they are reduced.
    """

    def __init__(self, config: MiTConfig, shape: StageShape):
        super().__init__()
        self.config = config
        self.num_heads = shape.num_heads
        self.head_dim = shape.hidden_size // shape.num_heads
        self.scaling = self.head_dim**-0.5
        self.is_causal = False
        self.dropout = config.attention_dropout

        self.query = nn.Linear(shape.hidden_size, shape.hidden_size, bias=shape.qkv_bias)
        self.key_value = nn.Linear(shape.hidden_size, 2 * shape.hidden_size, bias=shape.qkv_bias)
        self.projection = nn.Linear(shape.hidden_size, shape.hidden_size)
        self.projection_dropout = nn.Dropout(config.hidden_dropout_prob)
        if shape.ratio > 1:
            self.reduction = MiTSpatialReduction(shape.hidden_size, shape.ratio)
            self.reduction_norm = nn.LayerNorm(
                shape.hidden_size, eps=config.reduction_layer_norm_eps
            )
        else:
            self.reduction = None

    def forward(
        self, hidden_states: torch.Tensor, grid: tuple[int, ...], class_token_only: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attend; `(batch, 1 + patches, channels)` in, as many rows as there are queries out."""
        batch_size = hidden_states.shape[0]
        queries = hidden_states[:, :1] if class_token_only else hidden_states
        sources = hidden_states
        if self.reduction is not None:
            class_token, patch_tokens = split_tokens(hidden_states)
            reduced = remade(lambda tokens: self.reduction(tokens, grid), patch_tokens)
            sources = self.reduction_norm(torch.cat((class_token, reduced), dim=1))

        # (batch, tokens, channels) -> (batch, heads, tokens, head_dim)
        query = self.query(queries).unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)
        # (batch, tokens, 2 * channels) -> 2 x (batch, heads, tokens, head_dim)
        key, value = (
            self.key_value(sources)
            .unflatten(-1, (2, self.num_heads, self.head_dim))
            .permute(2, 0, 3, 1, 4)
            .unbind(0)
        )

        attention: Callable = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        attended, weights = attention(
            self,
            query,
            key,
            value,
            None,
            dropout=self.dropout if self.training else 0.0,
            scaling=self.scaling,
        )
        attended = attended.reshape(batch_size, -1, self.num_heads * self.head_dim)
        return self.projection_dropout(self.projection(attended)), weights


class MiTMLP(nn.Module):
    """Two linear layers with an activation between."""

    def __init__(self, config: MiTConfig, hidden_size: int):
        super().__init__()
        inner_size = int(hidden_size * config.mlp_ratio)
        self.up_projection = nn.Linear(hidden_size, inner_size)
        self.down_projection = nn.Linear(inner_size, hidden_size)
        self.activation = ACT2FN[config.hidden_act]
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, hidden_states: torch.Tensor, norm: nn.Module) -> torch.Tensor:
        """Normalise and transform `(batch, tokens, channels)` token by token.

        Of what lies between, training keeps the widened tokens alone: norm and activation, cheap as
        they are, run once more in the backward pass, and the products do not.
        """
        random = self.dropout.p > 0
        widened = remade(lambda tokens: self.up_projection(norm(tokens)), hidden_states)
        return remade(self._narrow, widened, random)

    def _narrow(self, widened: torch.Tensor) -> torch.Tensor:
        activated = self.dropout(self.activation(widened))
        return self.dropout(self.down_projection(activated))


class MiTDropPath(nn.Module):
    """Stochastic depth (arXiv:1603.09382): drops a residual branch for whole samples."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Drop or rescale each sample of `(batch, tokens, channels)` in training."""
        if self.rate == 0.0 or not self.training:
            return hidden_states
        keep = hidden_states.new_empty((hidden_states.shape[0], 1, 1)).bernoulli_(1 - self.rate)
        return hidden_states * keep / (1 - self.rate)


class MiTLayer(GradientCheckpointingLayer):
    """A pre-norm transformer block with spatial-reduction attention."""

    def __init__(self, config: MiTConfig, shape: StageShape, drop_path_rate: float):
        super().__init__()
        self.attention_norm = nn.LayerNorm(shape.hidden_size, eps=shape.layer_norm_eps)
        self.attention = MiTAttention(config, shape)
        self.mlp_norm = nn.LayerNorm(shape.hidden_size, eps=shape.layer_norm_eps)
        self.mlp = MiTMLP(config, shape.hidden_size)
        self.drop_path = MiTDropPath(drop_path_rate)

    def forward(
        self, hidden_states: torch.Tensor, grid: tuple[int, ...], class_token_only: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the new tokens (the class token alone if so asked) and the attention weights."""
        attended, weights = self.attention(
            self.attention_norm(hidden_states), grid, class_token_only
        )
        if class_token_only:
            hidden_states = hidden_states[:, :1]
        # Added in place to the branch, which nothing else needs.
        hidden_states = self.drop_path(attended).add_(hidden_states)
        hidden_states = self.drop_path(self.mlp(hidden_states, self.mlp_norm)).add_(hidden_states)
        return hidden_states, weights


class MiTStage(nn.Module):
    """Class token in front, positions added, then blocks: what both kinds of stage share."""

    def __init__(
        self,
        config: MiTConfig,
        shape: StageShape,
        drop_path_rates: list[float],
        native_grids: tuple[tuple[int, ...], tuple[int, ...]],
    ):
        super().__init__()
        self.position_embedding = MiTPositionEmbedding(shape.hidden_size, *native_grids)
        self.layers = nn.ModuleList([MiTLayer(config, shape, rate) for rate in drop_path_rates])

    def run_layers(
        self, feature_map: torch.Tensor, class_token: torch.Tensor, class_token_only: bool = False
    ) -> tuple[torch.Tensor, list[torch.Tensor | None]]:
        """Make tokens of a feature map and pass them through the blocks.

        Args:
            feature_map: `(batch, channels, [depth,] height, width)`.
            class_token: `(batch or 1, 1, channels)`.
            class_token_only: Whether the last block computes the class token and nothing else.

        Returns:
            Tokens `(batch, 1 + patches, channels)`, or `(batch, 1, channels)` for
            `class_token_only`, and the attention weights of each block.
        """
        grid = tuple(feature_map.shape[2:])
        class_token = class_token.expand(feature_map.shape[0], -1, -1)
        hidden_states = torch.cat((class_token, feature_map.flatten(2).transpose(1, 2)), dim=1)
        hidden_states = hidden_states + self.position_embedding(grid)
        attentions = []
        for index, layer in enumerate(self.layers):
            is_last = index == len(self.layers) - 1
            hidden_states, weights = layer(hidden_states, grid, class_token_only and is_last)
            attentions.append(weights)
        return hidden_states, attentions


def remade(
    function: Callable[[torch.Tensor], torch.Tensor], tokens: torch.Tensor, random: bool = False
) -> torch.Tensor:
    """Call a function that ends in a product, which keeps no more than its input in training.

    What leads to the product is made once more in the backward pass; the product is not, as that
    ends where the last tensor is there that the gradient needs.

    Args:
        function: Makes something of the tokens, and multiplies it by weights.
        tokens: Its argument.
        random: Whether the function draws random numbers.
    """
    if not (torch.is_grad_enabled() and tokens.requires_grad):
        return function(tokens)
    return checkpoint(function, tokens, use_reentrant=False, preserve_rng_state=random)


def split_tokens(hidden_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Split `(batch, 1 + patches, channels)` into class token and patch tokens.

    The two gradients are joined in one piece, where those of two slices would be padded and added.
    """
    return hidden_states.split((1, hidden_states.shape[1] - 1), dim=1)


def to_feature_map(hidden_states: torch.Tensor, grid: tuple[int, ...]) -> torch.Tensor:
    """Drop the class token; `(batch, 1 + patches, channels)` -> `(batch, channels, *grid)`."""
    return hidden_states[:, 1:].transpose(1, 2).unflatten(2, grid)
