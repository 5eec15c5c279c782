"""MiT model configuration: the pyramid as data."""

import copy
import math
from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers.backbone_utils import BackboneConfigMixin
from transformers.configuration_utils import PreTrainedConfig

from .publication_mit import AUTO_MAP, CUSTOM_PIPELINES


@strict
class MiTConfig(BackboneConfigMixin, PreTrainedConfig):
    r"""Configuration of MiT, the medical transformer of UniMiSS (arXiv:2112.09356).

    The defaults are MiT-small. [`MiTConfig.tiny`] and [`MiTConfig.small`] are the published sizes.
    Stages are listed from the finest to the coarsest in the encoder, and from the coarsest to the
    finest in the decoder.

    Attributes:
        stem_channels: Channels of the convolutional stem.
        hidden_sizes: Width of each encoder stage.
        depths: Number of blocks of each encoder stage.
        num_attention_heads: Attention heads of each encoder stage; each divides its width.
        spatial_reduction_ratios: By how much keys and values are reduced along each axis, per
            encoder stage; 1 means not at all.
        decoder_hidden_sizes: Width of each decoder stage: those of the encoder stages whose feature
            maps are added, read backwards.
        decoder_depths: Number of blocks of each decoder stage.
        decoder_num_attention_heads: Attention heads of each decoder stage.
        decoder_spatial_reduction_ratios: Reduction ratio of each decoder stage.
        mlp_ratio: Width of a block's MLP over the width of its stage.
        hidden_act: Activation of the MLPs.
        num_channels_2d: Channels of a 2D image. A one-channel image is taken too: it stands for
            `num_channels_2d` equal channels.
        num_channels_3d: Channels of a 3D volume.
        image_size: Height and width in pixels whose position embeddings are stored.
        volume_size: Depth, height and width in voxels whose position embeddings are stored.
        window_size: ([depth,] height, width) of the windows in which larger inputs go through a
            fine-tuned model: what it was trained on. `None`: `image_size` and `volume_size`.
        trained_axes: 2 or 3 where a head was trained on images or on volumes alone: a task's model
            refuses the others, whose weights of the head are random. `None`: takes both.
        minimum_image_size: Smallest height and width in pixels that the pyramid takes.
        minimum_volume_size: Smallest depth, height and width in voxels that the pyramid takes.
        qkv_bias: Whether the encoder's queries, keys and values have biases.
        decoder_qkv_bias: The same for the decoder.
        layer_norm_eps: Epsilon of the encoder blocks' layer norms.
        decoder_layer_norm_eps: Epsilon of the decoder's layer norms.
        reduction_layer_norm_eps: Epsilon of the layer norm after a spatial reduction.
        instance_norm_eps: Epsilon of the instance norms behind the convolutions.
        leaky_relu_slope: Negative slope behind the instance norms.
        drop_path_rate: Stochastic depth of the last block; the rate rises linearly from 0 at the
            first. The paper writes 0.1; the official code trains with 0.
        hidden_dropout_prob: Dropout in the MLPs and after the attention's projection.
        attention_dropout: Dropout of the attention weights.
        initializer_range: Standard deviation of the linear layers' and embeddings' first weights.
        projection_hidden_size: Width of the two hidden layers of the projection head.
        projection_size: Width of the projection head's bottleneck.
        num_prototypes: Number of prototypes K of the self-distillation.
        classifier_dropout_prob: Dropout of the class token in front of the image classifier.
        deep_supervision: Whether a segmentation model has auxiliary heads on the decoder's maps,
            which training alone computes. False passes over those of a checkpoint.
        semantic_loss_ignore_index: Label of pixels and voxels that take no part in the
            segmentation loss.

    Raises:
        ValueError: If the lists disagree in length, or a width and its heads do not fit.

    Example:

    ```python
    >>> from unimiss_hf import MiTConfig, MiTModel
    >>> model = MiTModel(MiTConfig.tiny())
    ```
    """

    model_type = "unimiss_mit"
    # Saving copies the code too, as it does for a class that is registered for an Auto class.
    _auto_class: ClassVar[str | None] = "AutoConfig"

    stem_channels: int = 32
    hidden_sizes: list[int] | tuple[int, ...] = (48, 128, 256, 512)
    depths: list[int] | tuple[int, ...] = (2, 3, 4, 3)
    num_attention_heads: list[int] | tuple[int, ...] = (1, 2, 4, 8)
    spatial_reduction_ratios: list[int] | tuple[int, ...] = (6, 4, 2, 1)
    decoder_hidden_sizes: list[int] | tuple[int, ...] = (256, 128, 48)
    decoder_depths: list[int] | tuple[int, ...] = (3, 4, 3)
    decoder_num_attention_heads: list[int] | tuple[int, ...] = (8, 4, 2)
    decoder_spatial_reduction_ratios: list[int] | tuple[int, ...] = (2, 4, 6)
    mlp_ratio: float | int = 4
    hidden_act: str = "gelu"
    num_channels_2d: int = 3
    num_channels_3d: int = 1
    image_size: list[int] | tuple[int, ...] = (224, 224)
    volume_size: list[int] | tuple[int, ...] = (16, 96, 96)
    window_size: list[int] | tuple[int, ...] | None = None
    trained_axes: int | None = None
    minimum_image_size: list[int] | tuple[int, ...] = (32, 32)
    minimum_volume_size: list[int] | tuple[int, ...] = (4, 32, 32)
    qkv_bias: bool = True
    decoder_qkv_bias: bool = False
    layer_norm_eps: float = 1e-6
    decoder_layer_norm_eps: float = 1e-5
    reduction_layer_norm_eps: float = 1e-5
    instance_norm_eps: float = 1e-5
    leaky_relu_slope: float = 0.01
    drop_path_rate: float | int = 0.0
    hidden_dropout_prob: float | int = 0.0
    attention_dropout: float | int = 0.0
    initializer_range: float = 0.02
    projection_hidden_size: int = 2048
    projection_size: int = 256
    num_prototypes: int = 65536
    classifier_dropout_prob: float | int = 0.0
    deep_supervision: bool = True
    semantic_loss_ignore_index: int = 255
    _out_features: list[str] | None = None
    _out_indices: list[int] | None = None

    def __post_init__(self, **kwargs):
        self._check_stages(
            "", ("hidden_sizes", "depths", "num_attention_heads", "spatial_reduction_ratios")
        )
        self._check_stages(
            "decoder_",
            (
                "decoder_hidden_sizes",
                "decoder_depths",
                "decoder_num_attention_heads",
                "decoder_spatial_reduction_ratios",
            ),
        )
        skipped = list(reversed(self.hidden_sizes))[1 : 1 + len(self.decoder_hidden_sizes)]
        if list(self.decoder_hidden_sizes) != skipped:
            raise ValueError(
                f"decoder_hidden_sizes is {list(self.decoder_hidden_sizes)}; the decoder adds the "
                f"encoder's feature maps, so it must be {skipped}."
            )
        for name, axes in (
            ("image_size", 2),
            ("minimum_image_size", 2),
            ("volume_size", 3),
            ("minimum_volume_size", 3),
        ):
            if len(getattr(self, name)) != axes or min(getattr(self, name)) < 1:
                raise ValueError(
                    f"{name} is {getattr(self, name)}; {axes} positive numbers are needed."
                )

        window = self.window_size
        if window is not None and (len(window) not in (2, 3) or min(window) < 1):
            raise ValueError(f"window_size is {window}; 2 or 3 positive numbers are needed.")
        if self.trained_axes not in (None, 2, 3):
            raise ValueError(f"trained_axes is {self.trained_axes}; it must be 2, 3 or None.")
        self.stage_names = ["stem"] + [f"stage{i + 1}" for i in range(len(self.depths))]
        self.set_output_features_output_indices(
            out_indices=kwargs.pop("out_indices", None),
            out_features=kwargs.pop("out_features", None),
        )
        self._drop_registered_pipelines(kwargs)
        super().__post_init__(**kwargs)

    def _check_stages(self, prefix: str, names: tuple[str, ...]) -> None:
        for name in names:
            setattr(self, name, list(getattr(self, name)))
        lengths = {name: len(getattr(self, name)) for name in names}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"One entry a stage is needed in each of these, got {lengths}.")
        for width, heads in zip(
            getattr(self, f"{prefix}hidden_sizes"),
            getattr(self, f"{prefix}num_attention_heads"),
            strict=True,
        ):
            if width % heads:
                raise ValueError(
                    f"{prefix}num_attention_heads: {heads} heads do not divide a width of {width}."
                )

    @staticmethod
    def _drop_registered_pipelines(settings: dict[str, Any]) -> None:
        """Forget those pipelines of a saved folder that transformers knows already.

        For the others, `pipeline` runs the folder's code, and demands `trust_remote_code`.
        """
        pipelines = settings.pop("custom_pipelines", None)
        if not pipelines:
            return
        from transformers.pipelines import PIPELINE_REGISTRY

        known = PIPELINE_REGISTRY.get_supported_tasks()
        pipelines = {task: info for task, info in pipelines.items() if task not in known}
        if pipelines:
            settings["custom_pipelines"] = pipelines

    def to_dict(self) -> dict[str, Any]:
        """Return the settings, and which code opens a saved folder (see `publication_mit`)."""
        settings = super().to_dict()
        settings["auto_map"] = AUTO_MAP | settings.get("auto_map", {})
        # A copy: `pipeline` replaces names by classes in what it loaded.
        ours = copy.deepcopy(CUSTOM_PIPELINES)
        settings["custom_pipelines"] = settings.get("custom_pipelines", {}) | ours
        return settings

    @classmethod
    def tiny(cls, **overrides) -> "MiTConfig":
        """MiT-tiny: 13.86 M parameters in the encoder, 20.38 M with the decoder."""
        return cls(**{"depths": [1, 1, 1, 1], "decoder_depths": [1, 1, 1], **overrides})

    @classmethod
    def small(cls, **overrides) -> "MiTConfig":
        """MiT-small: 28.52 M parameters in the encoder, 43.94 M with the decoder."""
        return cls(**{"depths": [2, 3, 4, 3], "decoder_depths": [3, 4, 3], **overrides})

    def require_trained(self, num_axes: int) -> None:
        """Refuse inputs of a dimension that a task's head was not trained on.

        Args:
            num_axes: 2 for images, 3 for volumes.

        Raises:
            ValueError: If the head's weights for it are random.
        """
        if self.trained_axes not in (None, num_axes):
            kinds = {2: "images", 3: "volumes"}
            raise ValueError(
                f"The model was fine-tuned on {kinds[self.trained_axes]} alone, and its head knows "
                f"nothing of {kinds.get(num_axes, 'such inputs')}: what it said of them would be "
                "random. Fine-tune a model on them."
            )

    def native_grids(self, num_axes: int) -> list[tuple[int, ...]]:
        """Feature-map sizes of the encoder's stages at the native input size.

        Args:
            num_axes: 2 for images, 3 for volumes.

        Returns:
            One tuple `([depth,] height, width)` a stage, finest first.
        """
        size = tuple(self.image_size if num_axes == 2 else self.volume_size)
        # The stem halves the plane only; each patch embedding halves every axis, rounding up.
        grid = (*size[:-2], math.ceil(size[-2] / 2), math.ceil(size[-1] / 2))
        grids = []
        for _ in self.hidden_sizes:
            grid = tuple(math.ceil(length / 2) for length in grid)
            grids.append(grid)
        return grids


__all__ = ["MiTConfig"]
