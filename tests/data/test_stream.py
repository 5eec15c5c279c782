"""What the trainer can rely on: every record once per epoch, exact resuming, named bad files."""

import itertools
import json
import logging
from collections import Counter
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from datasets import Dataset, Image
from PIL import Image as PillowImage

from unimiss_hf.data.loader import make_loader
from unimiss_hf.data.sources import Source, open_source
from unimiss_hf.data.stream import SampleStream
from unimiss_hf.data.stream_settings import StreamSettings

VOLUMES, RADIOGRAPHS = 10, 12


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    (folder / "ct").mkdir()
    (folder / "xray").mkdir()
    for index in range(VOLUMES):
        voxels = generator.integers(-1000, 1000, (20, 20, 8)).astype(np.int16)
        image = nibabel.Nifti1Image(voxels, np.diag([1, 1, 3, 1]))
        nibabel.save(image, folder / "ct" / f"{index}.nii.gz")
    for index in range(RADIOGRAPHS):
        pixels = generator.integers(0, 255, (20, 10 + index), dtype=np.uint8)
        PillowImage.fromarray(pixels).save(folder / "xray" / f"{index:02}.png")
    return folder


@pytest.fixture
def ct(images) -> Source:
    return open_source(images / "ct", "3d")


@pytest.fixture
def xray(images) -> Source:
    return open_source(images / "xray", "2d")


def settings_3d(**changes) -> StreamSettings:
    return StreamSettings(**{"window": (6, 16, 24), "minimum": (4, 16, 22), **changes})


def settings_2d(**changes) -> StreamSettings:
    return StreamSettings(**{"window": (16, 16), **changes})


def take(stream, count: int) -> list[dict]:
    return list(itertools.islice(iter(stream), count))


def names(samples) -> list[str]:
    return [Path(sample["name"]).name for sample in samples]


def assert_same(left: list[dict], right: list[dict]) -> None:
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        assert one.keys() == other.keys()
        for key in ("name", "bad_records", "reader"):
            assert one[key] == other[key], key
        for key in ("image", "extent", "seed"):
            assert torch.equal(one[key], other[key]), key


def test_sample_of_a_volume(ct):
    sample = next(iter(SampleStream(ct, settings_3d())))
    assert sample["image"].shape == (1, 6, 16, 24)
    assert sample["image"].dtype == torch.float32
    assert sample["extent"].tolist() == [6, 16, 22]
    assert sample["extent"].dtype == sample["seed"].dtype == torch.int64
    assert sample["seed"].item() >= 0
    assert (sample["image"][..., 22:] == -1).all()
    assert (sample["image"][..., 0] == -1).all()  # 20 columns, centred in 22
    assert (sample["image"][..., 1:21] > -1).all()
    assert sample["bad_records"] == 0


def test_sample_of_a_radiograph(xray):
    for sample in take(SampleStream(xray, settings_2d()), RADIOGRAPHS):
        height, width = sample["extent"].tolist()
        assert max(height, width) == 16
        assert sample["image"].shape == (1, 16, 16)
        assert sample["image"][:, :, width:].sum() == 0
        assert 0 <= sample["image"].min() < sample["image"].max() <= 1


def test_default_windows(ct, xray):
    assert SampleStream(ct).window == (24, 172, 172)
    assert SampleStream(ct).minimum == (16, 96, 96)
    assert SampleStream(xray).window == (512, 512)
    assert SampleStream(ct, StreamSettings(window=(8, 100, 50))).minimum == (8, 96, 50)


@pytest.mark.parametrize("buffer", [1, 3, 100])
def test_each_epoch_is_another_permutation(ct, buffer):
    stream = SampleStream(ct, settings_3d(shuffle_buffer=buffer))
    epochs = [names(take(stream, VOLUMES)) for _ in range(3)]
    assert all(sorted(epoch) == sorted(epochs[0]) for epoch in epochs)
    assert len(set(epochs[0])) == VOLUMES
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert names(take(SampleStream(ct, settings_3d(seed=1)), VOLUMES)) != epochs[0]


