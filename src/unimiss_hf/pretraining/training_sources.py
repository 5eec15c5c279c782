"""Which data sets a run of pretraining trains on, as far as a card can name them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..data.layouts.catalog import find_layout
from ..data.prepared_folders import NOTE
from ..data.sample_terms import find_sample_data
from ..hub.training_data import TrainingData, terms_name


def find_sources(addresses: Iterable[str]) -> list[TrainingData]:
    """Name the data sets behind folders of this machine, with their terms.

    A prepared folder says which data sets it was made from; a folder as it was downloaded is known
    by its names; the sample data note what they are. Nothing is said of others, nor of names on the
    Hub, whose own cards say it.

    Args:
        addresses: What `dataset_2d` and `dataset_3d` hold.
    """
    found: list[TrainingData] = []
    for address in addresses:
        folder = Path(address).expanduser()
        if folder.is_dir():
            found += _sources_of(folder)
    return list(dict.fromkeys(found))


def _sources_of(folder: Path) -> list[TrainingData]:
    for place in (folder, folder.parent):
        if (place / NOTE).is_file():
            return _of_prepared(place / NOTE)
    sample = find_sample_data(folder)
    if sample is not None:
        return [sample]
    try:
        layout = find_layout(folder)
    except (ValueError, OSError):
        return []  # looks like several, or holds one: nothing that could be named
    return [] if layout is None else [TrainingData.of(layout)]


def _of_prepared(note: Path) -> list[TrainingData]:
    try:
        sources = json.loads(note.read_text(encoding="utf-8"))["sources"]
        return [_of_source(source) for source in sources]
    except (ValueError, OSError, KeyError, TypeError, IndexError):
        return []  # of another version, which says it otherwise


def _of_source(source: dict[str, Any]) -> TrainingData:
    terms = source["licenses"]
    names = [terms_name(one["identifier"], one["name"]) for one in terms]
    return TrainingData(
        source["title"],
        source["homepage"],
        ", ".join(dict.fromkeys(names)),
        terms[0]["url"] if len(terms) == 1 else "",
        " ".join(source["citation"].split()),
    )
