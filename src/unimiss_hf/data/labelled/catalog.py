"""The labelled data sets whose folders are known by name, and telling which of them a folder is."""

from __future__ import annotations

from pathlib import Path

from ...input_checks_mit import did_you_mean, near_matches, near_names
from .btcv import BTCV
from .case import LabelledLayout
from .chaos import CHAOS
from .chestxr import CHESTXR
from .chestxray14 import CHESTXRAY14_FINDINGS
from .class_folders import CLASS_FOLDERS
from .jsrt import JSRT
from .mmwhs import MMWHS
from .msd import MSD
from .nlst import NLST
from .nnunet import NNUNET
from .ricord import RICORD
from .sample_organs import SAMPLE_SHADOWS
from .totalsegmentator import TOTALSEGMENTATOR

LABELLED_LAYOUTS: dict[str, LabelledLayout] = {
    layout.name: layout
    for layout in (
        BTCV,
        RICORD,
        CHAOS,
        CHESTXR,
        JSRT,
        CHESTXRAY14_FINDINGS,
        MMWHS,
        MSD,
        NLST,
        TOTALSEGMENTATOR,
        NNUNET,
        CLASS_FOLDERS,
        SAMPLE_SHADOWS,
    )
}
"""By name: UniMiSS's benchmarks, those it is compared on, one's own images, and the sample."""


def find_labelled_layout(folder: str | Path, name: str | None = None) -> LabelledLayout:
    """Tell which labelled data set a folder is.

    Args:
        folder: the data set's own folder, or the one that its download wraps it in.
        name: the data set's name, a key of `LABELLED_LAYOUTS`, where the caller knows it.

    Raises:
        FileNotFoundError, NotADirectoryError: if there is no such folder.
        ValueError: if there is no layout called `name`; if the folder does not look like it, or
            like any; if it looks like several.
    """
    folder = Path(folder).expanduser()
    if name is not None and name not in LABELLED_LAYOUTS:
        raise ValueError(
            f"There is no layout {name!r}; there are {', '.join(LABELLED_LAYOUTS)}."
            f"{did_you_mean(near_names(name, LABELLED_LAYOUTS))}"
        )
    if not folder.exists():
        raise FileNotFoundError(
            f"There is no folder {folder}.{did_you_mean(near_matches(folder, hidden=False))}"
        )
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; wanted the folder of a data set.")
    candidates = LABELLED_LAYOUTS.values() if name is None else [LABELLED_LAYOUTS[name]]
    found = [layout for layout in candidates if layout.recognise(folder)]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(
            f"{folder} looks like several data sets: {', '.join(layout.name for layout in found)}. "
            "Say which it is with --layout."
        )
    if name is not None:
        layout = LABELLED_LAYOUTS[name]
        where = f" ({layout.homepage})" if layout.homepage else ""
        raise ValueError(
            f"{folder} does not look like {layout.title}: its folders and names are not those of "
            f"the download{where}."
        )
    raise ValueError(
        f"{folder} is none of the data sets that are known: "
        f"{', '.join(layout.title for layout in LABELLED_LAYOUTS.values())}. Pass the folder that "
        "was unpacked, or arrange your own: dataset.json, imagesTr, labelsTr, as nnU-Net does; or "
        "train/CLASS, test/CLASS."
    )
