"""Words of a command mean what a user expects of them, and mistakes are told at once."""

from dataclasses import dataclass
from pathlib import Path

import datasets
import nibabel
import numpy as np
import pytest
from datasets import Dataset
from PIL import Image

from dicom_files import write_radiograph, write_series
from prepared_folders import SPACING, volume_row, voxels_of, write_prepared
from unimiss_hf import MiTImageProcessor
from unimiss_hf.data.inputs import find_inputs
from unimiss_hf.image_reading_mit import load_volume


@dataclass
class Choice:
    """What to take of data sets."""

    dimension: str | None = None
    split: str = "train"
    config_name: str | None = None
    column: str | None = None
    streaming: bool = False


@pytest.fixture
def make_settings():
    return Choice


def names(found, root) -> list[str]:
    return sorted(Path(item.name).relative_to(root).as_posix() for item in found.without(()))


@pytest.fixture
def hu():
    return np.random.default_rng(0).integers(-1000, 1000, (5, 6, 7))


class TestFiles:
    def test_folders_are_walked_at_any_depth(self, tmp_path, images, volumes, make_settings):
        (tmp_path / "images" / "deeper").mkdir()
        np.save(tmp_path / "images" / "deeper" / "a.npy", np.zeros((5, 6)))
        for name in ("notes.md", "labels.csv", ".hidden.png", "deeper/more.csv"):
            (tmp_path / "images" / name).touch()
        found = find_inputs([str(tmp_path)], make_settings())
        wanted = [f"images/{index}.png" for index in range(8)]
        wanted += ["images/deeper/a.npy", *(f"volumes/{index}.nii.gz" for index in range(4))]
        assert names(found, tmp_path) == sorted(wanted)
        assert found.num_inputs == 13
        assert found.describe_passed_over() == "3 (2 .csv, 1 .md)"

    def test_a_name_is_there_once(self, images, make_settings):
        word = str(images / "0.png")
        found = find_inputs([word, str(images), word], make_settings())
        assert found.num_inputs == 8

    def test_a_list_of_paths(self, tmp_path, images, volumes, make_settings):
        listing = tmp_path / "paths.txt"
        listing.write_text(f"# volumes\n{volumes}\n\n  {images / '0.png'}  \n")
        found = find_inputs([str(listing)], make_settings())
        assert found.num_inputs == 5
        listing.write_text(f"{volumes}\n{images / '9.png'}\n")
        with pytest.raises(OSError, match=r"paths\.txt, line 2: There is no file"):
            find_inputs([str(listing)], make_settings())
        listing.write_text("# nothing\n")
        with pytest.raises(ValueError, match="lists no inputs"):
            find_inputs([str(listing)], make_settings())

    def test_a_pair_of_files_is_one_volume(self, tmp_path, make_settings):
        voxels = np.zeros((5, 6, 7), np.int16)
        nibabel.save(nibabel.Nifti1Pair(voxels, np.eye(4)), tmp_path / "pair.hdr")
        found = find_inputs([str(tmp_path)], make_settings())
        assert names(found, tmp_path) == ["pair.hdr"]

    def test_what_is_done_is_left_out(self, images, make_settings):
        found = find_inputs([str(images)], make_settings())
        done = {str(images / f"{index}.png") for index in range(7)} | {"another"}
        assert found.count_of(done) == 7
        assert [item.name for item in found.without(done)] == [str(images / "7.png")]

    @pytest.mark.parametrize(
        ("word", "message"),
        [
            ("image", "Did you mean .*images"),
            ("images/77.png", r"There is no file or folder .*77\.png"),
            ("", "empty word"),
        ],
    )
    def test_mistyped_paths_are_told(
        self, tmp_path, images, make_settings, monkeypatch, word, message
    ):
        monkeypatch.chdir(tmp_path)
        with pytest.raises((FileNotFoundError, ValueError), match=message):
            find_inputs([word], make_settings())

    def test_a_name_that_is_no_path_may_be_a_data_set(self, make_settings):
        with pytest.raises(FileNotFoundError, match="--dimension 2d or 3d"):
            find_inputs(["owner/name"], make_settings())
        with pytest.raises(ConnectionError, match="Hub could not be reached"):
            find_inputs(["owner/name"], make_settings(dimension="2d"))

    def test_a_folder_without_inputs_is_told(self, tmp_path, make_settings):
        (tmp_path / "a.csv").touch()
        with pytest.raises(ValueError, match=r"neither images nor volumes: found 1 \.csv"):
            find_inputs([str(tmp_path)], make_settings())


def test_places_are_those_within_the_folders_given(tmp_path, images, hu, make_settings):
    write_series(tmp_path / "patients" / "a" / "series", hu)
    write_radiograph(tmp_path / "patients" / "chest.dcm", np.zeros((5, 6), np.uint16))
    found = find_inputs([str(tmp_path / "patients"), str(images / "3.png")], make_settings())
    places = {item.place for item in found.without(())}
    assert places == {"a/series", "chest.dcm", "3.png"}
    assert found.folders == [tmp_path / "patients"]
    for word in (tmp_path / "patients" / "a", tmp_path / "patients" / "a" / "series"):
        found = find_inputs([str(word)], make_settings())
        assert [item.place for item in found.without(())] == ["series"]
    slices = sorted((tmp_path / "patients" / "a" / "series").iterdir())
    found = find_inputs([*map(str, slices)], make_settings())
    assert [item.place for item in found.without(())] == ["series"]


