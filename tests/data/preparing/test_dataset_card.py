"""The card is public: it opens the data set, names every source, and tells nothing of the disk."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from datasets import load_dataset
from huggingface_hub import DatasetCard

from unimiss_hf.data.layouts.folder import FOLDER
from unimiss_hf.data.layouts.item import License, Problem, SourceItem
from unimiss_hf.data.preparing.card import make_card, retitled
from unimiss_hf.data.preparing.origins import Origin
from unimiss_hf.data.preparing.output_folder import OutputFolder
from unimiss_hf.data.preparing.planning import make_plan
from unimiss_hf.data.preparing.report import ReportLine
from unimiss_hf.data.preparing.shard_writing import write_shard
from unimiss_hf.data.preparing.summary import summarise


def items(folder: Path) -> Iterator[SourceItem | Problem]:
    for index, path in enumerate(sorted(folder.rglob("*.png"))):
        # One has terms of its own.
        terms = License("cc0-1.0", "CC0", "") if index == 0 else None
        split = "test" if index > 3 else "train"
        yield SourceItem(path.name, "2d", (path,), split=split, license=terms)
    yield Problem("lost|torn.png", f"{folder}/lost|torn.png is missing\n---\n")


TERMS = License("other", "Special Terms", "https://example.org/terms")
LAYOUT = replace(
    FOLDER,
    name="toy",
    title="The | Set",
    homepage="https://example.org",
    citation="A. Author: The Set.\n2020.",
    items=items,
)


@pytest.fixture
def output(tmp_path, films, scans, make_settings) -> Path:
    """A data set of both dimensions, with two splits in 2D, and a failure."""
    settings = make_settings(min_shards=1, source_spacing=(3, 1, 1), license="cc-by-4.0")
    origins = [
        Origin("toy", LAYOUT, TERMS, films),
        Origin("scans", FOLDER, License("cc-by-4.0", "cc-by-4.0", ""), scans),
    ]
    plan = make_plan(origins, settings)
    with OutputFolder(tmp_path / "my set") as folder:
        folder.begin(plan, settings)
        records = [
            write_shard(shard, settings, folder.hidden, folder.partial) for shard in plan.shards
        ]
        done = [
            ReportLine(sample.origin, sample.item.name, shard.split, "prepared")
            for shard in plan.shards
            for sample in shard.samples
        ]
        summary = summarise(plan, settings, records, [*plan.lines, *done])
        texts = {"README.md": make_card(summary, "my set"), "prepared.json": summary.to_json()}
        folder.finish(records, texts)
    return tmp_path / "my set"


@pytest.mark.parametrize("streaming", [False, True])
def test_the_folder_opens_part_by_part(output, streaming):
    volumes = load_dataset(str(output), "volumes", streaming=streaming)
    films = load_dataset(str(output), "radiographs", streaming=streaming)
    counts = [(name, len(list(split))) for name, split in {**volumes, **films}.items()]
    assert sorted(counts) == [("test", 2), ("train", 4)]
    assert len(list(volumes["train"])) == 5
    assert volumes["train"].info.splits["train"].num_examples == 5
    assert next(iter(films["test"]))["image"].size == (30, 24)


def test_its_metadata_are_those_of_the_hub(output):
    data = DatasetCard.load(output / "README.md").data
    assert data.license == ["cc-by-4.0", "cc0-1.0", "other"]
    assert data.size_categories == ["n<1K"]
    assert data.pretty_name == "my set"
    assert {"ct", "radiography", "3d"} <= set(data.tags)
    assert [config["config_name"] for config in data.configs] == ["radiographs", "volumes"]


def test_it_tells_of_each_source_and_failure(output):
    text = (output / "README.md").read_text()
    assert "| The \\| Set | 6 | 1 | CC0, [Special Terms](https://example.org/terms) |" in text
    assert "\n1 image failed or was missing, and is not in it:\n" in text
    assert "* `volumes`: 5 CT volumes (" in text
    assert "| scans | 5 | 0 | cc-by-4.0 | none known |" in text
    assert "* The | Set: A. Author: The Set. 2020." in text
    assert "| toy | lost\\|torn.png | lost\\|torn.png is missing --- |" in text
    command = "python -m unimiss_hf.data prepare toy scans OUT --source_spacing 3 1 1"
    assert command in text
    assert "--samples_per_shard 2 --min_shards 1" in text
    assert "--workers" not in text


def test_nothing_that_is_public_tells_where_files_lie(output):
    for name in ("README.md", "prepared.json"):
        text = (output / name).read_text()
        assert str(output.parent) not in text
        assert os.sep + "in" + os.sep not in text


def test_its_examples_can_be_told_another_name(output):
    text = (output / "README.md").read_text()
    assert text.count('load_dataset("my set", ') == 2
    pushed = retitled(text, "owner/name")
    assert pushed.count('load_dataset("owner/name", ') == 2
    assert "my set" not in pushed.split("## Use")[1].split("## Sources")[0]
    front = yaml.safe_load(pushed.split("---")[1])
    assert front == yaml.safe_load(text.split("---")[1])
