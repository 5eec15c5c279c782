"""What a layout finds in a folder, sorted out."""

from pathlib import Path

from unimiss_hf.data.layouts.catalog import LAYOUTS
from unimiss_hf.data.layouts.item import Problem, SourceItem


def items(name: str, folder: Path) -> dict[str, SourceItem]:
    found = [one for one in LAYOUTS[name].items(folder) if isinstance(one, SourceItem)]
    assert len({item.name for item in found}) == len(found)
    return {item.name: item for item in found}


def problems(name: str, folder: Path) -> dict[str, Problem]:
    return {one.name: one for one in LAYOUTS[name].items(folder) if isinstance(one, Problem)}
