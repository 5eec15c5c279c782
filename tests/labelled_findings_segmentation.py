"""What a reader of labelled volumes finds, and whether its labels lie where they should."""

import pickle
from pathlib import Path

import numpy as np

from unimiss_hf import MiTImageProcessor
from unimiss_hf.data.labelled.case import LabelledCase, LabelledData, LabelledLayout


def cases_of(layout: LabelledLayout, folder: Path, **options) -> dict[str, LabelledCase]:
    """The cases of a folder by their names, as they are after a way through another process."""
    data = layout.read(folder, **options)
    assert len({case.name for case in data.cases}) == len(data.cases)
    return {case.name: pickle.loads(pickle.dumps(case)) for case in data.cases}


def reasons_of(data: LabelledData) -> dict[str, str]:
    """What is wrong with a folder, by the names of the problems."""
    return {problem.name: problem.reason for problem in data.problems}


def prepared(case: LabelledCase, **settings) -> tuple[np.ndarray, np.ndarray]:
    """A case's values and labels `([depth,] height, width)` as a network gets them."""
    batch = MiTImageProcessor(**settings)(
        case.load_image(case), segmentation_maps=case.load_labels(case), return_tensors="pt"
    )
    return batch["pixel_values"][0, 0].numpy(), batch["labels"][0].numpy()


def require_in_place(case: LabelledCase, values: np.ndarray, labels: np.ndarray) -> None:
    """Check that a case's values and labels are these, RAS+, on their own grid and on another."""
    unchanged = {"spacing": None, "window": None, "scaling": (0, 1), "image_size": None}
    found_values, found_labels = prepared(case, **unchanged)
    np.testing.assert_array_equal(found_values, values)
    np.testing.assert_array_equal(found_labels, labels)
    # Thrice as fine along each axis: each voxel becomes 27, in the same place.
    spacing = tuple(float(length) / 3 for length in (2.5, 0.8, 0.7))
    finer_values, finer_labels = prepared(case, **unchanged | {"spacing": spacing})
    assert finer_values.shape == finer_labels.shape == tuple(3 * n for n in labels.shape)
    np.testing.assert_array_equal(finer_labels[1::3, 1::3, 1::3], labels)
    np.testing.assert_allclose(finer_values[1::3, 1::3, 1::3], values, atol=0.01)
