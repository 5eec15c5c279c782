"""From files to a table of features, and on from wherever a run stopped."""

import signal
from contextlib import contextmanager

import nibabel
import numpy as np
import pandas
import pytest
import torch
from datasets import Dataset, Features
from datasets import Image as ImageFeature
from PIL import Image
from torch.nn.modules.module import register_module_forward_pre_hook

from dicom_files import write_series
from unimiss_hf import MiTImageProcessor, MiTModel
from unimiss_hf.extraction import ExtractionSettings, run_extraction
from unimiss_hf.extraction import loop as loop_module
from unimiss_hf.sliding_windows_mit import extract_features


def rows_of(settings: ExtractionSettings) -> dict[str, pandas.Series]:
    frame = pandas.read_parquet(settings.output)
    assert frame["name"].is_unique
    return {row["name"]: row for _, row in frame.iterrows()}


@pytest.fixture
def large_volume(tmp_path):
    """A volume of 20 x 40 x 44 voxels, beyond the window of 16 x 32 x 32."""
    voxels = np.random.default_rng(2).integers(-1000, 500, (44, 40, 20), dtype=np.int16)
    path = tmp_path / "large.nii"
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([1.0, 1.0, 3.0, 1.0])), path)
    return path


@pytest.mark.parametrize("workers", [0, 2])
def test_features_are_those_of_the_model(
    make_settings, model_folder, images, volumes, large_volume, workers
):
    settings = make_settings(patches=True, batch_size=3, workers=workers)
    words = [str(images), str(volumes), str(large_volume)]
    result = run_extraction(words, settings)
    assert result.finished
    assert result.errors is None
    assert (result.num_inputs, result.num_extracted, result.num_new, result.num_bad) == (
        13,
        13,
        13,
        0,
    )
    rows = rows_of(settings)
    model = MiTModel.from_pretrained(model_folder).eval()
    processor = MiTImageProcessor.from_pretrained(model_folder)
    for path in [*images.iterdir(), *volumes.iterdir(), large_volume]:
        pixels = processor(path, return_tensors="pt")["pixel_values"]
        expected = extract_features(model, pixels)
        row = rows[str(path)]
        assert row["dimension"] == f"{pixels.ndim - 2}d"
        assert tuple(row["shape"]) == tuple(pixels.shape[2:])
        assert tuple(row["patch_shape"]) == tuple(expected.patches.shape[1:])
        torch.testing.assert_close(
            torch.tensor(row["pooled"]), expected.pooled[0], atol=1e-4, rtol=1e-3
        )
        patches = torch.tensor(row["patches"].reshape(row["patch_shape"]))
        torch.testing.assert_close(patches, expected.patches[0], atol=1e-3, rtol=1e-3)
    assert rows[str(large_volume)]["patch_shape"].tolist() == [16, 2, 2, 2]


def test_settings_of_the_processor_take_effect(make_settings, volumes, large_volume):
    settings = make_settings(
        spacing=[3, 2, 2],
        source_spacing=[3, 2, 2],
        processor={"image_size": None},
        dtype="bfloat16",
    )
    run_extraction([str(large_volume)], settings)
    (row,) = rows_of(settings).values()
    assert row["shape"].tolist() == [20, 40, 44]
    assert row["pooled"].dtype == np.float32


def test_a_folder_of_slices_is_a_row(make_settings, tmp_path):
    hu = np.random.default_rng(0).integers(-1000, 1000, (6, 33, 34))
    write_series(tmp_path / "patient" / "series", hu)
    settings = make_settings()
    run_extraction([str(tmp_path / "patient")], settings)
    rows = rows_of(settings)
    assert list(rows) == [str(tmp_path / "patient" / "series")]
    assert rows.popitem()[1]["dimension"] == "3d"


def test_records_of_a_data_set_are_rows(make_settings, tmp_path):
    pictures = [Image.fromarray(np.full((40, 40), 9 * index, np.uint8)) for index in range(5)]
    data_set = Dataset.from_dict({"scan": pictures}, features=Features({"scan": ImageFeature()}))
    data_set.save_to_disk(tmp_path / "saved")
    settings = make_settings(dimension="2d")
    assert run_extraction([str(tmp_path / "saved")], settings).num_new == 5
    assert sorted(rows_of(settings)) == [f"{tmp_path / 'saved'}[train][{i}]" for i in range(5)]
    assert run_extraction([str(tmp_path / "saved")], settings).num_new == 0


def test_a_finished_file_is_left_alone_until_there_is_more(make_settings, images, tmp_path):
    settings = make_settings()
    run_extraction([str(images)], settings)
    output = tmp_path / "out" / "features.parquet"
    before = output.stat().st_mtime_ns
    result = run_extraction([str(images)], settings)
    assert (result.num_extracted, result.num_new, result.finished) == (8, 0, True)
    assert output.stat().st_mtime_ns == before
    Image.new("L", (40, 40)).save(images / "new.png")
    result = run_extraction([str(images)], settings)
    assert (result.num_extracted, result.num_new) == (9, 1)
    assert len(rows_of(settings)) == 9
    assert [path.name for path in output.parent.iterdir()] == [output.name]


