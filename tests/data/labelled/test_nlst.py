"""NLST: windows around the nodules of NLSTx."""

import pickle
import shutil

import numpy as np
import pytest

from labelled_miniatures_classification import (
    NLST_COLUMNS,
    NLST_ROWS,
    NLST_SERIES,
    NLST_SHAPE,
    nbia_rows,
    nlst,
    nlst_scan,
)
from layout_miniatures import NBIA_COLUMNS, write_table
from unimiss_hf import MiTImageProcessor
from unimiss_hf.data.labelled.nlst import NLST

# (depth, height, width) in mm: 3 slices of 2.5 mm, 5 rows and 3 columns of 1 mm.
EXTENT = (7.5, 5.0, 3.0)
COLUMN = {name: place for place, name in enumerate(NLST_COLUMNS.split(","))}


def changed(row, **values):
    """A row of the table with other values, by the beginnings of its columns."""
    row = list(row)
    for name, value in values.items():
        (place,) = [COLUMN[column] for column in COLUMN if column.lower().startswith(name)]
        row[place] = value
    return row


def test_nodules_labels_and_folds(tmp_path):
    data = NLST.read(nlst(tmp_path))
    assert data.class_names == ("benign", "malignant")
    assert {case.name: (case.patient, case.target, case.split) for case in data.cases} == {
        "100288_T0_nodule1": ("100288", 0, "test"),
        "100288_T1_nodule1": ("100288", 0, "test"),
        "211965_T2_nodule3": ("211965", 1, "train"),
    }
    assert data.problems == ()
    splits = [case.split for case in NLST.read(tmp_path, test_fold=4).cases]
    assert splits == ["train", "train", "test"]


def test_window_lies_around_the_box(tmp_path):
    case = NLST.read(nlst(tmp_path), extent=EXTENT).cases[0]
    # Slices are numbered from head to feet: number 3 of 10 is the eighth from the feet. The box
    # is 3 columns from 5 on, 5 rows from 8 on; its middle is column 6, row 10.
    wanted = nlst_scan(0)[6:9, 8:13, 5:8]
    window = pickle.loads(pickle.dumps(case)).load_image(case)
    # Columns run to the left and rows to posterior; so does x and y of the window.
    np.testing.assert_array_equal(np.asarray(window.dataobj).T, wanted)
    processor = MiTImageProcessor(
        spacing=None,
        window=None,
        scaling=(0, 1),
        volume_size={"depth": 3, "height": 5, "width": 3},
    )
    pixels = processor(window, return_tensors="pt")["pixel_values"]
    np.testing.assert_allclose(pixels[0, 0], wanted[:, ::-1, ::-1])


def test_window_lies_where_the_scan_does(tmp_path):
    case = NLST.read(nlst(tmp_path), extent=EXTENT).cases[0]
    window = case.load_image(case)
    middle = window.affine @ [1, 2, 1, 1]
    # slice_affine puts column 0, row 0, slice 0 at (90, 80, -40).
    np.testing.assert_allclose(middle[:3], [90 - 6, 80 - 10, -40 + 7 * 2.5])


def test_air_beyond_the_scan(tmp_path):
    case = NLST.read(nlst(tmp_path), extent=(27.5, 9.0, 9.0)).cases[1]
    window = np.asarray(case.load_image(case).dataobj).T
    # Slice 9 of 10 is the second from the feet; the middle of the box is column 2, row 2.
    assert window.shape == (11, 9, 9)
    np.testing.assert_array_equal(window[4:, 2:, 2:], nlst_scan(1)[:7, :7, :7])
    outside = window.copy()
    outside[4:, 2:, 2:] = -1024
    assert (outside == -1024).all()


def test_processor_takes_every_case_at_the_size_of_pretraining(tmp_path):
    processor = MiTImageProcessor(volume_size={"depth": 16, "height": 96, "width": 96})
    images = [case.load_image(case) for case in NLST.read(nlst(tmp_path)).cases]
    pixels = processor(images, return_tensors="pt")["pixel_values"]
    assert pixels.shape == (3, 1, 16, 96, 96)
    # The nodule is in the middle, and the scans are in the windows.
    assert (pixels[:, 0, 7:9, 46:50, 46:50] > -1).all()


def test_recognised_with_and_without_a_wrapping_folder(tmp_path):
    root = nlst(tmp_path)
    manifest = root / "manifest-1632928843386"
    for folder in (root, tmp_path, manifest, manifest / "NLST"):
        assert NLST.recognise(folder)
    shutil.copy(root / "nlstx_dataset.csv", manifest)
    assert len(NLST.read(manifest).cases) == 3
    with pytest.raises(ValueError, match="does not look like NLST"):
        NLST.read(manifest / "NLST" / "100288")


