"""How many voxels of each class a prediction and its reference share."""

from __future__ import annotations

import numpy as np
import torch


def overlap_counts(
    prediction: torch.Tensor,
    reference: torch.Tensor,
    num_classes: int,
    ignore_index: int | None = 255,
) -> torch.Tensor:
    """Count voxels of label maps, on the device that they lie on.

    Counts of the parts of a case, such as windows that do not overlap, may be added up.

    Args:
        prediction: label map of any shape, integers from 0 to `num_classes - 1`.
        reference: of the same shape; voxels with `ignore_index` are not counted.
        num_classes: number of classes, with the background.
        ignore_index: label of the reference that counts as neither right nor wrong.

    Returns:
        `(num_classes, 3)`, int64: voxels in both, in the prediction, in the reference.

    Raises:
        ValueError: if shapes differ, the maps do not hold integers, or a label is none of the
            classes.
    """
    if prediction.shape != reference.shape:
        raise ValueError(
            f"The prediction's shape is {tuple(prediction.shape)}, the reference's "
            f"{tuple(reference.shape)}; wanted the same."
        )
    if ignore_index is not None and 0 <= ignore_index < num_classes:
        raise ValueError(f"ignore_index {ignore_index} is one of the {num_classes} classes.")
    predicted = _checked(prediction, "prediction", num_classes, None)
    wanted = _checked(reference, "reference", num_classes, ignore_index)
    if ignore_index is not None:
        # A label more, of what is not counted.
        ignored = wanted == ignore_index
        predicted = predicted.masked_fill(ignored, num_classes)
        wanted = wanted.masked_fill(ignored, num_classes)
    shared = predicted.masked_fill(predicted != wanted, num_classes)
    counts = [
        torch.bincount(labels.reshape(-1), minlength=num_classes + 1)[:num_classes]
        for labels in (shared, predicted, wanted)
    ]
    return torch.stack(counts, dim=1)


def overlap_counts_of_masks(prediction: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Count voxels of classes that may overlap, see [`overlap_counts`].

    Args:
        prediction: `(classes, [depth,] height, width)`, bool.
        reference: likewise.

    Raises:
        ValueError: if shapes differ.
    """
    if prediction.shape != reference.shape:
        raise ValueError(
            f"The prediction's shape is {tuple(prediction.shape)}, the reference's "
            f"{tuple(reference.shape)}; wanted the same."
        )
    masks = (prediction & reference, prediction, reference)
    return torch.stack([mask.flatten(1).count_nonzero(dim=1) for mask in masks], dim=1)


def dice_of_counts(counts: torch.Tensor) -> np.ndarray:
    """Return the Dice coefficient of each class: twice the voxels in both over those of each.

    Args:
        counts: `(..., 3)`, see [`overlap_counts`].

    Returns:
        `(...,)`, float64; NaN where a class is in neither map, for then it is undefined.
    """
    shared, predicted, wanted = np.moveaxis(counts.cpu().double().numpy(), -1, 0)
    total = predicted + wanted
    return np.divide(2 * shared, total, out=np.full_like(total, np.nan), where=total > 0)


def _checked(
    labels: torch.Tensor, name: str, num_classes: int, ignore_index: int | None
) -> torch.Tensor:
    if labels.is_floating_point() or labels.is_complex():
        raise ValueError(f"The {name} is {labels.dtype}; wanted a label map of integers.")
    # The extra label must fit in, and bincount takes no bool.
    labels = labels.to(torch.promote_types(labels.dtype, torch.int16))
    if not labels.numel() or (labels.min() >= 0 and labels.max() < num_classes):
        return labels
    wrong = (labels < 0) | (labels >= num_classes)
    if ignore_index is not None:
        wrong &= labels != ignore_index
    if wrong.any():
        values = labels[wrong].unique().tolist()
        raise ValueError(
            f"The {name} has {int(wrong.sum())} voxels with the labels {values[:8]}, which are "
            f"none of the {num_classes} classes, 0 to {num_classes - 1}."
        )
    return labels
