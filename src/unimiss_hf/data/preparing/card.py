"""The dataset card of a prepared data set."""

import json
import re
import shlex

from datasets import DatasetInfo
from datasets.info import DatasetInfosDict
from datasets.splits import SplitDict, SplitInfo
from datasets.utils.metadata import MetadataConfigs
from huggingface_hub import DatasetCard, DatasetCardData

from ...hub.card_rendering import render_text
from ..layouts.item import License
from .shard_writing import FEATURES
from .summary import Summary

_TAGS = {"volumes": ["ct", "3d"], "radiographs": ["radiography"]}
_MOST_FAILURES = 20
_SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M")


def make_card(summary: Summary, title: str) -> str:
    """Write the card, whose metadata make `load_dataset` find the parts.

    Args:
        summary: What was prepared.
        title: What to call the data set.

    Returns:
        The text of `README.md`. It names sources by their labels, never by local paths, and says
        the same whenever and with how many processes the data set was prepared.
    """
    parts = list(summary.parts)
    licenses = sorted({terms.identifier for s in summary.sources for terms in s.licenses})
    data = DatasetCardData(
        pretty_name=title,
        license=licenses if len(licenses) > 1 else licenses[0],
        tags=["medical-imaging", *(tag for part in parts for tag in _TAGS[part]), "unimiss"],
        task_categories=["image-feature-extraction"],
        size_categories=[_size_category(sum(map(summary.num_samples, parts)))],
    )
    MetadataConfigs(
        {
            part: {
                "data_files": [
                    {"split": split, "path": f"{part}/{split}-*.parquet"} for split in splits
                ]
            }
            for part, splits in summary.parts.items()
        }
    ).to_dataset_card_data(data)
    DatasetInfosDict({part: _info(summary, part) for part in parts}).to_dataset_card_data(data)
    text = render_text(
        "dataset.md",
        {"cell": _cell, "words": _words, "terms": _terms},
        card_data=data.to_yaml(),
        summary=summary,
        settings=summary.settings,
        title=title,
        spacing=" x ".join(f"{length:g}" for length in summary.settings.spacing),
        first_split=lambda part: next(iter(summary.parts[part])),
        command=_command(summary),
        failures=[line for line in summary.lines if line.state == "failed"][:_MOST_FAILURES],
        megabytes=lambda size: f"{size / 1e6:,.1f} MB",
    )
    # Read back, as a name or a reason could have torn the metadata.
    if DatasetCard(text).data.to_dict() != data.to_dict():
        raise ValueError(f"The card of {title} cannot be read back.")
    return text


def retitled(text: str, name: str) -> str:
    """Have a card's examples open the data set by another name, as that of a repository."""
    quoted = json.dumps(name)
    return re.sub(r'load_dataset\("(?:[^"\\]|\\.)*"', lambda _: f"load_dataset({quoted}", text)


def _info(summary: Summary, part: str) -> DatasetInfo:
    splits = SplitDict()
    for split, files in summary.parts[part].items():
        count = sum(file.num_samples for file in files)
        splits[split] = SplitInfo(split, sum(file.num_bytes for file in files), count)
    size = summary.num_bytes(part)
    return DatasetInfo(
        features=FEATURES[part], splits=splits, download_size=size, dataset_size=size
    )


def _size_category(count: int) -> str:
    return _SIZES[min(max(len(str(count)) - 3, 0), len(_SIZES) - 1)]


def _command(summary: Summary) -> str:
    """The command, without what says where on a disk the sources are."""
    words = ["python", "-m", "unimiss_hf.data", "prepare"]
    words += [source.label for source in summary.sources] + ["OUT"]
    for name, value in summary.settings.changed_content().items():
        values = value if isinstance(value, list) else [value]
        words += [f"--{name}", *(f"{v:g}" if isinstance(v, float) else str(v) for v in values)]
    return shlex.join(words)


def _cell(text: str) -> str:
    return _words(text).replace("|", "\\|")


def _terms(license: License) -> str:
    name = _cell(license.name)
    return f"[{name}]({license.url})" if license.url else name


def _words(text: str) -> str:
    return " ".join(text.split())
