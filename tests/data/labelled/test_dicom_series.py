"""DICOM series in folders, as NBIA writes them."""

import numpy as np
import pytest

from dicom_files import slice_affine, write_radiograph, write_series
from labelled_miniatures_classification import nbia_rows
from layout_miniatures import NBIA_COLUMNS, anatomy, touch, write_table
from unimiss_hf.data.labelled.dicom_series import (
    first_frame,
    incomplete,
    series_folders,
    slice_place,
)
from unimiss_hf.data.layouts.item import Problem


def test_files_by_folder(tmp_path):
    second = write_series(tmp_path / "b", anatomy(1))
    first = write_series(tmp_path / "a", anatomy(2))
    touch(tmp_path / "a" / "LICENSE", tmp_path / "a" / "DICOMDIR")
    others = [tmp_path / "a" / "LICENSE", tmp_path / "a" / "DICOMDIR"]
    assert series_folders([*second, *others, *first]) == {
        tmp_path / "a": tuple(sorted(first)),
        tmp_path / "b": tuple(sorted(second)),
    }


def test_first_frame_of_a_ct(tmp_path):
    files = tuple(write_series(tmp_path, anatomy(1), SeriesNumber=7))
    assert first_frame(files, "x").number("SeriesNumber") == 7


@pytest.mark.parametrize(
    "tags", [{"Modality": "SEG"}, {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}]
)
def test_what_is_no_volume_by_its_purpose(tmp_path, tags):
    assert first_frame(tuple(write_series(tmp_path, anatomy(1), **tags)), "x") is None


def test_other_modalities_single_slices_and_damaged_files_are_told(tmp_path):
    radiograph = write_radiograph(tmp_path / "1.dcm", np.zeros((5, 6), np.uint16))
    other = first_frame((radiograph,), "x")
    assert other == Problem("x", "has modality DX; taken is CT.", is_missing=False)
    (single,) = write_series(tmp_path / "single", anatomy(1)[:1])
    assert "has one CT slice" in first_frame((single,), "x").reason
    touch(tmp_path / "2.dcm")
    assert "cannot be opened" in first_frame((tmp_path / "2.dcm",), "x").reason


def test_place_of_a_slice_by_its_number(tmp_path):
    def number(dataset, index):
        dataset.InstanceNumber = 10 - index

    affine = slice_affine((0.7, 0.8, 2.5), origin=(90, 80, -40))
    files = write_series(tmp_path, anatomy(1), affine, change=number)
    np.testing.assert_allclose(slice_place(files, 8, "x"), [90, 80, -40 + 2 * 2.5])
    with pytest.raises(ValueError, match=r"x: 0 slices of .* have InstanceNumber 3; wanted one"):
        slice_place(files, 3, "x")
    with pytest.raises(ValueError, match=r"x: 2 slices of .* have InstanceNumber 8"):
        slice_place([*files, files[2]], 8, "x")
    nowhere = write_series(tmp_path / "nowhere", anatomy(1), ImagePositionPatient=None)
    with pytest.raises(ValueError, match="has no ImagePositionPatient"):
        slice_place(nowhere, 1, "x")


def test_incomplete_series_by_the_table(tmp_path):
    files = write_series(tmp_path / "C" / "p" / "s" / "1", anatomy(1))
    places = {"./C/p/s/1": 5, ".\\C\\p\\s\\2": 3}
    write_table(tmp_path / "metadata.csv", NBIA_COLUMNS, nbia_rows(places))
    write_table(tmp_path / "other.csv", "Series UID", [["1.2"]])
    tables = [tmp_path / "metadata.csv", tmp_path / "other.csv"]
    short, gone = incomplete(tmp_path, tables, series_folders(files))
    assert (short.name, short.is_missing) == ("C/p/s/1", False)
    assert "has 4 of the 5 files" in short.reason
    assert (gone.name, gone.is_missing) == ("C/p/s/2", True)