def test_table_is_needed(tmp_path):
    root = nlst(tmp_path)
    (root / "nlstx_dataset.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"nlstx_dataset\.csv is not there.*benVZ/NLSTx"):
        NLST.read(root)


def test_series_that_is_not_there_is_told(tmp_path):
    root = nlst(tmp_path)
    shutil.rmtree(root / "manifest-1632928843386" / "NLST" / "211965")
    data = NLST.read(root)
    assert [case.patient for case in data.cases] == ["100288", "100288"]
    (problem,) = data.problems
    assert (problem.name, problem.is_missing) == ("211965_T2_nodule3", True)
    assert NLST_SERIES["211965", 2] in problem.reason


def test_incomplete_series_and_nodules_without_place_are_told(tmp_path):
    rows = [*NLST_ROWS[:2], changed(NLST_ROWS[2], slice="")]
    root = nlst(tmp_path, rows)
    collection = root / "manifest-1632928843386"
    series = {
        path.parent.relative_to(collection).as_posix(): 12
        for path in collection.rglob("1-01.dcm")
        if path.stat().st_size > 100
    }
    write_table(collection / "metadata.csv", NBIA_COLUMNS, nbia_rows(series))
    told = {problem.name: problem for problem in NLST.read(root).problems}
    assert "no Slice number" in told.pop("211965_T2_nodule3").reason
    assert all("10 of the 12 files" in problem.reason for problem in told.values())
    # The other series of the participant, which has no nodule in the table, is not missed.
    assert {name.rpartition("/")[2] for name in told} == {
        "2.000000-0OPASEV-86262",
        "2.000000-0OPASEV-22521",
        "2.000000-0OPASEV-.3042",
    }


def test_nodule_listed_twice(tmp_path):
    root = nlst(tmp_path, [*NLST_ROWS, NLST_ROWS[0]])
    (problem,) = NLST.read(root).problems
    assert "listed twice" in problem.reason and not problem.is_missing
    other = changed(NLST_ROWS[0], malignancy="M")
    write_table(root / "nlstx_dataset.csv", NLST_COLUMNS, [*NLST_ROWS, other])
    with pytest.raises(ValueError, match="line 5: 100288_T0_nodule1 has two labels"):
        NLST.read(root)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"malignancy": "X"}, "line 2: malignancy is 'X'; wanted B or M"),
        ({"fold": 7}, "line 2: fold is '7'; wanted 0 to 4"),
        ({"slice": "third"}, "line 2: Slice number is 'third'; wanted a number"),
        ({"pid": "12"}, "line 2: PID is '12'; wanted six digits"),
    ],
)
def test_odd_rows(tmp_path, values, message):
    root = nlst(tmp_path, [changed(NLST_ROWS[0], **values)])
    with pytest.raises(ValueError, match=message):
        NLST.read(root)


def test_odd_tables(tmp_path):
    root = nlst(tmp_path, [])
    with pytest.raises(ValueError, match=r"nlstx_dataset\.csv lists no nodule"):
        NLST.read(root)
    write_table(root / "nlstx_dataset.csv", NLST_COLUMNS.replace("malignancy", "label"), [])
    with pytest.raises(ValueError, match=r"nlstx_dataset\.csv has no column malignancy"):
        NLST.read(root)


def test_box_or_slice_outside_of_the_scan(tmp_path):
    columns, slices = NLST_SHAPE[2], NLST_SHAPE[0]
    rows = [
        changed(NLST_ROWS[0], **{"bounding box x": columns}),
        changed(NLST_ROWS[1], slice=slices + 1),
    ]
    outside, beyond = NLST.read(nlst(tmp_path, rows)).cases
    with pytest.raises(ValueError, match=r"100288_T0_nodule1.*outside of its slices.*20 columns"):
        outside.load_image(outside)
    with pytest.raises(ValueError, match=r"T1_nodule1: 0 slices of .* have InstanceNumber 11"):
        beyond.load_image(beyond)


def test_wrong_options(tmp_path):
    root = nlst(tmp_path)
    with pytest.raises(ValueError, match=r"no option 'test_flod'; .*Did you mean test_fold\?"):
        NLST.read(root, test_flod=1)
    with pytest.raises(ValueError, match="test_fold=5 is no fold; there are 0 to 4"):
        NLST.read(root, test_fold=5)
    for extent in ([48, 96], [48, 96, 0], 48):
        with pytest.raises(ValueError, match=r"extent=.* must be three lengths in mm"):
            NLST.read(root, extent=extent)
