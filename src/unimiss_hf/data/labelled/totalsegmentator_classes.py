"""The structures that TotalSegmentator draws, and the five groups it sorts them into.

Names, orders and groups are those of its own code (github.com/wasserth/TotalSegmentator,
`map_to_binary.py`), for both versions of the data set: version 1 has 104 structures, version 2 has
117.
"""

from __future__ import annotations

from collections.abc import Iterable


def _sides(*names: str, first: str = "left") -> tuple[str, ...]:
    second = {"left": "right", "right": "left"}[first]
    return tuple(f"{name}_{side}" for name in names for side in (first, second))


_VERTEBRAE = tuple(
    f"vertebrae_{region}{number}"
    for region, most in (("L", 5), ("T", 12), ("C", 7))
    for number in range(most, 0, -1)
)
_RIBS = tuple(f"rib_{side}_{number}" for side in ("left", "right") for number in range(1, 13))
_LUNG_LOBES = (
    "lung_upper_lobe_left",
    "lung_lower_lobe_left",
    "lung_upper_lobe_right",
    "lung_middle_lobe_right",
    "lung_lower_lobe_right",
)
_UPPER_ORGANS = (
    "spleen",
    *_sides("kidney", first="right"),
    "gallbladder",
    "liver",
    "stomach",
)
_ADRENAL_GLANDS = _sides("adrenal_gland", first="right")
_ILIAC_VESSELS = _sides("iliac_artery", "iliac_vena")
_LIMBS = _sides("humerus", "scapula", "clavicula", "femur", "hip")
_MUSCLES = _sides("gluteus_maximus", "gluteus_medius", "gluteus_minimus", "autochthon", "iliopsoas")

GROUPS_1: dict[str, tuple[str, ...]] = {
    "organs": (
        *_UPPER_ORGANS,
        "aorta",
        "inferior_vena_cava",
        "portal_vein_and_splenic_vein",
        "pancreas",
        *_ADRENAL_GLANDS,
        *_LUNG_LOBES,
    ),
    "vertebrae": _VERTEBRAE,
    "cardiac": (
        "esophagus",
        "trachea",
        "heart_myocardium",
        "heart_atrium_left",
        "heart_ventricle_left",
        "heart_atrium_right",
        "heart_ventricle_right",
        "pulmonary_artery",
        "brain",
        *_ILIAC_VESSELS,
        "small_bowel",
        "duodenum",
        "colon",
        "urinary_bladder",
        "face",
    ),
    "muscles": (*_LIMBS, "sacrum", *_MUSCLES),
    "ribs": _RIBS,
}
"""Version 1."""

GROUPS_2: dict[str, tuple[str, ...]] = {
    "organs": (
        *_UPPER_ORGANS,
        "pancreas",
        *_ADRENAL_GLANDS,
        *_LUNG_LOBES,
        "esophagus",
        "trachea",
        "thyroid_gland",
        "small_bowel",
        "duodenum",
        "colon",
        "urinary_bladder",
        "prostate",
        *_sides("kidney_cyst"),
    ),
    "vertebrae": ("sacrum", "vertebrae_S1", *_VERTEBRAE),
    "cardiac": (
        "heart",
        "aorta",
        "pulmonary_vein",
        "brachiocephalic_trunk",
        *_sides("subclavian_artery", "common_carotid_artery", first="right"),
        *_sides("brachiocephalic_vein"),
        "atrial_appendage_left",
        "superior_vena_cava",
        "inferior_vena_cava",
        "portal_vein_and_splenic_vein",
        *_ILIAC_VESSELS,
    ),
    "muscles": (*_LIMBS, "spinal_cord", *_MUSCLES, "brain", "skull"),
    "ribs": (*_RIBS, "sternum", "costal_cartilages"),
}
"""Version 2."""


def _joined(*groups: Iterable[str]) -> tuple[str, ...]:
    return tuple(name for group in groups for name in group)


_CARDIAC_1 = tuple(name for name in GROUPS_1["cardiac"] if name not in ("urinary_bladder", "face"))
ALL_1 = _joined(
    GROUPS_1["organs"],
    _VERTEBRAE,
    _CARDIAC_1,
    _RIBS,
    _LIMBS,
    ("sacrum", "face"),
    _MUSCLES,
    ("urinary_bladder",),
)
"""All of version 1, in the order of its label values from 1."""
ALL_2 = _joined(*GROUPS_2.values())
"""All of version 2, in the order of its label values from 1."""
