"""What frozen features know, by nearest neighbours and linear classifiers."""

from .organ_probe import OrganProbe, ProbeScores
from .patches import PATCH_CLASSES, OrganPatches, draw_patches
from .report import Probed, as_dict, as_text, write_report
from .run import run_probe
from .scores import Scores, knn_scores, linear_scores
from .settings import ProbeSettings, parse_settings

__all__ = [
    "PATCH_CLASSES",
    "OrganPatches",
    "OrganProbe",
    "ProbeScores",
    "ProbeSettings",
    "Probed",
    "Scores",
    "as_dict",
    "as_text",
    "draw_patches",
    "knn_scores",
    "linear_scores",
    "parse_settings",
    "run_probe",
    "write_report",
]
