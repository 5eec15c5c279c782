"""ChestX-ray14: findings by its table, splits by its lists."""

import pytest
from PIL import Image

from layout_miniatures import CHESTXRAY_COLUMNS, chestxray14, touch, write_table
from unimiss_hf import MiTImageProcessor
from unimiss_hf.data.labelled.chestxray14 import CHESTXRAY14_FINDINGS, FINDINGS

REST = ["58", "M", "PA", 2682, 2749, 0.143, 0.143, ""]


def labels(folder, rows):
    """Write another table of (image, findings, patient)."""
    lines = [[image, findings, 0, patient, *REST] for image, findings, patient in rows]
    write_table(folder / "Data_Entry_2017.csv", CHESTXRAY_COLUMNS, lines)


def names_of(target):
    return {name for name, value in zip(FINDINGS, target, strict=True) if value}


def test_findings_patients_and_splits(tmp_path):
    data = CHESTXRAY14_FINDINGS.read(chestxray14(tmp_path))
    assert data.problem_type == "multi_label_classification"
    assert data.class_names == FINDINGS and len(set(FINDINGS)) == 14
    assert {
        case.name: (case.split, case.patient, names_of(case.target)) for case in data.cases
    } == {
        "00000001_000": ("train", "00000001", {"Cardiomegaly"}),
        "00000001_001": ("train", "00000001", {"Cardiomegaly", "Emphysema"}),
        "00001336_000": ("test", "00001336", set()),
    }
    assert all(type(value) is float for case in data.cases for value in case.target)
    assert data.problems == ()


def test_processor_takes_every_case(tmp_path):
    processor = MiTImageProcessor(image_size={"height": 32, "width": 32})
    images = [
        case.load_image(case) for case in CHESTXRAY14_FINDINGS.read(chestxray14(tmp_path)).cases
    ]
    assert processor(images, return_tensors="pt")["pixel_values"].shape == (3, 1, 32, 32)


def test_recognised_with_and_without_a_wrapping_folder(tmp_path):
    root = chestxray14(tmp_path)
    assert CHESTXRAY14_FINDINGS.recognise(root) and CHESTXRAY14_FINDINGS.recognise(tmp_path)
    assert len(CHESTXRAY14_FINDINGS.read(tmp_path).cases) == 3
    with pytest.raises(ValueError, match="does not look like ChestX-ray14"):
        CHESTXRAY14_FINDINGS.read(root / "images_001" / "images")


def test_image_without_label_and_listed_image_without_file(tmp_path):
    root = chestxray14(tmp_path)
    images = root / "images_002" / "images"
    (images / "00001336_000.png").unlink()
    Image.new("L", (6, 5)).save(images / "00009999_000.png")
    touch(root / "images_003.tar.gz.part")
    data = CHESTXRAY14_FINDINGS.read(root)
    assert [case.name for case in data.cases] == ["00000001_000", "00000001_001"]
    assert sorted((problem.name, problem.is_missing) for problem in data.problems) == [
        ("00001336_000", True),
        ("00009999_000", True),
        ("images_003.tar.gz.part", True),
    ]
    reasons = {problem.name: problem.reason for problem in data.problems}
    assert "no label" in reasons["00009999_000"]


def test_unknown_finding_names_its_row(tmp_path):
    root = chestxray14(tmp_path)
    labels(root, [("00000001_000.png", "Hernia", 1), ("00000001_001.png", "Mass|Edemma", 1)])
    with pytest.raises(
        ValueError, match=r"csv, line 3, 00000001_001\.png: there is no finding 'Edemma'.*Edema\?"
    ):
        CHESTXRAY14_FINDINGS.read(root)


def test_image_with_two_labels(tmp_path):
    root = chestxray14(tmp_path)
    labels(root, [("00000001_000.png", "Hernia", 1), ("00000001_000.png", "Mass", 1)])
    with pytest.raises(ValueError, match=r"line 3: 00000001_000\.png has other findings"):
        CHESTXRAY14_FINDINGS.read(root)
    labels(root, [("00000001_000.png", "Hernia|No Finding", 1)])
    with pytest.raises(ValueError, match=r"line 2.*names findings and says that there are none"):
        CHESTXRAY14_FINDINGS.read(root)


def test_odd_tables(tmp_path):
    root = chestxray14(tmp_path)
    labels(root, [])
    with pytest.raises(ValueError, match=r"Data_Entry_2017\.csv lists no image"):
        CHESTXRAY14_FINDINGS.read(root)
    other = CHESTXRAY_COLUMNS.replace("Finding Labels", "Findings")
    write_table(root / "Data_Entry_2017.csv", other, [])
    with pytest.raises(ValueError, match=r"Data_Entry_2017\.csv has no column Finding Labels"):
        CHESTXRAY14_FINDINGS.read(root)
    (root / "Data_Entry_2017.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"neither Data_Entry_2017_v2020\.csv nor"):
        CHESTXRAY14_FINDINGS.read(root)


@pytest.mark.parametrize("name", ["train_val_list.txt", "test_list.txt"])
def test_split_needs_both_lists(tmp_path, name):
    root = chestxray14(tmp_path)
    (root / name).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{name} is not there.*Download it"):
        CHESTXRAY14_FINDINGS.read(root)


def test_there_are_no_options(tmp_path):
    with pytest.raises(ValueError, match="ChestX-ray14 has no option 'findings'; it has none"):
        CHESTXRAY14_FINDINGS.read(chestxray14(tmp_path), findings=["Mass"])