class TestDicom:
    def test_slices_in_a_folder_are_one_volume(self, tmp_path, hu, make_settings):
        write_series(tmp_path / "patient" / "series", hu)
        write_radiograph(tmp_path / "patient" / "chest.dcm", np.zeros((5, 6), np.uint16))
        (tmp_path / "patient" / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
        found = find_inputs([str(tmp_path)], make_settings())
        assert names(found, tmp_path) == ["patient/chest.dcm", "patient/series"]
        volume = found.files[str(tmp_path / "patient" / "series")].open()
        pixels = MiTImageProcessor(spacing=None)([volume])["pixel_values"][0]
        assert pixels.shape == (1, *hu.shape)

    def test_slices_given_one_by_one_are_one_volume(self, tmp_path, hu, make_settings):
        paths = [str(path) for path in write_series(tmp_path / "series", hu)]
        assert names(find_inputs(paths, make_settings()), tmp_path) == ["series"]
        one = find_inputs(paths[:1], make_settings())
        assert [item.name for item in one.without(())] == paths[:1]

    def test_a_damaged_radiograph_leaves_the_others(self, tmp_path, make_settings):
        for index in range(3):
            write_radiograph(tmp_path / f"{index}.dcm", np.zeros((5, 6), np.uint16))
        (tmp_path / "1.dcm").write_bytes(b"no DICOM")
        found = find_inputs([str(tmp_path)], make_settings())
        assert names(found, tmp_path) == ["0.dcm", "1.dcm", "2.dcm"]

    @pytest.mark.parametrize("fault", ["damaged slice", "second series"])
    def test_a_volume_is_not_guessed(self, tmp_path, hu, make_settings, fault):
        paths = write_series(tmp_path, hu)
        if fault == "damaged slice":
            paths[0].write_bytes(b"no DICOM")
        else:
            write_series(tmp_path / "other", hu)
            for path in (tmp_path / "other").iterdir():
                path.rename(tmp_path / f"other_{path.name}")
            (tmp_path / "other").rmdir()
        found = find_inputs([str(tmp_path)], make_settings())
        assert list(found.files) == [str(tmp_path)]
        with pytest.raises((ValueError, OSError)):
            MiTImageProcessor()([found.files[str(tmp_path)].open()])


class TestDataSets:
    @pytest.fixture
    def data_set(self, tmp_path):
        """A Parquet folder of images whose grey level is their index."""
        records = [Image.fromarray(np.full((4, 5), index, np.uint8)) for index in range(60)]
        features = datasets.Features({"scan": datasets.Image()})
        data_set = Dataset.from_dict({"scan": records}, features=features)
        (tmp_path / "set").mkdir()
        data_set.to_parquet(tmp_path / "set" / "train.parquet")
        data_set.save_to_disk(tmp_path / "saved")
        return tmp_path

    @pytest.mark.parametrize(
        ("form", "streaming"),
        [("set", False), ("set", True), ("set/train.parquet", False), ("saved", False)],
    )
    def test_records_are_named_by_their_index(self, data_set, make_settings, form, streaming):
        settings = make_settings(dimension="2d", streaming=streaming, column="scan")
        found = find_inputs([str(data_set / form)], settings)
        assert found.num_inputs == (None if streaming else 60)
        prefix = f"{data_set / form}[train][column=scan]"
        done = {f"{prefix}[{index}]" for index in (*range(7), *range(9, 58))} | {"another"}
        assert found.count_of(done) == 56
        rest = {item.name: np.asarray(item.open()).max() for item in found.without(done)}
        assert rest == {f"{prefix}[{index}]": index for index in (7, 8, 58, 59)}
        places = [item.place for item in found.without(done)]
        assert len({place.rpartition("/")[0] for place in places}) == 1
        assert [place.rpartition("/")[2] for place in places] == ["7", "8", "58", "59"]

    def test_the_records_of_another_column_are_others(self, data_set, make_settings):
        found = find_inputs([str(data_set / "set")], make_settings(dimension="2d"))
        (prefix,) = found.data_sets
        others = {f"{prefix.removesuffix('[')}[column=scan][{index}]" for index in range(60)}
        assert found.count_of(others) == 0
        assert len(list(found.without(others))) == 60

    def test_prepared_volumes_open_on_their_grid(self, tmp_path, make_settings):
        rows = [[volume_row(0), volume_row(1)]]
        found = find_inputs([str(write_prepared(tmp_path, rows))], make_settings(dimension="3d"))
        inputs = list(found.without(()))
        assert len(inputs) == 2
        for index, named in enumerate(inputs):
            volume = load_volume(named.open())
            assert volume.spacing == SPACING
            np.testing.assert_array_equal(volume.voxels, voxels_of(index))

    def test_nothing_is_left_of_a_finished_data_set(self, data_set, make_settings):
        found = find_inputs([str(data_set / "set")], make_settings(dimension="2d"))
        done = {item.name for item in found.without(())}
        assert len(done) == 60
        assert list(found.without(done)) == []

    def test_the_dimension_must_be_told(self, data_set, make_settings):
        for word in (str(data_set / "set"), "hf://datasets/owner/name"):
            with pytest.raises(ValueError, match="is a data set; say what to take of it"):
                find_inputs([word], make_settings())
