"""A data set's folder as the data of a run."""

from dataclasses import replace

import pytest

from unimiss_hf.data.labelled.catalog import LABELLED_LAYOUTS
from unimiss_hf.data.labelled.chestxr import CHESTXR
from unimiss_hf.finetuning.task_data import check_mirror, open_task_data


def test_what_a_task_is_follows_from_its_data(settings, of_images, of_shadows):
    volumes, images, shadows = (
        open_task_data(make()) for make in (settings, of_images, of_shadows)
    )
    assert (volumes.num_axes, volumes.is_segmentation, volumes.is_multi_label) == (3, True, False)
    assert (images.num_axes, images.is_segmentation, images.is_multi_label) == (2, False, False)
    assert (shadows.num_axes, shadows.is_segmentation, shadows.is_multi_label) == (2, True, True)


def test_settings_say_how_it_is_split(settings):
    whole = open_task_data(settings(validation_fraction=0.5)).split
    assert [len(part) for part in (whole.train, whole.validation, whole.test)] == [3, 3, 2]
    other = open_task_data(settings(validation_fraction=0.5, split_seed=1)).split
    assert other.validation != whole.validation and other.test == whole.test
    part = open_task_data(settings(validation_fraction=0.5, label_fraction=0.4)).split
    assert len(part.train) == 1 and part.validation == whole.validation
    fold = open_task_data(settings(folds=3, fold=2)).split
    assert len(fold.test) == 2 and not {c.name for c in fold.test} & {c.name for c in whole.test}


def test_cases_of_both_dimensions_are_no_task(of_images, monkeypatch):
    def read(folder, **options):
        data = CHESTXR.read(folder, **options)
        first = replace(data.cases[0], dimension="3d")
        return replace(data, cases=(first, *data.cases[1:]))

    layout = replace(CHESTXR, name="mixed", read=read, recognise=lambda folder: True)
    monkeypatch.setitem(LABELLED_LAYOUTS, "mixed", layout)
    with pytest.raises(ValueError, match="has cases of 2d and 3d; a task is of one"):
        open_task_data(of_images(layout="mixed"))


def test_options_of_a_reader(of_images):
    task = open_task_data(of_images(layout_options={"test_split": "validation"}))
    assert {case.name.split("/")[0] for case in task.split.test} == {"validation"}
    with pytest.raises(ValueError, match=r"ChestXR has no option 'test_splits'; .*Did you mean"):
        open_task_data(of_images(layout_options={"test_splits": "validation"}))


def test_axes_that_can_be_mirrored(settings, of_images):
    check_mirror([0, 2], open_task_data(settings()))
    check_mirror([], open_task_data(of_images()))
    with pytest.raises(ValueError, match=r"mirror is \[-1\]; 3D cases have the axes"):
        check_mirror([-1], open_task_data(settings()))
