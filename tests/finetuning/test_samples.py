"""Samples of a run: each a function of its number alone."""

import numpy as np
import pytest
import torch
from PIL import Image

from finetuning_miniatures import PROCESSOR, findings
from unimiss_hf import MiTImageProcessor
from unimiss_hf.data.labelled.catalog import find_labelled_layout
from unimiss_hf.finetuning.prepared_cases import CaseCache
from unimiss_hf.finetuning.samples import SampleDataset, SampleOrder, batches_from, cut


@pytest.fixture(scope="module")
def prepared(organs, shared):
    data = find_labelled_layout(organs).read(organs)
    cache = CaseCache(shared / "prepared", MiTImageProcessor(**PROCESSOR), data, True)
    return cache.prepare([case for case in data.cases if case.split == "train"])


@pytest.fixture
def make(prepared):
    def dataset(patch_size=(4, 32, 32), foreground=0.5, seed=0, cases=prepared):
        return SampleDataset(cases, SampleOrder(len(cases), seed), patch_size, foreground)

    return dataset


def read(dataset, step=0, total=4, batch=2, accumulation=1, rank=0, world=1, workers=0):
    return list(batches_from(dataset, step, total, batch, accumulation, rank, world, workers))


def require_equal(found, wanted):
    assert len(found) == len(wanted)
    for ours, theirs in zip(found, wanted, strict=True):
        assert torch.equal(ours.pixel_values, theirs.pixel_values)
        assert torch.equal(ours.labels, theirs.labels)
        assert (ours.seeds, ours.names) == (theirs.seeds, theirs.names)


@pytest.mark.parametrize("cases", [1, 2, 7])
def test_every_case_is_dealt_once_a_round(cases):
    order = SampleOrder(cases, seed=3)
    rounds = [[order.case_of(epoch * cases + n) for n in range(cases)] for epoch in range(30)]
    assert all(sorted(dealt) == list(range(cases)) for dealt in rounds)
    if cases == 7:
        assert len({tuple(dealt) for dealt in rounds}) > 25, "in an order of its own"
        assert rounds != [
            [SampleOrder(7, 4).case_of(epoch * 7 + n) for n in range(7)] for epoch in range(30)
        ]


def test_a_sample_is_what_was_cut_from_its_case(make, prepared):
    dataset = make()
    for number in range(12):
        sample = dataset[number]
        case = prepared[dataset.order.case_of(number)]
        assert sample["name"] == case.case.name
        image, labels = np.array(case.image(), np.float32), np.array(case.labels())
        assert sample["pixel_values"].shape == (1, 4, 32, 32)
        assert sample["pixel_values"].dtype == torch.float32
        assert sample["labels"].dtype == torch.int64
        # Grey levels are noise, so that a patch is at one place alone.
        places = [
            (z, y, x)
            for z in range(image.shape[1] - 3)
            for y in range(image.shape[2] - 31)
            for x in range(image.shape[3] - 31)
            if np.array_equal(
                image[:, z : z + 4, y : y + 32, x : x + 32], sample["pixel_values"].numpy()
            )
        ]
        assert len(places) == 1
        z, y, x = places[0]
        np.testing.assert_array_equal(
            labels[z : z + 4, y : y + 32, x : x + 32], sample["labels"].numpy()
        )


def test_the_same_number_is_the_same_sample(make):
    for number in (0, 5, 17):
        first, again = make()[number], make()[number]
        assert torch.equal(first["pixel_values"], again["pixel_values"])
        assert first["seed"] == again["seed"]
    seeds = [make()[number]["seed"] for number in range(12)]
    assert len(set(seeds)) == 12
    assert make(seed=1)[0]["seed"] != seeds[0]


def test_workers_read_what_this_process_reads(make):
    require_equal(read(make(), step=1, workers=2), read(make())[1:])


def test_a_run_that_goes_on_reads_what_it_would_have_read(make):
    whole = read(make(), accumulation=2)
    require_equal(read(make(), step=3, accumulation=2), whole[6:])


def test_reading_leaves_torch_s_random_numbers_as_they_are(make):
    """Else dropout of a continued run, which begins to read again, would be another."""
    before = torch.get_rng_state()
    batches = batches_from(make(), 0, 4, 2, 1, 0, 1, 0)
    next(batches)
    assert torch.equal(torch.get_rng_state(), before)


