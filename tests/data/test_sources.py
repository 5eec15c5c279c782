"""Every form of source gives the same undecoded records, and mistakes are named."""

import io
import tarfile
from pathlib import Path

import datasets
import nibabel
import numpy as np
import pytest
from datasets import Dataset, DatasetDict, IterableDataset
from PIL import Image

from unimiss_hf.data.reading import read_record, record_name
from unimiss_hf.data.sources import open_source

COUNT = 4


@pytest.fixture
def images(tmp_path) -> Path:
    """Radiographs in one folder, volumes in another; the first pixel tells which is which."""
    (tmp_path / "xray" / "deeper").mkdir(parents=True)
    (tmp_path / "ct" / "deeper").mkdir(parents=True)
    for index in range(COUNT):
        folder = "deeper" if index % 2 else "."
        Image.fromarray(np.full((4, 5), index, np.uint8)).save(
            tmp_path / "xray" / folder / f"{index}.png"
        )
        nibabel.save(
            nibabel.Nifti1Image(np.full((4, 4, 3), index, np.int16), np.diag([1, 1, 3, 1])),
            tmp_path / "ct" / folder / f"{index}.nii.gz",
        )
    for name in ("xray/._0.png", "ct/._0.nii.gz"):
        (tmp_path / name).write_bytes(b"resource fork")
    return tmp_path


def folder_of(images: Path, dimension: str) -> Path:
    return images / ("xray" if dimension == "2d" else "ct")


def files_of(images: Path, dimension: str) -> list[Path]:
    suffix = ".png" if dimension == "2d" else ".nii.gz"
    return [
        path for path in folder_of(images, dimension).rglob(f"*{suffix}") if path.name[0] != "."
    ]


def dataset_of(images: Path, dimension: str) -> Dataset:
    feature = datasets.Image() if dimension == "2d" else datasets.Nifti()
    records = [
        {"label": 1, "scan": {"path": file.name, "bytes": file.read_bytes()}}
        for file in files_of(images, dimension)
    ]
    features = datasets.Features({"label": datasets.Value("int64"), "scan": feature})
    return Dataset.from_list(records, features=features)


def indices(source, dimension: str) -> list[int]:
    """Which images the source holds, from their pixels."""
    found = []
    for record in source.records:
        assert record.keys() == {"image"}
        assert record["image"].keys() == {"path", "bytes"}
        value = read_record(record, dimension).flat[0]
        found.append(round(float(value) * (255 if dimension == "2d" else 1024)))
    return sorted(found)


def as_tar(images: Path, dimension: str) -> Path:
    folder = images / f"tar_{dimension}"
    folder.mkdir()
    with tarfile.open(folder / "train-0.tar", "w") as archive:
        for file in sorted(files_of(images, dimension)):
            archive.add(file, arcname=file.name)
    return folder


def as_parquet(images: Path, dimension: str) -> Path:
    folder = images / f"parquet_{dimension}"
    folder.mkdir()
    dataset_of(images, dimension).to_parquet(folder / "train.parquet")
    return folder


def as_saved(images: Path, dimension: str) -> Path:
    dataset_of(images, dimension).save_to_disk(images / f"saved_{dimension}")
    return images / f"saved_{dimension}"


def as_saved_splits(images: Path, dimension: str) -> Path:
    splits = DatasetDict({"train": dataset_of(images, dimension)})
    splits.save_to_disk(images / f"splits_{dimension}")
    return images / f"splits_{dimension}"


FORMS = {
    "folder": folder_of,
    "folder as str": lambda images, dimension: str(folder_of(images, dimension)),
    "files": files_of,
    "pattern": lambda images, dimension: f"{folder_of(images, dimension)}/**/*.*",
    "dataset": dataset_of,
    "stream": lambda images, dimension: dataset_of(images, dimension).to_iterable_dataset(2),
    "parquet": as_parquet,
    "parquet file": lambda images, dimension: as_parquet(images, dimension) / "train.parquet",
    "tar": as_tar,
    "saved": as_saved,
    "saved splits": as_saved_splits,
}


