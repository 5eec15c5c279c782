"""How well structures are segmented: Dice, surface Dice and distances in mm, class by class."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch

from ..input_checks_mit import did_you_mean, near_names
from .classification_cases import check_class_names
from .overlap import dice_of_counts, overlap_counts
from .segmentation_pairs import check_pair, check_spacing, check_tolerances
from .segmentation_summary import SEGMENTATION_METRICS, summarise_segmentation
from .surfaces import edge_distances, surface_dice

__all__ = [
    "dice_of_counts",
    "overlap_counts",
    "segmentation_scores",
    "summarise_segmentation",
]


def segmentation_scores(
    prediction: Any,
    reference: Any,
    class_names: Sequence[str],
    spacing: Sequence[float],
    *,
    case: str,
    multi_label: bool = False,
    ignore_index: int | None = 255,
    tolerance_mm: float | Mapping[str, float] = 2.0,
    surfaces: bool | Collection[str] = True,
) -> dict[str, dict[str, float | None]]:
    """Judge one segmentation, class by class.

    Surface metrics are defined in `surfaces.surface_dice` and `surfaces.edge_distances`. A class
    that is empty on either side has these values:

    | in the reference | predicted | Dice, surface Dice | distances |
    |---|---|---|---|
    | no | no | `None`: nothing to be found, nothing found | `None` |
    | no | yes | 0: a false positive | `None`: undefined |
    | yes | no | 0: a miss | `None`: undefined |

    Surfaces are searched for in the box that holds a class in both segmentations, for nothing
    beyond it changes a score; where stray voxels make it large, from its voxels alone.

    `summarise_segmentation` counts the false positives and misses, and names each case that a mean
    leaves out.

    Args:
        prediction: label map `([depth,] height, width)`, integers, the numbers of classes; for
            multi-label, masks `(classes, [depth,] height, width)`, bool.
        reference: likewise, on the same grid.
        class_names: in the order of the numbers. A label map's first is the background, which gets
            no scores.
        spacing: mm, in the order of the axes. Distances and the tolerance are in its unit: 1.0 for
            each axis gives them in pixels.
        case: what messages call the case.
        multi_label: whether structures may overlap.
        ignore_index: label of a reference's voxels that are judged neither right nor wrong; they
            count as background in both, so that surfaces end at them. `None` if there are none;
            masks have none.
        tolerance_mm: distance that is no error to the surface Dice; or one for each class.
        surfaces: whether surfaces are compared, which takes most of the time, or the names of the
            surface metrics that are wanted. Without, there are only Dice and numbers of voxels.

    Returns:
        For each class "dice", "surface_dice" (0 to 1), "hausdorff95", "average_surface_distance"
        (mm), "predicted_voxels" and "reference_voxels".

    Raises:
        ValueError: naming the case, if the shapes differ, a label is none of the classes, or
            spacing or tolerance do not fit.
    """
    names = check_class_names(class_names, 1 if multi_label else 2)
    wanted = _surface_metrics(surfaces)
    try:
        pair = check_pair(prediction, reference, len(names), multi_label, ignore_index)
        lengths = check_spacing(spacing, pair.prediction.ndim - multi_label)
        tolerances = check_tolerances(tolerance_mm, names if multi_label else names[1:])
    except ValueError as error:
        raise ValueError(f"{case}: {error}") from error
    dice = dice_of_counts(torch.from_numpy(pair.counts))
    scores: dict[str, dict[str, float | None]] = {}
    in_both = []
    for number in range(0 if multi_label else 1, len(names)):
        _, predicted, referred = pair.counts[number].tolist()
        value = float(dice[number]) if predicted or referred else None
        # Where one side is empty, Dice is 0, and so is the share of surfaces near the other.
        scores[names[number]] = {
            "dice": value,
            **{metric: value if metric == "surface_dice" else None for metric in wanted},
            "predicted_voxels": predicted,
            "reference_voxels": referred,
        }
        in_both += [number] if predicted and referred else []
    measured = in_both if wanted else []
    for number, masks in zip(measured, pair.masks(measured), strict=True):
        row = scores[names[number]]
        if "surface_dice" in wanted:
            row["surface_dice"] = surface_dice(*masks, lengths, tolerances[names[number]])
        if set(wanted) - {"surface_dice"}:
            distances = zip(SEGMENTATION_METRICS[2:], edge_distances(*masks, lengths), strict=True)
            row |= {metric: value for metric, value in distances if metric in wanted}
    return scores


def _surface_metrics(surfaces: bool | Collection[str]) -> list[str]:
    if isinstance(surfaces, bool):
        return list(SEGMENTATION_METRICS[1:]) if surfaces else []
    for metric in surfaces:
        if metric not in SEGMENTATION_METRICS[1:]:
            near = did_you_mean(near_names(str(metric), SEGMENTATION_METRICS[1:], 0.6))
            raise ValueError(
                f"There is no surface metric {metric!r}; there are "
                f"{', '.join(SEGMENTATION_METRICS[1:])}.{near}"
            )
    return list(surfaces)
