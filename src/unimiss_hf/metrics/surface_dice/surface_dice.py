"""Normalised surface Dice, as a module of the evaluate library."""

from typing import Any

from unimiss_hf.metrics.segmentation_module import SegmentationModule


class SurfaceDice(SegmentationModule):
    """Share of both surfaces, in area, that is within a tolerance of the other surface.

    A class that is in one of the segmentations only has 0; one that is in neither is not counted,
    and told.
    """

    citation = (
        "Nikolov et al. Clinically applicable segmentation of head and neck anatomy for "
        "radiotherapy. Journal of Medical Internet Research, 2021."
    )
    inputs = """    tolerance_mm: distance that is no error, 2.0 if not given; or class to mm.

Returns:
    surface_dice, classes_counted, per_class (mean, std, cases, and undefined: the cases that are
    not counted), cases, present, misses, false_positives and never_present.
"""

    def _compute(self, predictions: Any, references: Any, **settings: Any) -> dict[str, Any]:
        return self._judge("surface_dice", predictions, references, **settings)