def test_processes_share_the_samples_of_one(make):
    one = read(make(), total=2, batch=4, accumulation=2)
    shares = [
        read(make(), total=2, batch=2, accumulation=2, rank=rank, world=2) for rank in range(2)
    ]
    for whole, first, second in zip(one, *shares, strict=True):
        assert whole.seeds == first.seeds + second.seeds
        assert torch.equal(whole.pixel_values, torch.cat([first.pixel_values, second.pixel_values]))


def test_each_class_is_a_centre_as_often_as_another(make):
    """Whatever its size: a liver has many times the voxels of a tumour."""
    dataset = make((1, 1, 1), 1.0)
    found = [int(dataset[number]["labels"]) for number in range(400)]
    assert 0 not in found
    assert 0.4 < found.count(2) / 400 < 0.6


@pytest.mark.parametrize("share", [0.25, 0.8])
def test_the_share_of_patches_with_a_class_at_the_centre(make, share):
    dataset, anywhere = make((1, 1, 1), share), make((1, 1, 1), 0.0)
    numbers = range(600)
    background = np.mean([int(anywhere[n]["labels"]) == 0 for n in numbers])
    found = np.mean([int(dataset[n]["labels"]) == 0 for n in numbers])
    assert found == pytest.approx((1 - share) * background, abs=0.07)


def test_a_case_smaller_than_the_patch_is_filled_up(make, prepared):
    sample = make((10, 48, 20), 1.0)[0]
    image = prepared[make().order.case_of(0)].image()
    assert sample["pixel_values"].shape == (1, 10, 48, 20)
    assert sample["labels"].shape == (10, 48, 20)
    # 6 slices of 10 and 36 rows of 48: as much is filled before as behind
    for outside in (slice(0, 2), slice(8, 10)):
        assert (sample["pixel_values"][0, outside] == float(image.min())).all()
        assert (sample["labels"][outside] == 0).all()
    assert (sample["pixel_values"][0, :, :6] == float(image.min())).all()
    inside = sample["pixel_values"][0, 2:8, 6:42]
    assert any(
        np.array_equal(inside, image[0, :, :, x : x + 20].astype(np.float32)) for x in range(21)
    )


def test_without_a_patch_size_all_of_a_case(make, prepared):
    sample = make(None)[1]
    case = prepared[make().order.case_of(1)]
    np.testing.assert_array_equal(sample["pixel_values"], case.image().astype(np.float32))
    np.testing.assert_array_equal(sample["labels"], case.labels())


def test_classes_of_cases(shared, chests):
    data = find_labelled_layout(chests).read(chests)
    cache = CaseCache(shared / "prepared", MiTImageProcessor(**PROCESSOR), data, False)
    cases = cache.prepare([case for case in data.cases if case.split == "train"])
    batch = read(SampleDataset(cases, SampleOrder(9, 0), None, 0.5), total=1, batch=9)[0]
    assert batch.pixel_values.shape == (9, 1, 32, 32)
    by_name = {case.name: case.target for case in data.cases}
    assert batch.labels.tolist() == [by_name[name] for name in batch.names]
    assert batch.labels.dtype == torch.int64


def test_cut():
    array = np.arange(12).reshape(1, 3, 4)
    assert cut(array, (1, 2), (2, 2), -1).tolist() == [[[6, 7], [10, 11]]]
    assert cut(array, (-1, 2), (3, 4), -1).tolist() == [
        [[-1, -1, -1, -1], [2, 3, -1, -1], [6, 7, -1, -1]]
    ]


def test_cases_of_unequal_shapes_need_a_patch_size(tmp_path):
    root = findings(tmp_path)
    data = find_labelled_layout(root).read(root)
    own_size = MiTImageProcessor(**PROCESSOR | {"image_size": None})
    image = root / "train" / "covid" / "covid_0.png"
    Image.new("L", (40, 36)).save(image)
    cases = CaseCache(tmp_path / "cache", own_size, data, False).prepare(
        [case for case in data.cases if case.split == "train"]
    )
    dataset = SampleDataset(cases, SampleOrder(9, 0), None, 0.0)
    with pytest.raises(ValueError, match=r"unequal shapes .*\(1, 36, 40\).*Give a patch_size"):
        read(dataset, total=1, batch=9)
