"""ChestX-ray14 with its 14 findings, as the NIH Clinical Center gives it away.

Images, table and lists lie as `data/layouts/chestxray14.py` says. Labels are the column "Finding
Labels" of the table, mined from reports; several may hold at once, and "No Finding" is none of
them. The split is the official one by patient.
"""

from __future__ import annotations

from pathlib import Path

from ...input_checks_mit import did_you_mean, near_names
from ..layouts.chestxray14 import CHESTXRAY14, PATTERNS, SPLITS, TABLES, TITLE
from ..layouts.item import Problem
from ..layouts.tables import read_rows
from ..layouts.tree import require_root
from .case import LabelledCase, LabelledData, LabelledLayout
from .options import refuse_unknown

# The order of Wang et al. (2017) and of the six findings that they added, which others keep.
FINDINGS = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
)
_NONE = "No Finding"
_IMAGE_COLUMN, _LABEL_COLUMN = "Image Index", "Finding Labels"


def _read(folder: Path, **others: object) -> LabelledData:
    refuse_unknown(others, {}, TITLE)
    root = require_root(folder, PATTERNS, TITLE)
    targets = _targets(root)
    for name, split in SPLITS.items():
        if not (root / name).is_file():
            raise FileNotFoundError(
                f"{root / name} is not there: it says which images are {split}. Download it beside "
                f"the images."
            )
    cases: list[LabelledCase] = []
    told: list[Problem] = []
    unlabelled: list[Problem] = []
    for found in CHESTXRAY14.items(folder):
        if isinstance(found, Problem):
            told.append(found)
        elif found.files[0].name in targets:
            target = targets[found.files[0].name]
            cases.append(
                LabelledCase(
                    found.name,
                    "2d",
                    found.files,
                    split=found.split,
                    patient=found.patient,
                    target=target,
                )
            )
        else:
            reason = f"has no row in {' or '.join(TABLES)}, so no label. It is left out."
            unlabelled.append(Problem(found.name, reason))
    # The unlabelled layout takes such images all the same, and says so.
    left_out = {problem.name for problem in unlabelled}
    problems = [problem for problem in told if problem.name not in left_out]
    return LabelledData(
        FINDINGS, tuple(cases), "multi_label_classification", (*problems, *unlabelled)
    )


def _targets(root: Path) -> dict[str, tuple[float, ...]]:
    """Image file → 0 and 1 for each finding."""
    table = next((root / name for name in TABLES if (root / name).is_file()), None)
    if table is None:
        raise FileNotFoundError(
            f"{root} has neither {' nor '.join(TABLES)}, and the labels are in it. Download it "
            f"beside the images."
        )
    targets: dict[str, tuple[float, ...]] = {}
    for number, row in enumerate(read_rows(table, (_IMAGE_COLUMN, _LABEL_COLUMN)), start=2):
        image = row[_IMAGE_COLUMN]
        target = _target(row[_LABEL_COLUMN], f"{table}, line {number}, {image}")
        if targets.setdefault(image, target) != target:
            raise ValueError(
                f"{table}, line {number}: {image} has other findings than in a line above. "
                f"Download the table again."
            )
    if not targets:
        raise ValueError(f"{table} lists no image. Download it again.")
    return targets


def _target(labels: str, place: str) -> tuple[float, ...]:
    found = [label.strip() for label in labels.split("|")]
    for label in found:
        if label not in FINDINGS and label != _NONE:
            raise ValueError(
                f"{place}: there is no finding {label!r}; there are {', '.join(FINDINGS)}, and "
                f"{_NONE}.{did_you_mean(near_names(label, (*FINDINGS, _NONE)))}"
            )
    if _NONE in found and len(found) > 1:
        raise ValueError(f"{place}: {labels!r} names findings and says that there are none.")
    return tuple(float(finding in found) for finding in FINDINGS)


CHESTXRAY14_FINDINGS = LabelledLayout(
    name="chestxray14",
    title=TITLE,
    homepage=CHESTXRAY14.homepage,
    license=CHESTXRAY14.license,
    citation=CHESTXRAY14.citation,
    task="classification",
    dimension="2d",
    recognise=CHESTXRAY14.recognise,
    read=_read,
)
"""112,120 frontal radiographs of 30,805 patients, with 14 findings."""
