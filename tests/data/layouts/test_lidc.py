"""LIDC-IDRI in the folders that the NBIA Data Retriever makes."""

import numpy as np
import pytest

from dicom_files import write_radiograph
from layout_findings import items, problems
from layout_miniatures import (
    LIDC_RADIOGRAPHS,
    LIDC_SERIES,
    LIDC_UID,
    NBIA_COLUMNS,
    anatomy,
    lidc_idri,
    nbia_row,
    write_table,
)

NAME = "lidc-idri"


def test_series_and_radiographs(tmp_path):
    found = items(NAME, lidc_idri(tmp_path))
    films = [f"{LIDC_RADIOGRAPHS}/1-1", f"{LIDC_RADIOGRAPHS}/1-2"]
    assert list(found) == [LIDC_SERIES, *films]
    assert {item.patient for item in found.values()} == {"LIDC-IDRI-0001"}
    assert {item.split for item in found.values()} == {"train"}
    assert [item.dimension for item in found.values()] == ["3d", "2d", "2d"]
    ct = found[LIDC_SERIES]
    assert [path.name for path in ct.files] == [f"1-{number:03d}.dcm" for number in (1, 2, 3, 4)]
    volume = ct.read()
    np.testing.assert_array_equal(volume.voxels, anatomy(1))
    assert volume.spacing == pytest.approx((2.5, 0.8, 0.7))
    assert found[films[0]].read().pixels.shape == (1, 5, 6)


def test_classic_names_are_uids(tmp_path):
    root = lidc_idri(tmp_path, descriptive=False)
    found = items(NAME, root)
    ct = f"LIDC-IDRI-0001/{LIDC_UID}.2988/{LIDC_UID}.1790"
    assert next(iter(found)).startswith(f"LIDC-IDRI-0001/{LIDC_UID}.1753/")
    np.testing.assert_array_equal(found[ct].read().voxels, anatomy(1))


def test_folder_for_the_date_and_files_without_suffix(tmp_path):
    root = lidc_idri(tmp_path, descriptive=False)
    study = root / "LIDC-IDRI-0001" / f"{LIDC_UID}.2988"
    (study / "01-01-2000").mkdir()
    (study / f"{LIDC_UID}.1790").rename(study / "01-01-2000" / f"{LIDC_UID}.1790")
    place = study / "01-01-2000" / f"{LIDC_UID}.1790"
    for path in place.glob("1-*.dcm"):
        path.rename(path.with_suffix(""))
    found = items(NAME, root)
    ct = found[f"LIDC-IDRI-0001/{LIDC_UID}.2988/01-01-2000/{LIDC_UID}.1790"]
    np.testing.assert_array_equal(ct.read().voxels, anatomy(1))


@pytest.mark.parametrize("separator", ["/", "\\"])
def test_table_tells_what_is_missing(tmp_path, separator):
    root = lidc_idri(tmp_path)
    gone = "LIDC-IDRI-0002/01-01-2000-NA-NA-98329/3000522.000000-NA-04919"
    places = [f"./LIDC-IDRI/{place}" for place in (LIDC_SERIES, LIDC_RADIOGRAPHS, gone)]
    rows = [
        nbia_row(places[0].replace("/", separator), 133),
        nbia_row(places[1].replace("/", separator), 2),
        nbia_row(places[2].replace("/", separator), 261, "LIDC-IDRI-0002"),
        nbia_row("./NSCLC-Radiomics/LUNG1-001/a/b", 9, "LUNG1-001"),
    ]
    write_table(tmp_path / "metadata.csv", NBIA_COLUMNS, rows)
    told = problems(NAME, tmp_path)
    assert told.keys() == {LIDC_SERIES, gone}
    assert told[gone].is_missing
    assert "not there" in told[gone].reason
    assert not told[LIDC_SERIES].is_missing
    assert "4 of the 133 files" in told[LIDC_SERIES].reason
    assert LIDC_SERIES in items(NAME, tmp_path)
    (tmp_path / "metadata.csv").rename(root / "metadata.csv")
    assert problems(NAME, root).keys() == {LIDC_SERIES, gone}


def test_other_table_of_that_name_is_none_of_ours(tmp_path):
    lidc_idri(tmp_path)
    (tmp_path / "metadata.csv").write_text("file_name,text\na.png,b\n")
    assert problems(NAME, tmp_path) == {}


def test_what_is_no_volume_is_told(tmp_path):
    root = lidc_idri(tmp_path)
    series = root / LIDC_SERIES
    for path in series.glob("1-00[234].dcm"):
        path.unlink()
    odd = root / "LIDC-IDRI-0003" / "study" / "odd"
    write_radiograph(odd / "1-1.dcm", np.zeros((4, 4), np.uint16), Modality="US")
    damaged = root / "LIDC-IDRI-0004" / "study" / "damaged"
    damaged.mkdir(parents=True)
    (damaged / "1-1.dcm").write_bytes(b"nothing of use")
    (damaged / "1-2.dcm.part").write_bytes(b"")
    told = problems(NAME, root)
    assert "one CT slice, 1-001.dcm" in told.pop(LIDC_SERIES).reason
    us = told.pop("LIDC-IDRI-0003/study/odd")
    assert "modality US" in us.reason
    assert not us.is_missing
    assert "1-1.dcm is not a DICOM file" in told.pop("LIDC-IDRI-0004/study/damaged").reason
    assert "unfinished" in told.pop("LIDC-IDRI-0004/study/damaged/1-2.dcm.part").reason
    assert not told
    assert {item.dimension for item in items(NAME, root).values()} == {"2d"}
