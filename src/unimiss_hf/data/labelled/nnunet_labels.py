"""What `dataset.json` of nnU-Net says of labels: classes, regions of several, what is ignored.

The rules are those of nnU-Net v2 (github.com/MIC-DKFZ/nnUNet, `documentation/dataset_format.md`,
`region_based_training.md`, `ignore_label.md`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .label_bits import MOST_CLASSES, pack_masks
from .label_values import IGNORED, class_numbers

_BACKGROUND, _IGNORE = "background", "ignore"


@dataclass(frozen=True)
class LabelScheme:
    """How stored label values become class numbers.

    Attributes:
        class_names: "background" first; without it where classes are regions, which may overlap.
        numbers: the class's number for each stored value; 255 for what is ignored.
        regions: for classes that are regions, the stored values that each unites; else none.
    """

    class_names: tuple[str, ...]
    numbers: Mapping[int, int]
    regions: tuple[tuple[int, ...], ...] = ()

    def apply(self, values: np.ndarray, case: str) -> np.ndarray:
        """Turn stored values into class numbers, uint8, or bits of regions, int64.

        Raises:
            ValueError: if there is another value; it names the case.
        """
        numbers = class_numbers(values, self.numbers, case)
        if not self.regions:
            return numbers
        # Stored values of regions are their own numbers.
        return pack_masks([np.isin(numbers, region) for region in self.regions])


def label_scheme(labels: Any, source: str) -> LabelScheme:
    """Read `labels` of a `dataset.json`.

    Args:
        labels: numbers, or for regions lists of them, by names.
        source: what messages call the file.

    Raises:
        ValueError: if they are not what nnU-Net takes: without background 0, not 0, 1, 2, ...,
            ignoring another value than the last; or if regions come with an ignored value, which a
            map of bits cannot hold.
    """
    values = _checked(labels, source)
    if values.get(_BACKGROUND) != (0,):
        raise ValueError(f'{source} has labels {labels}; wanted "background": 0 among them.')
    found = sorted({value for group in values.values() for value in group})
    if found != list(range(len(found))):
        raise ValueError(
            f"{source} has the label values {', '.join(map(str, found))}; nnU-Net wants 0, 1, 2, "
            f"... without a gap. Renumber the labels, in the files too."
        )
    ignored = values.pop(_IGNORE, None)
    if ignored is not None and ignored != (found[-1],):
        raise ValueError(
            f"{source} ignores {list(ignored)}; nnU-Net wants the highest label value, {found[-1]}."
        )
    if any(len(group) > 1 for group in values.values()):
        return _regions(values, found, ignored, source)
    by_value = {group[0]: name for name, group in values.items()}
    if len(by_value) < len(values) or len(values) > IGNORED:
        raise ValueError(f"{source} has labels {labels}; wanted a value of its own for each name.")
    numbers = {value: value for value in by_value}
    if ignored is not None:
        numbers[ignored[0]] = IGNORED
    return LabelScheme(tuple(by_value[value] for value in sorted(by_value)), numbers)


def _checked(labels: Any, source: str) -> dict[str, tuple[int, ...]]:
    """The values of each name, at least one."""
    values = {}
    for name, value in labels.items() if isinstance(labels, dict) else ():
        group = value if isinstance(value, list) else [value]
        if not group or not all(type(number) is int and number >= 0 for number in group):
            break
        values[name] = tuple(group)
    else:
        if values:
            return values
    raise ValueError(
        f'{source} has labels {labels!r}; wanted a value for each name, {{"background": 0, '
        f'"liver": 1, ...}}, or a list of values. Where values come first, it is of nnU-Net v1 or '
        f"of the Decathlon: layout msd."
    )


def _regions(
    values: Mapping[str, tuple[int, ...]],
    found: Sequence[int],
    ignored: tuple[int, ...] | None,
    source: str,
) -> LabelScheme:
    regions = {name: group for name, group in values.items() if name != _BACKGROUND}
    if ignored is not None:
        raise ValueError(
            f"{source} has regions and an ignored value. Regions may overlap, so their label map "
            f"is made of bits, and has no room for voxels to ignore. Leave one of them out."
        )
    if len(regions) > MOST_CLASSES:
        raise ValueError(f"{source} has {len(regions)} regions; at most {MOST_CLASSES} are taken.")
    return LabelScheme(tuple(regions), {value: value for value in found}, tuple(regions.values()))
