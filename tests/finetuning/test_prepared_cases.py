"""Cases on the disk as training reads them: made once, and right."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from finetuning_miniatures import PROCESSOR, body, findings, organ_shadows, organ_volumes
from unimiss_hf import MiTImageProcessor
from unimiss_hf.data.labelled.catalog import find_labelled_layout
from unimiss_hf.data.labelled.label_bits import unpack_masks
from unimiss_hf.finetuning.prepared_cases import CaseCache, require_every_class


def open_cases(root, folder, **settings):
    layout = find_labelled_layout(root)
    data = layout.read(root)
    processor = MiTImageProcessor(**PROCESSOR | settings)
    return CaseCache(folder, processor, data, layout.task == "segmentation"), data.cases


def files_of(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def rewrite(path: Path, change) -> None:
    """Change a volume's voxels."""
    image = nibabel.load(path)
    voxels = change(np.asarray(image.dataobj).copy())
    nibabel.save(nibabel.Nifti1Image(voxels, image.affine), path)


@pytest.fixture
def volumes(tmp_path):
    return organ_volumes(tmp_path, train=3, test=0)


@pytest.mark.parametrize("settings", [{}, {"spacing": [3.0, 2.0, 2.0]}])
def test_arrays_are_what_the_processor_gives(organs, tmp_path, settings):
    cache, cases = open_cases(organs, tmp_path, **settings)
    for prepared, case in zip(cache.prepare(cases[:3]), cases, strict=False):
        batch = cache.processor(
            case.load_image(case), segmentation_maps=case.load_labels(case), return_tensors="np"
        )
        image, labels = prepared.image(), prepared.labels()
        assert prepared.case is case
        assert (image.dtype, labels.dtype) == (np.float16, np.uint8)
        np.testing.assert_array_equal(image, batch["pixel_values"][0].astype(np.float16))
        np.testing.assert_array_equal(labels, batch["labels"][0])
        for number, places in prepared.centres().items():
            assert (labels[tuple(places.T)] == number).all()
            assert len(places) == min(4096, int((labels == number).sum()))
        assert prepared.centres().keys() == {1, 2}


def test_labels_lie_where_the_file_says(organs, tmp_path):
    """Files run in several ways; on their own grid, arrays are as the anatomy was made."""
    cache, cases = open_cases(organs, tmp_path)
    for number, prepared in enumerate(cache.prepare(cases)):
        values, labels = body(number)
        np.testing.assert_array_equal(prepared.labels(), labels)
        # "unit" of the soft tissue window, -150 to 250 HU
        wanted = ((values.clip(-150, 250) + 150) / 400).astype(np.float16)
        np.testing.assert_allclose(prepared.image()[0], wanted, atol=1e-3)


def test_classes_that_overlap_are_kept_as_bits(shadows, tmp_path):
    cache, cases = open_cases(shadows, tmp_path, image_size=None)
    prepared = cache.prepare(cases[:1])[0]
    packed = torch.from_numpy(np.array(prepared.labels()))
    masks = unpack_masks(packed[None], 5)[0].numpy()
    assert masks.sum(0).max() == 2
    for number, places in prepared.centres().items():
        assert (masks[(number, *places.T)] == 1).all()
        assert len(places) == masks[number].sum()


def test_nothing_is_made_twice(volumes, tmp_path):
    cache, cases = open_cases(volumes, tmp_path / "cache")
    cache.prepare(cases)
    before = files_of(tmp_path / "cache")
    assert len(before) == 3 * len(cases)
    again, cases = open_cases(volumes, tmp_path / "cache")
    again.prepare(cases)
    assert files_of(tmp_path / "cache") == before


@pytest.mark.parametrize("kind", ["imagesTr/case_01_0000", "labelsTr/case_01"])
def test_a_case_whose_file_has_changed_is_made_anew(volumes, tmp_path, kind):
    cache, cases = open_cases(volumes, tmp_path / "cache")
    before = cache.prepare(cases)
    image, labels = (np.array(array) for array in (before[1].image(), before[1].labels()))
    path = volumes / f"{kind}.nii.gz"
    rewrite(path, lambda voxels: voxels[::-1])
    os.utime(path, ns=(1, 1))
    after = cache.prepare(cases)
    assert [a.folder == b.folder for a, b in zip(before, after, strict=True)] == [True, False, True]
    assert not (
        np.array_equal(after[1].image(), image) and np.array_equal(after[1].labels(), labels)
    )


def test_another_processor_has_a_place_of_its_own(volumes, tmp_path):
    cache, cases = open_cases(volumes, tmp_path / "cache")
    other, _ = open_cases(volumes, tmp_path / "cache", window="lung")
    first, second = cache.prepare(cases[:1])[0], other.prepare(cases[:1])[0]
    assert first.folder.parent != second.folder.parent
    assert not np.array_equal(first.image(), second.image())


