"""What a training step gets: views of the samples, wherever they lie and whoever makes them."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from prepared_folders import SPACING, radiograph_row, volume_row, voxels_of, write_prepared
from unimiss_hf.data.prepared import encode_volume
from unimiss_hf.data.sources import open_source
from unimiss_hf.data.stream import SampleStream
from unimiss_hf.data.stream_settings import StreamSettings
from unimiss_hf.pretraining.feed import Batch, Feed
from unimiss_hf.pretraining.settings import PretrainingSettings
from unimiss_hf.pretraining.views import VolumeViewSettings, make_volume_views

CPU = torch.device("cpu")
SHAPE = (12, 40, 36)
SIZES = {"volume_size": [4, 16, 16], "volume_window": [8, 30, 30], "image_window": [12, 12]}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    contents = [encode_volume(voxels_of(index, SHAPE), SPACING) for index in range(6)]
    rows = [volume_row(index, content) for index, content in enumerate(contents)]
    films = [radiograph_row(index) for index in range(6)]
    return write_prepared(folder, [rows[:3], rows[3:]], [films[:3], films[3:]])


def batches(folder: Path, dimension: str = "3d", count: int = 4, **changes) -> list[Batch]:
    settings = PretrainingSettings(
        dataset_2d=[str(folder)],
        dataset_3d=[str(folder)],
        batch_size_2d=2,
        batch_size_3d=2,
        max_steps=1,
        **{"num_workers": 0, **SIZES, **changes},
    )
    feed = Feed(settings, dimension, open_source(folder, dimension), CPU)
    try:
        return [feed.next_batch() for _ in range(count)]
    finally:
        feed.close()


def assert_same(left: list[Batch], right: list[Batch]) -> None:
    for one, other in zip(left, right, strict=True):
        assert [Path(name).name for name in one.names] == [Path(name).name for name in other.names]
        for view, expected in zip(one.views, other.views, strict=True):
            torch.testing.assert_close(view, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("dimension", "size"), [("2d", (224, 224)), ("3d", (4, 16, 16))])
def test_views_are_the_same_whoever_makes_them(prepared, dimension, size):
    here = batches(prepared, dimension)
    assert {view.shape for batch in here for view in batch.views} == {(2, 1, *size)}
    assert all(batch.seconds_on_views > 0 for batch in here)
    # One reader sees the same order as this process.
    read = batches(prepared, dimension, num_workers=1)
    assert_same(read, here)
    assert all(view.is_shared() for batch in read for view in batch.views)


@pytest.mark.parametrize("kind", ["prepared", "files"])
def test_views_are_those_of_whole_windows(prepared, tmp_path, kind):
    """A stream that is not told what views need cuts whole windows."""
    folder = prepared
    if kind == "files":
        folder = tmp_path
        for index in range(3):
            voxels = voxels_of(index, SHAPE).transpose()
            image = nibabel.Nifti1Image(voxels, np.diag([1, 1, 3, 1]))
            nibabel.save(image, folder / f"{index}.nii")
    window = StreamSettings(window=SIZES["volume_window"], minimum=SIZES["volume_size"])
    samples = iter(SampleStream(open_source(folder, "3d"), window))
    settings = VolumeViewSettings(size=tuple(SIZES["volume_size"]))
    for batch in batches(folder):
        for row, name in enumerate(batch.names):
            sample = next(samples)
            assert sample["name"] == name
            one = (sample[key][None] for key in ("image", "extent", "seed"))
            for view, expected in zip(batch.views, make_volume_views(*one, settings), strict=True):
                assert torch.equal(view[row], expected[0])
