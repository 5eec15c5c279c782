"""Hausdorff 95, as a module of the evaluate library."""

from typing import Any

from unimiss_hf.metrics.segmentation_module import SegmentationModule


class Hausdorff95(SegmentationModule):
    """95th percentile of the distances between edge voxels, mm: of both directions the greater.

    It is undefined where a class is not in both segmentations; such cases are not counted, and
    told.
    """

    citation = (
        "Huttenlocher, Klanderman, Rucklidge. Comparing images using the Hausdorff distance. IEEE "
        "Transactions on Pattern Analysis and Machine Intelligence, 1993."
    )
    inputs = """
Returns:
    hausdorff95, classes_counted, per_class (mean, std, cases, and undefined: the cases that are not
    counted), cases, present, misses, false_positives and never_present.
"""

    def _compute(self, predictions: Any, references: Any, **settings: Any) -> dict[str, Any]:
        return self._judge("hausdorff95", predictions, references, **settings)
