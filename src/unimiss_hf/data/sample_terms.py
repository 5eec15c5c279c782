"""What a card says of a model that was trained on the sample CT or on what is made of it."""

from __future__ import annotations

from pathlib import Path

from ..hub.training_data import TrainingData
from .labelled.sample_organs import SAMPLE_SHADOWS

# The settings that every folder of sample data notes, and what its images are.
_NOTES = {
    "sample.json": "the sample CT of LIDC-IDRI and radiographs rendered from it",
    "sample_organs.json": "organs of the sample CT of LIDC-IDRI",
    "sample_views.json": "views of the chest, rendered from the sample CT of LIDC-IDRI",
}
SAMPLE_LICENSE = SAMPLE_SHADOWS.license
"""The terms of the CT, and so of all that is computed from it."""


def sample_data(note: str) -> TrainingData:
    """Describe the sample data whose settings a file of this name notes."""
    return TrainingData(
        _NOTES[note],
        SAMPLE_SHADOWS.homepage,
        SAMPLE_LICENSE.name,
        SAMPLE_LICENSE.url,
        SAMPLE_SHADOWS.citation,
    )


def find_sample_data(folder: str | Path) -> TrainingData | None:
    """Describe the sample data that a folder is, or is a part of; `None` for any other."""
    folder = Path(folder).expanduser()
    for place in (folder, folder.parent):
        for note in _NOTES:
            if (place / note).is_file():
                return sample_data(note)
    return None
