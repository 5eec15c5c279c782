"""Dice coefficient, as a module of the evaluate library."""

from typing import Any

from unimiss_hf.metrics.segmentation_module import SegmentationModule


class Dice(SegmentationModule):
    """Dice coefficient of each class, and the mean over classes of their means over cases.

    Twice the voxels in both segmentations over the voxels of each. A class that is in one of them
    only has 0; one that is in neither is not counted, and told.
    """

    citation = (
        "Dice. Measures of the amount of ecologic association between species. Ecology, 1945."
    )
    inputs = """
Returns:
    dice, classes_counted, per_class (mean, std, cases, and undefined: the cases that are not
    counted), cases, present, misses, false_positives and never_present.
"""

    def _compute(self, predictions: Any, references: Any, **settings: Any) -> dict[str, Any]:
        return self._judge("dice", predictions, references, **settings)