@pytest.mark.parametrize("dimension", ["2d", "3d"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_every_image_undecoded(images, form, dimension):
    source = open_source(FORMS[form](images, dimension), dimension)
    feature = datasets.Image if dimension == "2d" else datasets.Nifti
    assert source.records.features == {"image": feature(decode=False)}
    assert source.num_samples == (None if form == "stream" else COUNT)
    assert source.num_shards == source.records.num_shards
    assert source.dimension == dimension
    assert source.name
    assert indices(source, dimension) == list(range(COUNT))


@pytest.mark.parametrize("dimension", ["2d", "3d"])
@pytest.mark.parametrize("form", ["parquet", "tar"])
def test_streamed_folders(images, form, dimension):
    source = open_source(FORMS[form](images, dimension), dimension, streaming=True)
    assert indices(source, dimension) == list(range(COUNT))


@pytest.mark.parametrize("streaming", [True, False])
def test_webdataset_records_are_named_by_their_key(images, streaming):
    source = open_source(as_tar(images, "3d"), "3d", streaming=streaming)
    assert {record_name(r) for r in source.records} == {f"{n}.nii.gz" for n in range(COUNT)}


def test_one_file_and_home(images, monkeypatch):
    assert open_source(images / "ct" / "0.nii.gz", "3d").num_samples == 1
    monkeypatch.setenv("HOME", str(images))
    assert open_source("~/xray", "2d").num_samples == COUNT


def test_order_is_sorted_and_links_are_followed_once(images):
    (images / "linked").mkdir()
    (images / "linked" / "to").symlink_to(images / "xray")
    (images / "linked" / "round").symlink_to(images / "linked")
    names = [record_name(record) for record in open_source(images / "linked", "2d").records]
    assert names == sorted(names)
    assert len(names) == COUNT


def test_many_files_come_in_shards(tmp_path):
    source = open_source(Dataset.from_dict({"png": [b"x"] * 200}), "2d")
    assert source.num_shards == 48
    assert sum(1 for _ in source.records) == 200


def test_stream_without_features():
    def generate():
        yield {"nii": b"abc", "age": 3}

    stream = IterableDataset.from_generator(generate)
    assert stream.features is None
    source = open_source(stream, "3d")
    assert list(source.records) == [{"image": {"path": None, "bytes": b"abc"}}]


def test_formatted_and_decoded_datasets_are_undecoded(images):
    dataset = dataset_of(images, "2d").with_format("numpy")
    assert indices(open_source(dataset, "2d"), "2d") == list(range(COUNT))


def test_column_is_asked_for(images):
    png = io.BytesIO()
    Image.new("L", (2, 2)).save(png, "PNG")
    two = Dataset.from_dict({"frontal": [png.getvalue()], "lateral": [png.getvalue()]})
    for name in ("frontal", "lateral"):
        two = two.cast_column(name, datasets.Image())
    with pytest.raises(ValueError, match=r"several columns.*'frontal'.*'lateral'.*column="):
        open_source(two, "2d")
    assert open_source(two, "2d", column="lateral").num_samples == 1
    with pytest.raises(ValueError, match=r"no column 'side'.*'frontal'"):
        open_source(two, "2d", column="side")
    with pytest.raises(ValueError, match=r"no Nifti column.*'frontal' \(Image\)"):
        open_source(two, "3d")
    with pytest.raises(ValueError, match=r"'frontal' .* is of type Image"):
        open_source(two, "3d", column="frontal")
    with pytest.raises(ValueError, match=r"'age' .* is of type int64"):
        open_source(Dataset.from_dict({"age": [1]}), "2d", column="age")


def test_column_of_paths(images):
    paths = Dataset.from_dict({"file": [str(file) for file in files_of(images, "3d")]})
    source = open_source(paths, "3d", column="file")
    assert indices(source, "3d") == list(range(COUNT))


def test_folder_of_the_other_dimension_says_what_it_holds(images):
    with pytest.raises(ValueError, match=rf"no 3d images.*{COUNT} \.png.*wanted \.nii"):
        open_source(images / "xray", "3d")
    with pytest.raises(ValueError, match=rf"found {COUNT} \.png"):
        open_source(files_of(images, "2d"), "3d")


def test_folder_of_images_and_shards_is_ambiguous(images):
    dataset_of(images, "2d").to_parquet(images / "xray" / "labels.parquet")
    with pytest.raises(ValueError, match=r"both 2d images and dataset files"):
        open_source(images / "xray", "2d")


def test_no_data(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".hidden.png").write_bytes(b"x")
    with pytest.raises(ValueError, match="no files at all"):
        open_source(tmp_path / "empty", "2d")
    with pytest.raises(ValueError, match="list of files is empty"):
        open_source([], "2d")
    with pytest.raises(ValueError, match="no records"):
        open_source(Dataset.from_dict({"png": []}), "2d")
    stream = Dataset.from_dict({"png": [b"x"]}).to_iterable_dataset()
    with pytest.raises(ValueError, match="no records"):
        open_source(stream.filter(lambda record: False), "2d")
    with pytest.raises(ValueError, match="empty name"):
        open_source("", "2d")


@pytest.mark.parametrize("text", ["./nothing", "/nothing/here", "a/b/c", "ct.nii.gz", "~/nothing"])
def test_mistyped_paths_are_not_looked_for_on_the_hub(text):
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        open_source(text, "3d")


def test_slip_of_the_pen_is_pointed_out(images, monkeypatch):
    monkeypatch.chdir(images)
    with pytest.raises(FileNotFoundError, match=r"Did you mean xray\?"):
        open_source("xrays", "2d")
    with pytest.raises(FileNotFoundError, match=r"1 of 2 files are missing.*gone"):
        open_source([images / "ct" / "0.nii.gz", images / "gone.nii.gz"], "3d")
    with pytest.raises(FileNotFoundError, match="No file matches"):
        open_source(f"{images}/ct/*.png", "2d")


@pytest.mark.parametrize("name", ["somebody/scans", "hf://datasets/somebody/scans"])
def test_unreachable_hub_is_said(name):
    with pytest.raises(ConnectionError, match=r"'somebody/scans'.*HF_HUB_OFFLINE"):
        open_source(name, "3d")


def test_wrong_kinds_of_arguments(images):
    with pytest.raises(ValueError, match="'2D'"):
        open_source(images, "2D")
    with pytest.raises(TypeError, match="int"):
        open_source(3, "2d")
    with pytest.raises(TypeError, match="train"):
        open_source(DatasetDict({"train": dataset_of(images, "2d")}), "2d")
    with pytest.raises(ValueError, match=r"no split 'test'.*train"):
        open_source(as_saved_splits(images, "2d"), "2d", split="test")
