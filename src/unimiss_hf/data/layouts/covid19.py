"""CT Images in COVID-19, as TCIA gives it away: NIfTI files `volume-covid19-A-0000.nii.gz`.

Patients seen several times have `_day000` and so on behind their number, others `_1`. Names that
end in `_ct` and `_seg` are those of the challenge COVID-19-20, and not this data set's.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path

from ..sources import visible_files
from .item import Layout, Problem, SourceItem
from .licenses import CC_BY_4
from .tree import each_once, has_root, require_root, stem_of, unfinished

_TITLE = "CT Images in COVID-19"
_IMAGE = r"volume-covid19-(A-\d{4})(?:_day\d+|_\d+)?\.nii(?:\.gz)?"
_PATTERNS = (_IMAGE,)


def _items(folder: Path) -> Iterator[SourceItem | Problem]:
    root = require_root(folder, _PATTERNS, _TITLE)
    files = visible_files(root)
    yield from unfinished(root, files)
    yield from each_once(
        SourceItem(stem_of(path), "3d", (path,), patient=match[1])
        for path in files
        if (match := re.fullmatch(_IMAGE, path.name))
    )


CT_IMAGES_IN_COVID_19 = Layout(
    name="ct-images-in-covid-19",
    title=_TITLE,
    homepage="https://www.cancerimagingarchive.net/collection/ct-images-in-covid-19/",
    license=CC_BY_4,
    citation=(
        "An P, Xu S, Harmon SA, et al. CT Images in COVID-19 [data set]. The Cancer Imaging "
        "Archive (2020). https://doi.org/10.7937/TCIA.2020.GQRY-NC81. Harmon SA, Sanford TH, Xu S, "
        "et al. "
        "Artificial intelligence for the detection of COVID-19 pneumonia on chest CT using "
        "multinational datasets. Nature Communications 11, 4080 (2020)."
    ),
    dimensions=("3d",),
    recognise=functools.partial(has_root, patterns=_PATTERNS),
    items=_items,
)
"""Unenhanced chest CTs of patients with COVID-19, some of them several times."""
