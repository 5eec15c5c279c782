"""The segmentation loss: Dice and cross-entropy, on logits of several resolutions at once.

Labels are maps of classes, one class a voxel, or masks of structures that may overlap.
"""

from collections.abc import Sequence

import torch
from torch.nn import functional


def check_label_map(
    labels: torch.Tensor, shape: tuple[int, ...], num_labels: int, ignore_index: int
) -> None:
    """Refuse label maps that do not lie on the logits, or name classes that there are not.

    Args:
        labels: The label maps.
        shape: The shape wanted, `(batch, [depth,] height, width)`.
        num_labels: Number of classes, the background among them.
        ignore_index: The label of voxels that take no part in the loss.

    Raises:
        ValueError: If the labels have another shape or type, or hold any other value.
    """
    wanted = (
        f"int64 labels of shape {tuple(shape)}, each in [0, {num_labels}) or {ignore_index}, which "
        "is ignored (config.semantic_loss_ignore_index)"
    )
    if tuple(labels.shape) != tuple(shape):
        raise ValueError(f"labels have shape {tuple(labels.shape)}; pixel_values need {wanted}.")
    if labels.dtype != torch.int64:
        raise ValueError(f"labels have type {labels.dtype}; needed are {wanted}.")
    strange = labels[((labels < 0) | (labels >= num_labels)) & (labels != ignore_index)]
    if strange.numel():
        raise ValueError(
            f"labels of shape {tuple(labels.shape)} hold {strange.unique().tolist()[:10]}; needed "
            f"are {wanted}. Set config.num_labels, or number the classes without gaps."
        )


def check_masks(labels: torch.Tensor, shape: tuple[int, ...]) -> None:
    """Refuse masks that do not lie on the logits, or whose values are no probabilities.

    Args:
        labels: The masks.
        shape: The shape wanted, `(batch, num_labels, [depth,] height, width)`.

    Raises:
        ValueError: If the masks have another shape or type, or hold any other value.
    """
    wanted = (
        f"floating-point labels in [0, 1] of shape {tuple(shape)}, a mask for each class "
        "(config.problem_type is 'multi_label_classification')"
    )
    if tuple(labels.shape) != tuple(shape):
        raise ValueError(f"labels have shape {tuple(labels.shape)}; pixel_values need {wanted}.")
    if not labels.is_floating_point():
        raise ValueError(f"labels have type {labels.dtype}; needed are {wanted}.")
    strange = labels[~((labels >= 0) & (labels <= 1))]
    if strange.numel():
        raise ValueError(
            f"labels of shape {tuple(labels.shape)} hold {strange.unique().tolist()[:10]}; needed "
            f"are {wanted}. No value is ignored there."
        )


def dice_cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor, ignore_index: int
) -> torch.Tensor:
    """Sum of the soft Dice loss and the cross-entropy, by MONAI.

    Ignored voxels are left out before either is computed. The cross-entropy is the mean over the
    voxels that remain. Dice (Milletari et al., "V-Net", 2016, with the sum of probabilities in the
    denominator) is computed over all of them as if the batch were one image, since a small window
    often lacks a class, and averaged over the classes but the background, class 0.

    Args:
        logits: `(batch, classes, [depth,] height, width)`, two classes or more.
        labels: `(batch, [depth,] height, width)`, int64.
        ignore_index: The label of voxels that take no part.

    Returns:
        The loss, at least in float32; 0 where every voxel is ignored.

    Raises:
        ImportError: If MONAI is not installed.
    """
    make_loss, _ = _monai_losses()
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    # (batch, classes, voxels), (batch, 1, voxels)
    logits, labels = logits.flatten(2), labels.flatten(1)[:, None]
    counted = labels[:, 0] != ignore_index
    if not counted.all():
        # (1, classes, counted voxels), (1, 1, counted voxels)
        logits = logits.transpose(1, 2)[counted].T[None]
        labels = labels[:, 0][counted][None, None]
    if labels.numel() == 0:
        return logits.sum()
    loss = make_loss(to_onehot_y=True, softmax=True, include_background=False, batch=True)
    return loss(logits, labels)


def dice_binary_cross_entropy(logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Sum of the soft Dice loss and the binary cross-entropy, of classes that may overlap.

    Each class has a sigmoid of its own, and there is no background. Dice, by MONAI, is computed
    over the batch as if it were one image, as in [`dice_cross_entropy`], and averaged over the
    classes; the binary cross-entropy is the mean over voxels and classes.

    Args:
        logits: `(batch, classes, [depth,] height, width)`, one class or more.
        masks: Of the same shape, floating point in [0, 1].

    Returns:
        The loss, at least in float32.

    Raises:
        ImportError: If MONAI is not installed.
    """
    _, make_loss = _monai_losses()
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    masks = masks.to(logits.dtype)
    dice = make_loss(sigmoid=True, batch=True)(logits, masks)
    return dice + functional.binary_cross_entropy_with_logits(logits, masks)


def deep_supervision_loss(
    logits: Sequence[torch.Tensor], labels: torch.Tensor, ignore_index: int | None
) -> torch.Tensor:
    """Weighted mean of the loss at several resolutions, with weights 1, 1/2, 1/4, …

    The weights are divided by their sum, so that the loss is of the same size however many
    resolutions there are. Coarser maps meet the labels at the voxels that they are centred on:
    each convolution that halves a grid is centred on every second voxel, from the first.

    Args:
        logits: The finest first, at the labels' resolution; `(batch, classes, [depth,] height,
            width)` each, every axis halved, rounding up, any number of times.
        labels: `(batch, [depth,] height, width)`, int64, or masks of classes that may overlap,
            `(batch, classes, [depth,] height, width)`.
        ignore_index: The label of voxels that take no part; `None` for masks.

    Returns:
        The loss, a scalar.
    """
    weights = [2.0**-index for index in range(len(logits))]
    losses = []
    for weight, scores in zip(weights, logits, strict=True):
        at_grid = _at_grid(labels, scores.shape[2:])
        if ignore_index is None:
            losses.append(weight * dice_binary_cross_entropy(scores, at_grid))
        else:
            losses.append(weight * dice_cross_entropy(scores, at_grid, ignore_index))
    return torch.stack(losses).sum() / sum(weights)


def _at_grid(labels: torch.Tensor, grid: Sequence[int]) -> torch.Tensor:
    """Take every second, fourth, … voxel along each axis, so that `grid` voxels are left."""
    for axis, length in enumerate(grid, start=labels.ndim - len(grid)):
        # the least power of two that is no less than the ratio
        stride = 1 << (-(-labels.shape[axis] // length) - 1).bit_length()
        labels = labels[(slice(None),) * axis + (slice(None, None, stride),)]
    return labels


def _monai_losses() -> tuple[type, type]:
    try:
        from monai.losses import DiceCELoss, DiceLoss
    except ImportError as error:
        raise ImportError(
            "The segmentation loss is MONAI's: pip install monai. Without labels, "
            "MiTForSemanticSegmentation needs it not."
        ) from error
    return DiceCELoss, DiceLoss


__all__ = [
    "check_label_map",
    "check_masks",
    "deep_supervision_loss",
    "dice_binary_cross_entropy",
    "dice_cross_entropy",
]