def test_records_of_one_shard_are_shuffled_in_blocks():
    dataset = Dataset.from_dict({"png": [png(index) for index in range(10)]})
    source = open_source(dataset.to_iterable_dataset(1), "2d")
    stream = SampleStream(source, settings_2d(shuffle_buffer=4))
    epoch = values(take(stream, 10))
    assert [sorted(epoch[start : start + 4]) for start in (0, 4, 8)] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9],
    ]
    assert values(take(stream, 10)) != epoch != list(range(10))


def test_blocks_are_bounded_in_bytes():
    dataset = Dataset.from_dict({"png": [png(index) for index in range(9)]})
    source = open_source(dataset.to_iterable_dataset(1), "2d")
    bound = len(png(0)) + 1  # the second record passes it, so blocks are pairs
    epoch = values(take(SampleStream(source, settings_2d(shuffle_bytes=bound)), 9))
    assert [sorted(epoch[start : start + 2]) for start in range(0, 9, 2)] == [
        [0, 1],
        [2, 3],
        [4, 5],
        [6, 7],
        [8],
    ]


def png(value: int) -> bytes:
    return Image().encode_example(PillowImage.new("L", (4, 4), value))["bytes"]


def values(samples) -> list[int]:
    return [round(sample["image"].max().item() * 255) for sample in samples]


def sources_of_shards() -> dict[int, Source]:
    dataset = Dataset.from_dict({"png": [png(index) for index in range(24)]})
    return {n: open_source(dataset.to_iterable_dataset(n), "2d") for n in (1, 5, 6, 24)}