def test_bad_files_are_told_skipped_listed_and_tried_again(
    make_settings, images, volumes, tmp_path, capsys
):
    good = (images / "3.png").read_bytes()
    (images / "3.png").write_bytes(good[:100])
    (volumes / "1.nii.gz").write_bytes(b"nothing")
    settings = make_settings(workers=2)
    result = run_extraction([str(images), str(volumes)], settings)
    assert (result.num_extracted, result.num_bad, result.finished) == (10, 2, True)
    errors = pandas.read_csv(tmp_path / "out" / "features.errors.csv")
    assert errors["name"].tolist() == [str(images / "3.png"), str(volumes / "1.nii.gz")]
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("bad: ")]
    assert told == [f"bad: {name}: {error}" for name, error in errors.to_numpy()]

    (images / "3.png").write_bytes(good)
    result = run_extraction([str(images), str(volumes)], settings)
    assert (result.num_extracted, result.num_new, result.num_bad) == (11, 1, 1)
    errors = pandas.read_csv(result.errors)
    assert errors["name"].tolist() == [str(volumes / "1.nii.gz")]
    (volumes / "1.nii.gz").unlink()
    result = run_extraction([str(images), str(volumes)], settings)
    assert result.errors is None
    assert not (tmp_path / "out" / "features.errors.csv").exists()
    assert len(rows_of(settings)) == 11


def test_features_that_are_not_finite_are_bad(make_settings, volumes):
    # HU divided by next to nothing overflow
    settings = make_settings(
        patches=True, patches_dtype="float16", processor={"window": None, "scaling": (0.0, 1e-38)}
    )
    result = run_extraction([str(volumes / "0.nii.gz")], settings)
    assert result.num_bad == 1
    assert "not finite" in result.errors.read_text()


def test_inputs_are_looked_for_before_the_model(make_settings, images):
    settings = make_settings(model="./no/model")
    with pytest.raises(FileNotFoundError, match=r"no file or folder .*99\.png"):
        run_extraction([str(images / "99.png")], settings)
    with pytest.raises(FileNotFoundError, match=r"\./no/model"):
        run_extraction([str(images / "0.png")], settings)


def test_other_settings_do_not_mix_with_parts(make_settings, images):
    run_extraction([str(images)], make_settings())
    with pytest.raises(ValueError, match=r"patches False \(now True\)"):
        run_extraction([str(images)], make_settings(patches=True))


@contextmanager
def seeing_inputs(act):
    """Call `act` with the shape of whatever goes through an encoder."""

    def look(module, arguments):
        if isinstance(module, MiTModel):
            act(tuple(arguments[0].shape))

    handle = register_module_forward_pre_hook(look)
    try:
        yield
    finally:
        handle.remove()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_signal_stops_behind_the_batch_and_the_next_run_goes_on(
    make_settings, images, tmp_path, workers
):
    settings = make_settings(batch_size=3, workers=workers)
    with seeing_inputs(lambda shape: signal.raise_signal(signal.SIGINT)):
        result = run_extraction([str(images)], settings)
    assert not result.finished
    assert (result.num_inputs, result.num_extracted, result.num_new) == (8, 3, 3)
    assert not (tmp_path / "out" / "features.parquet").exists()
    result = run_extraction([str(images)], settings)
    assert result.finished
    assert (result.num_inputs, result.num_extracted, result.num_new) == (8, 8, 5)
    assert len(rows_of(settings)) == 8


def test_an_interrupt_keeps_what_was_done(make_settings, images):
    seen = []

    def interrupt_second(shape):
        seen.append(shape)
        if len(seen) == 2:
            raise KeyboardInterrupt

    settings = make_settings(batch_size=3)
    with pytest.raises(KeyboardInterrupt), seeing_inputs(interrupt_second):
        run_extraction([str(images)], settings)
    assert run_extraction([str(images)], settings).num_new == 5
    assert len(rows_of(settings)) == 8


def test_batches_hold_inputs_of_one_shape(make_settings, tmp_path, monkeypatch):
    """Many shapes wait for company, but not without end."""
    monkeypatch.setattr(loop_module, "_WAITING_BATCHES", 2)
    for index, width in enumerate([32, 36, 32, 36, 33, 34, 35, 37, 38, 35]):
        Image.new("L", (width, 40), index).save(tmp_path / f"{index:02}.png")
    shapes = []
    with seeing_inputs(shapes.append):
        settings = make_settings(batch_size=2, processor={"image_size": None})
        assert run_extraction([str(tmp_path)], settings).num_new == 10
    batches = [(shape[0], shape[-1]) for shape in shapes]
    # the fifth that waits sends one on alone
    assert batches[:4] == [(2, 32), (2, 36), (1, 33), (2, 35)]
    assert sorted(batches[4:]) == [(1, 34), (1, 37), (1, 38)]


def test_an_input_that_the_network_fails_on_is_bad(make_settings, images):
    """As when memory is short: the others of its batch are computed one by one."""

    def run_short_of_memory(module, arguments):
        if isinstance(module, MiTModel):
            (pixel_values,) = arguments
            if len(pixel_values) > 1 or pixel_values.max() > 0.97:
                raise RuntimeError("could not create a primitive")

    for index in range(8):
        pixels = np.full((40, 48), 255 if index == 5 else 100, dtype=np.uint8)
        Image.fromarray(pixels).save(images / f"{index}.png")
    hook = register_module_forward_pre_hook(run_short_of_memory)
    try:
        result = run_extraction([str(images)], make_settings(batch_size=4))
    finally:
        hook.remove()
    assert (result.num_extracted, result.num_bad) == (7, 1)
    assert "5.png,the network failed: could not create a primitive" in result.errors.read_text()
