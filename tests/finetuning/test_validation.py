"""Numbers of a validation, held against those worked by hand from the same predictions."""

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from sklearn.metrics import roc_auc_score

from unimiss_hf.finetuning import Finetuner
from unimiss_hf.finetuning.prediction import classify, native_grid, segment
from unimiss_hf.finetuning.prepared_cases import CaseCache
from unimiss_hf.finetuning.validation import validate


def prepared_by(finetuner):
    cache = CaseCache(
        finetuner.settings.cache_folder,
        finetuner.processor,
        finetuner.task.data,
        finetuner.task.is_segmentation,
    )
    return cache.prepare(finetuner.task.split.test)


def open_run(settings):
    finetuner = Finetuner(settings)
    finetuner.folder.release()
    return finetuner, finetuner.state.model, prepared_by(finetuner)


def image_of(case):
    return torch.from_numpy(case.image().astype(np.float32))[None]


def test_dice_of_volumes(settings):
    finetuner, model, cases = open_run(settings())
    found = validate(model, cases, finetuner.task, finetuner.windows, Accelerator())
    assert model.training, "the mode is as it was"
    model.eval()
    dice = {1: [], 2: []}
    for case in cases:
        image = image_of(case)
        predicted = segment(model, image, native_grid(image.shape[2:]), finetuner.windows)
        for number, values in dice.items():
            mask, wanted = predicted == number, np.array(case.labels()) == number
            if mask.any() or wanted.any():
                values.append(2 * (mask & wanted).sum() / (mask.sum() + wanted.sum()))
    assert found["validation/dice/liver"] == pytest.approx(np.mean(dice[1]))
    assert found["validation/dice/tumour"] == pytest.approx(np.mean(dice[2]))
    assert found["validation/dice"] == pytest.approx(np.mean([np.mean(v) for v in dice.values()]))


def test_dice_of_shadows_that_overlap(of_shadows):
    finetuner, model, cases = open_run(of_shadows())
    found = validate(model, cases, finetuner.task, finetuner.windows, Accelerator())
    model.eval()
    values = []
    for case in cases:
        image = image_of(case)
        masks = segment(model, image, native_grid(image.shape[2:]), finetuner.windows)
        wanted = np.array(case.labels()) >> 1 & 1 == 1
        values.append(2 * (masks[1] & wanted).sum() / (masks[1].sum() + wanted.sum()))
    assert found["validation/dice/heart"] == pytest.approx(np.mean(values))


def test_auroc_of_radiographs(of_images):
    finetuner, model, cases = open_run(of_images())
    found = validate(model, cases, finetuner.task, finetuner.windows, Accelerator())
    model.eval()
    scores = torch.stack([classify(model, image_of(case)) for case in cases]).numpy()
    targets = [case.case.target for case in cases]
    wanted = roc_auc_score(targets, scores, multi_class="ovr")
    assert found["validation/auroc"] == pytest.approx(wanted)
    assert found["validation/accuracy"] == np.mean(scores.argmax(1) == targets)


def test_validation_cases_that_lack_a_class(of_images):
    finetuner, model, cases = open_run(of_images())
    without = [case for case in cases if case.case.target != 2]
    with pytest.raises(ValueError, match="covid"):
        validate(model, without, finetuner.task, finetuner.windows, Accelerator())
    assert model.training