@pytest.mark.parametrize("num_shards", [1, 5, 6, 24])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_processes_share_each_epoch(num_shards, world_size):
    source = sources_of_shards()[num_shards]
    assert source.num_shards == num_shards
    streams = [
        SampleStream(source, settings_2d(shuffle_buffer=5), rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    by_process = [epochs_of(stream, 2) for stream in streams]
    drawn = []
    for epoch in range(2):
        drawn += [sample for epochs in by_process for sample in epochs[epoch]]
        assert sorted(values(drawn[-24:])) == list(range(24))
    assert len(drawn) == 48
    # Who reads a record has no part in its seed.
    alone = take(SampleStream(source, settings_2d(shuffle_buffer=5)), 48)
    assert {s["seed"].item() for s in drawn} == {s["seed"].item() for s in alone}


def epochs_of(stream: SampleStream, count: int) -> list[list[dict]]:
    epochs = [[] for _ in range(count)]
    for sample in stream:
        epoch = stream.state_dict()["progress"]["epoch"]
        if epoch == count:
            break
        epochs[epoch].append(sample)
    return epochs


@pytest.mark.parametrize("num_workers", [1, 2, 3])
def test_workers_share_each_epoch(xray, num_workers):
    loader = make_loader(SampleStream(xray, settings_2d()), 2, num_workers)
    batches = list(itertools.islice(loader, 2 * RADIOGRAPHS // 2))
    drawn = [Path(name).name for batch in batches for name in batch["name"]]
    assert set(Counter(drawn[:RADIOGRAPHS]).values()) == {1}
    assert set(Counter(drawn).values()) == {2}
    seeds = {seed.item() for batch in batches for seed in batch["seed"]}
    alone = take(SampleStream(xray, settings_2d()), 2 * RADIOGRAPHS)
    assert seeds == {sample["seed"].item() for sample in alone}


def test_uneven_workers_share_single_records():
    """Three workers and ten files: each file is read by exactly one of them."""
    source = open_source(Dataset.from_dict({"png": [png(index) for index in range(10)]}), "2d")
    loader = make_loader(SampleStream(source, settings_2d()), 1, 3)
    # Three batches of one from each worker, all of its first epoch.
    drawn = [values([batch])[0] for batch in itertools.islice(loader, 9)]
    assert len(set(drawn)) == 9


def test_seeds_differ_by_epoch_record_crop_run_and_dimension(ct, xray):
    seeds = []
    for seed in (0, 1):
        stream = SampleStream(ct, settings_3d(seed=seed, crops_per_volume=2))
        seeds += [sample["seed"].item() for sample in take(stream, 3 * 2 * VOLUMES)]
        flat = SampleStream(xray, settings_2d(seed=seed))
        seeds += [sample["seed"].item() for sample in take(flat, 2 * RADIOGRAPHS)]
    assert len(set(seeds)) == len(seeds) == 2 * (6 * VOLUMES + 2 * RADIOGRAPHS)


def test_seeds_are_the_same_in_every_version(ct):
    by_name = {
        Path(sample["name"]).name: sample["seed"].item()
        for sample in take(SampleStream(ct, settings_3d()), VOLUMES)
    }
    assert (by_name["0.nii.gz"], by_name["9.nii.gz"]) == (5544337795049560729, 6549258165446916853)


def test_batch_size_has_no_part_in_samples(ct):
    small, large = (make_loader(SampleStream(ct, settings_3d()), size) for size in (2, 5))
    small = list(itertools.islice(small, 10))
    large = list(itertools.islice(large, 4))
    for key in ("image", "seed", "extent"):
        assert torch.equal(
            torch.cat([batch[key] for batch in small]), torch.cat([batch[key] for batch in large])
        )


def test_several_crops_of_a_volume_follow_one_another(ct):
    stream = SampleStream(ct, settings_3d(crops_per_volume=3, window=(4, 8, 8), minimum=(4, 8, 8)))
    samples = take(stream, 3 * VOLUMES)
    for start in range(0, 3 * VOLUMES, 3):
        crops = samples[start : start + 3]
        assert len({sample["name"] for sample in crops}) == 1
        assert not torch.equal(crops[0]["image"], crops[1]["image"])
    assert len(set(names(samples))) == VOLUMES


@pytest.mark.parametrize("cache_bytes", [0, 2**20])
def test_cache_changes_nothing(ct, cache_bytes):
    cached = SampleStream(ct, settings_3d(cache_bytes=cache_bytes))
    assert_same(
        take(cached, 2 * VOLUMES), take(SampleStream(ct, settings_3d(cache_bytes=0)), 2 * VOLUMES)
    )


def test_cached_volumes_are_not_read_again(tmp_path):
    image = nibabel.Nifti1Image(np.zeros((8, 8, 8), np.int16), np.diag([1, 1, 3, 1]))
    nibabel.save(image, tmp_path / "ct.nii.gz")
    stream = SampleStream(open_source(tmp_path, "3d"), settings_3d())
    first = take(stream, 1)
    (tmp_path / "ct.nii.gz").unlink()
    assert names(take(stream, 1)) == names(first)


@pytest.mark.parametrize("crops", [1, 2])
def test_stream_resumes_exactly_everywhere(ct, crops):
    settings = settings_3d(shuffle_buffer=4, crops_per_volume=crops)
    count = 2 * VOLUMES * crops + 3
    whole = take(SampleStream(ct, settings), count)
    running = SampleStream(ct, settings)
    states = [running.state_dict()]
    for _ in itertools.islice(running, count - 1):
        states.append(json.loads(json.dumps(running.state_dict())))
    for position, state in enumerate(states):
        resumed = SampleStream(ct, settings)
        resumed.load_state_dict(state)
        assert_same(take(resumed, min(count - position, 6)), whole[position : position + 6])
        if position + 6 < count:
            assert resumed.state_dict() == states[position + 6]


@pytest.mark.parametrize("num_shards", [1, 5])
def test_streams_of_bytes_resume_exactly_when_shared_out(num_shards):
    source = sources_of_shards()[num_shards]
    settings = settings_2d(shuffle_buffer=3)
    for rank in range(2):
        whole = take(SampleStream(source, settings, rank=rank, world_size=2), 40)
        for position in range(0, 30, 4):
            stopped = SampleStream(source, settings, rank=rank, world_size=2)
            take(stopped, position)
            resumed = SampleStream(source, settings, rank=rank, world_size=2)
            resumed.load_state_dict(stopped.state_dict())
            assert_same(take(resumed, 6), whole[position : position + 6])


def test_stream_with_a_shuffle_buffer_of_its_own_resumes_exactly():
    dataset = Dataset.from_dict({"png": [png(index) for index in range(24)]})
    shuffled = dataset.to_iterable_dataset(3).shuffle(seed=0, buffer_size=6)
    source = open_source(shuffled, "2d")
    whole = take(SampleStream(source, settings_2d(shuffle_buffer=4)), 48)
    assert sorted(values(whole[:24])) == list(range(24))
    # Its own shuffling, within shards of eight, differs between epochs as well.
    unshuffled = values(take(SampleStream(source, settings_2d(shuffle_buffer=1)), 48))
    own_orders = [[v for v in unshuffled[start : start + 24] if v < 8] for start in (0, 24)]
    assert sorted(own_orders[0]) == sorted(own_orders[1])
    assert own_orders[0] != own_orders[1]
    stopped = SampleStream(source, settings_2d(shuffle_buffer=4))
    take(stopped, 18)
    resumed = SampleStream(source, settings_2d(shuffle_buffer=4))
    resumed.load_state_dict(stopped.state_dict())
    assert_same(take(resumed, 30), whole[18:])


def batches(loader, count: int) -> list[dict]:
    return list(itertools.islice(loader, count))


def failure(loader) -> Exception:
    """The error that ends a loader, without the frames that would keep its workers alive."""
    try:
        batches(loader, 100)
    except Exception as error:
        return error.with_traceback(None)
    raise AssertionError("the loader went on")


def assert_same_batches(left, right) -> None:
    for key in ("name", "bad_records", "reader"):
        assert [batch[key] for batch in left] == [batch[key] for batch in right], key
    for one, other in zip(left, right, strict=True):
        for key in ("image", "extent", "seed"):
            assert torch.equal(one[key], other[key]), key


# Epochs of 10 records, blocks of 4: after 4, 6, 8, 10, 12, 20 samples lie the inside and the ends
# of blocks and epochs.
@pytest.mark.parametrize(
    ("num_workers", "stops"), [(0, (0, 1, 2, 3, 4, 5, 6, 10)), (1, (2, 5)), (2, (0, 3, 5, 6))]
)
def test_loader_resumes_exactly(ct, num_workers, stops):
    def loader():
        stream = SampleStream(ct, settings_3d(shuffle_buffer=4, crops_per_volume=2))
        return make_loader(stream, 2, num_workers)

    whole = batches(loader(), 14)
    for stop in stops:
        stopped = loader()
        assert_same_batches(batches(stopped, stop), whole[:stop])
        state = stopped.state_dict()
        resumed = loader()
        resumed.load_state_dict(state)
        assert_same_batches(batches(resumed, 4), whole[stop : stop + 4])


def test_state_of_another_stream_is_refused(ct, xray):
    state = SampleStream(ct, settings_3d()).state_dict()
    with pytest.raises(ValueError, match=r"seed 0 → 1"):
        SampleStream(ct, settings_3d(seed=1)).load_state_dict(state)
    with pytest.raises(ValueError, match=r"processes 1 → 2.*rank 0 → 1"):
        SampleStream(ct, settings_3d(), rank=1, world_size=2).load_state_dict(state)
    with pytest.raises(ValueError, match=r"dimension 3d → 2d"):
        SampleStream(xray, settings_2d()).load_state_dict(state)


@pytest.fixture
def damaged(tmp_path) -> Path:
    """Forty radiographs, of which numbers 7 and 23 are no images."""
    for index in range(40):
        (tmp_path / f"{index:02}.png").write_bytes(b"no" if index in (7, 23) else png(index))
    return tmp_path


def test_bad_records_are_skipped_named_once_and_counted(damaged, caplog):
    stream = SampleStream(open_source(damaged, "2d"), settings_2d(max_bad_fraction=0.1))
    with caplog.at_level(logging.WARNING, logger="unimiss_hf"):
        samples = take(stream, 3 * 38)
    assert sorted(values(samples[38:76])) == [n for n in range(40) if n not in (7, 23)]
    assert len(caplog.records) == 2
    for name in ("07.png", "23.png"):
        assert sum(name in record.getMessage() for record in caplog.records) == 1
    counts = [sample["bad_records"] for sample in samples]
    assert counts == sorted(counts)
    assert 4 <= counts[-1] <= 6  # two in each epoch, the last ones perhaps still to come
    progress = stream.state_dict()["progress"]
    assert progress["records_read"] == 3 * 38 + progress["records_bad"]


def test_bad_records_resume_exactly(damaged):
    source, settings = open_source(damaged, "2d"), settings_2d(max_bad_fraction=0.2)
    whole = take(SampleStream(source, settings), 80)
    stopped = SampleStream(source, settings)
    for position in range(0, 70, 10):
        resumed = SampleStream(source, settings)
        resumed.load_state_dict(stopped.state_dict())
        assert_same(take(resumed, 10), whole[position : position + 10])
        take(stopped, 10)


def test_too_many_bad_records_end_the_stream(damaged):
    for index in range(8):
        (damaged / f"{index:02}.png").write_bytes(b"no")
    stream = SampleStream(open_source(damaged, "2d"), settings_2d())
    with pytest.raises(RuntimeError, match=r"\d+ of the \d+ records.*max_bad_fraction=0.05.*\.png"):
        take(stream, 40)


def test_bad_fraction_of_a_small_epoch(tmp_path):
    for index in range(5):
        (tmp_path / f"{index}.png").write_bytes(png(index) if index else b"no")
    source = open_source(tmp_path, "2d")
    with pytest.raises(RuntimeError, match="1 of the 5 records of epoch 0"):
        take(SampleStream(source, settings_2d(max_bad_fraction=0.1)), 5)
    assert len(take(SampleStream(source, settings_2d(max_bad_fraction=0.2)), 9)) == 9
    with pytest.raises(RuntimeError, match="cannot be read"):
        take(SampleStream(source, settings_2d(max_bad_fraction=0)), 5)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_all_bad_ends_rather_than_loops(tmp_path, num_workers):
    for index in range(4):
        (tmp_path / f"{index}.nii.gz").write_bytes(b"no")
    source = open_source(tmp_path, "3d")
    stream = SampleStream(source, settings_3d(max_bad_fraction=1))
    loader = make_loader(stream, 2, num_workers)
    error = failure(loader)
    assert isinstance(error, RuntimeError)
    assert "of epoch 0 cannot be read" in str(error)
    assert ".nii.gz" in str(error)


def test_more_readers_than_records(ct):
    with pytest.raises(ValueError, match="10 records, fewer than 11 processes x 1 workers"):
        SampleStream(ct, settings_3d(), rank=0, world_size=11)
    stream = SampleStream(ct, settings_3d(), rank=0, world_size=3)
    with pytest.raises(ValueError, match="10 records, fewer than 3 processes x 4 workers"):
        make_loader(stream, 1, num_workers=4)
    unknown = open_source(Dataset.from_dict({"png": [png(1)]}).to_iterable_dataset(), "2d")
    loader = make_loader(SampleStream(unknown, settings_2d()), 1, num_workers=2)
    error = failure(loader)
    assert isinstance(error, ValueError)
    assert "no record for reader 1 of 2 (1 processes x 2 workers)" in str(error)


def test_settings_that_do_not_go_with_the_source(ct, xray):
    with pytest.raises(ValueError, match="window must have 3 values"):
        SampleStream(ct, StreamSettings(window=(16, 16)))
    with pytest.raises(ValueError, match="window must have 2 values"):
        SampleStream(xray, StreamSettings(window=(16, 16, 16)))
    with pytest.raises(ValueError, match="exceeds window"):
        SampleStream(ct, StreamSettings(window=(4, 8, 8), minimum=(4, 9, 8)))
    with pytest.raises(ValueError, match="crops_per_volume"):
        SampleStream(xray, settings_2d(crops_per_volume=2))
    with pytest.raises(ValueError, match="minimum is for volumes"):
        SampleStream(xray, settings_2d(minimum=(8, 8)))
    with pytest.raises(ValueError, match="rank"):
        SampleStream(ct, settings_3d(), rank=2, world_size=2)