def test_data_that_were_moved_are_made_anew_and_right(volumes, tmp_path):
    cache, cases = open_cases(volumes, tmp_path / "cache")
    before = np.array(cache.prepare(cases)[0].image())
    moved = shutil.copytree(volumes, tmp_path / "elsewhere" / volumes.name)
    cache, cases = open_cases(moved, tmp_path / "cache")
    np.testing.assert_array_equal(cache.prepare(cases)[0].image(), before)


def test_several_processes_make_the_same(volumes, tmp_path):
    alone, cases = open_cases(volumes, tmp_path / "alone")
    together, _ = open_cases(volumes, tmp_path / "together")
    told = []
    found = together.prepare(cases, num_workers=2, tell=told.append)
    assert told == [1, 2, 3]
    for one, other in zip(alone.prepare(cases), found, strict=True):
        for name in ("image.npy", "labels.npy", "foreground.npy"):
            np.testing.assert_array_equal(np.load(one.folder / name), np.load(other.folder / name))


def test_all_bad_cases_are_named(volumes, tmp_path):
    rewrite(
        volumes / "labelsTr" / "case_00.nii.gz", lambda labels: np.where(labels == 2, 7, labels)
    )
    shifted = volumes / "labelsTr" / "case_01.nii.gz"
    labels = nibabel.load(shifted)
    affine = labels.affine + np.array([[0, 0, 0, 40.0], *[[0.0] * 4] * 3])
    nibabel.save(nibabel.Nifti1Image(np.asarray(labels.dataobj), affine), shifted)
    cache, cases = open_cases(volumes, tmp_path / "cache")
    with pytest.raises(ValueError, match="2 of 3 cases cannot be prepared") as error:
        cache.prepare(cases)
    told = str(error.value)
    assert "imagesTr/case_00: " in told and "7" in told.partition("case_00: ")[2]
    assert "imagesTr/case_01: " in told and "does not lie where" in told
    assert "imagesTr/case_02" not in told
    # What was good is kept, and nothing half made.
    assert len(files_of(tmp_path / "cache")) == 3
    assert not list(cache.folder.glob(".*"))


def test_labels_that_are_no_classes(volumes, tmp_path):
    """Readers of other data sets hand labels on as they are."""
    cache, cases = open_cases(volumes, tmp_path / "cache")
    cache.data = replace(cache.data, class_names=("background", "liver"))
    told = r"the label map of imagesTr/case_00 holds \[2\], but there are the classes 0 to 1 \(back"
    with pytest.raises(ValueError, match=told):
        cache.prepare(cases)


def test_a_long_list_of_errors_is_cut(tmp_path):
    root = findings(tmp_path, train=5)
    for path in root.rglob("*.png"):
        path.write_bytes(b"no picture")
    cache, cases = open_cases(root, tmp_path / "cache")
    with pytest.raises(ValueError, match=r"(?s)27 of 27 cases .*and 17 more$") as error:
        cache.prepare(cases)
    assert str(error.value).count("\n") == 11


def test_values_beyond_float16_are_refused(volumes, tmp_path):
    cache, cases = open_cases(volumes, tmp_path, scaling=[0, 0.001])
    told = r"case_00: prepared values reach 250000, and float16, .*Choose a window and scaling"
    with pytest.raises(ValueError, match=told):
        cache.prepare(cases)


def test_a_folder_that_cannot_be_written(volumes, tmp_path):
    (tmp_path / "file").touch()
    cache, cases = open_cases(volumes, tmp_path / "file")
    with pytest.raises(OSError, match="file"):
        cache.prepare(cases)


def test_ignored_voxels_are_no_class(tmp_path):
    root = organ_volumes(tmp_path, train=1, test=0)
    text = (root / "dataset.json").read_text()
    (root / "dataset.json").write_text(text.replace('"tumour": 2', '"tumour": 2, "ignore": 3'))
    rewrite(root / "labelsTr" / "case_00.nii.gz", lambda labels: np.where(labels == 2, 3, labels))
    cache, cases = open_cases(root, tmp_path / "cache")
    prepared = cache.prepare(cases)
    assert set(np.unique(prepared[0].labels())) == {0, 1, 255}
    assert prepared[0].centres().keys() == {1}
    told = "None of the 1 training cases has a voxel of tumour. A class that is never seen"
    with pytest.raises(ValueError, match=told):
        require_every_class(prepared, cache.data)


def test_a_structure_without_a_pixel(tmp_path):
    root = organ_shadows(tmp_path)
    cache, cases = open_cases(root, tmp_path / "cache")
    require_every_class(cache.prepare(cases), cache.data)
    for path in (root / "masks" / "aorta").iterdir():
        Image.new("L", (40, 36)).save(path)
        os.utime(path, ns=(1, 1))
    with pytest.raises(ValueError, match="has a voxel of aorta"):
        require_every_class(cache.prepare(cases), cache.data)
