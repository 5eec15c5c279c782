"""Average surface distance, as a module of the evaluate library."""

from typing import Any

from unimiss_hf.metrics.segmentation_module import SegmentationModule


class AverageSurfaceDistance(SegmentationModule):
    """Mean distance of the edge voxels of each segmentation from those of the other, mm.

    Both directions are taken together, each edge voxel counted alike. It is undefined where a class
    is not in both segmentations; such cases are not counted, and told.
    """

    citation = (
        "Heimann et al. Comparison and evaluation of methods for liver segmentation from CT "
        "datasets. IEEE Transactions on Medical Imaging, 2009."
    )
    inputs = """
Returns:
    average_surface_distance, classes_counted, per_class (mean, std, cases, and undefined: the cases
    that are not counted), cases, present, misses, false_positives and never_present.
"""

    def _compute(self, predictions: Any, references: Any, **settings: Any) -> dict[str, Any]:
        return self._judge("average_surface_distance", predictions, references, **settings)
