"""Every image is in one shard, the same one whatever happens."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unimiss_hf.data.layouts.folder import FOLDER
from unimiss_hf.data.layouts.item import License, Problem, SourceItem
from unimiss_hf.data.preparing.origins import Origin, find_origins
from unimiss_hf.data.preparing.planning import make_plan
from unimiss_hf.data.preparing.settings import PreparationSettings


def origin_of(contents, label="set") -> Origin:
    layout = replace(FOLDER, name="toy", title="Toys", items=lambda folder: iter(contents))
    return Origin(label, layout, License("cc0-1.0", "CC0", ""), Path("nowhere"))


def item(name, dimension="2d", **fields) -> SourceItem:
    return SourceItem(name, dimension, (Path("nowhere", name),), **fields)


@given(
    counts=st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(1, 40)),
    samples_per_shard=st.integers(1, 9),
    min_shards=st.integers(1, 20),
)
def test_samples_are_dealt_out_evenly(counts, samples_per_shard, min_shards):
    kinds = [("2d", "train"), ("2d", "test"), ("3d", "train")]
    items = [
        item(f"{dimension}-{split}-{index}", dimension, split=split)
        for (dimension, split), count in zip(kinds, counts, strict=True)
        for index in range(count)
    ]
    settings = PreparationSettings(samples_per_shard=samples_per_shard, min_shards=min_shards)
    plan = make_plan([origin_of(items)], settings)
    assert sorted(s.item.name for shard in plan.shards for s in shard.samples) == sorted(
        item.name for item in items
    )
    assert len({shard.key for shard in plan.shards}) == len(plan.shards)
    parts = [("radiographs", "train"), ("radiographs", "test"), ("volumes", "train")]
    for (part, split), count in zip(parts, counts, strict=True):
        sizes = [len(s.samples) for s in plan.shards if (s.part, s.split) == (part, split)]
        assert sum(sizes) == count
        assert max(sizes, default=0) <= samples_per_shard
        assert len(sizes) >= min(min_shards, count)
        assert max(sizes, default=0) - min(sizes, default=0) <= 1
    random.Random(0).shuffle(items)
    assert make_plan([origin_of(items)], settings).shards == plan.shards


def test_the_order_mixes_sources_and_follows_the_seed(make_settings):
    origins = [origin_of([item(f"{i:03d}") for i in range(50)], label) for label in "ab"]
    plans = [
        make_plan(origins, make_settings(seed=seed, samples_per_shard=100, min_shards=1))
        for seed in (0, 1)
    ]
    names = [[sample.name for sample in plan.shards[0].samples] for plan in plans]
    assert names[0] != names[1]
    assert sorted(names[0]) == sorted(names[1])
    assert 30 < sum(name < "b" for name in names[0][:100]) < 70
    assert 10 < sum(name < "b" for name in names[0][:50]) < 40


def test_what_is_known_of_an_item_goes_with_it(make_settings):
    other = License("other", "Special Terms", "https://example.org")
    items = [item("a", "3d", patient="p"), item("b", "3d", license=other)]
    plan = make_plan([origin_of(items)], make_settings(source_spacing=(3, 1, 1)))
    samples = {sample.name: sample for shard in plan.shards for sample in shard.samples}
    assert samples["set/a"].license.identifier == "cc0-1.0"
    assert samples["set/a"].source == "Toys"
    assert samples["set/a"].item.spacing == (3, 1, 1)
    assert samples["set/b"].license == other


def test_what_is_no_sample_is_reported(make_settings):
    lost = Problem("lost.png", "nowhere/lost.png\nis missing")
    contents = [item("a"), item("b", "3d"), lost, Problem("x.csv", "no", False)]
    plan = make_plan([origin_of(contents)], make_settings(dimension="3d"))
    lines = {line.name: (line.source, line.state, line.reason) for line in plan.lines}
    assert lines == {
        "a": ("set", "passed over", "it is 2d, and 3d was asked for"),
        "lost.png": ("set", "failed", "lost.png is missing"),
        "x.csv": ("set", "passed over", "no"),
    }
    assert plan.num_samples == 1


def test_mistakes_are_told(tmp_path, films, make_settings):
    with pytest.raises(ValueError, match="Two images are called set/a: nowhere/a and nowhere/a"):
        make_plan([origin_of([item("a"), item("a")])], make_settings())
    with pytest.raises(ValueError, match="nothing to prepare: no image among the 6 files is 3d"):
        settings = make_settings(dimension="3d")
        make_plan(find_origins([films], settings), settings)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty holds neither .* found no files"):
        make_plan(find_origins([tmp_path / "empty"], make_settings()), make_settings())
    (tmp_path / "empty" / "a.csv").touch()
    with pytest.raises(ValueError, match=r"empty holds neither .* found 1 \.csv"):
        make_plan(find_origins([tmp_path / "empty"], make_settings()), make_settings())
