"""A run of fine-tuning: that it learns, goes on exactly, and leaves what it promises."""

import json
import math
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from PIL import Image
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoModelForImageClassification, AutoModelForSemanticSegmentation

import finetuning_miniatures
from unimiss_hf import MiTImageProcessor
from unimiss_hf.data.labelled.case import LabelledCase, LabelledData, LabelledLayout
from unimiss_hf.data.labelled.catalog import LABELLED_LAYOUTS
from unimiss_hf.data.labelled.chestxr import CHESTXR
from unimiss_hf.finetuning import Finetuner, NonFiniteLossError, run_finetuning
from unimiss_hf.finetuning.schedule import learning_rate_at
from unimiss_hf.training.run_log import RunLog

# What a line of the log tells of the clock, which no two runs share.
TIMES = ("seconds", "data_wait")


def log_of(folder) -> list[dict]:
    return RunLog(Path(folder) / "log.jsonl").read()


def without_times(lines):
    return [{k: v for k, v in line.items() if k not in TIMES} for line in lines]


def weights_of(folder) -> dict[str, torch.Tensor]:
    newest = sorted(Path(folder, "checkpoints").glob("step-*"))[-1]
    inner = newest / "training_state" / "auxiliary_heads.safetensors"
    return load_file(newest / "model.safetensors") | load_file(inner)


def terminate_when(condition) -> threading.Thread:
    """Send this process SIGTERM, as a batch system does, once a condition holds."""

    def wait():
        for _ in range(6000):
            if condition():
                os.kill(os.getpid(), signal.SIGTERM)
                return
            time.sleep(0.005)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def labelled_by(problem_type, class_names, targets) -> LabelledLayout:
    """A layout of a user's own: the radiographs of ChestXR with values or findings."""

    def read(folder):
        images = sorted(folder.rglob("*.png"))
        splits = ["train"] * 6 + ["validation"] * 3 + ["test"] * 3
        cases = [
            LabelledCase(f"film-{index}", "2d", (path,), split, target=targets(index))
            for index, (path, split) in enumerate(zip(images, splits, strict=False))
        ]
        return LabelledData(class_names, tuple(cases), problem_type)

    return replace(CHESTXR, name="own", recognise=lambda folder: True, read=read)


# ------------------------------------------------------------------------------- learning


def test_volumes_are_learnt(settings):
    run = settings(max_steps=30, validate_every=30, learning_rate=0.03, augment=False)
    result = Finetuner(run).run()
    assert result.finished and not result.stopped_early and result.step == 30
    losses = [line["loss"] for line in log_of(result.output)]
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])
    assert log_of(result.output)[-1]["validation/dice/liver"] > 0.7


def test_radiographs_are_learnt(of_images):
    run = of_images(max_steps=30, validate_every=30, batch_size=9, augment=False)
    result = Finetuner(run).run()
    losses = [line["loss"] for line in log_of(result.output)]
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])
    assert result.best_value > 0.95


def test_shadows_that_overlap_are_learnt(of_shadows):
    result = Finetuner(of_shadows(max_steps=12, validate_every=12)).run()
    lines = log_of(result.output)
    assert np.mean([line["loss"] for line in lines[-4:]]) < np.mean(
        [line["loss"] for line in lines[:4]]
    )
    names = {name for name in lines[-1] if name.startswith("validation/dice/")}
    assert names == {f"validation/dice/{n}" for n in ("lungs", "heart", "aorta", "spine", "liver")}


@pytest.mark.parametrize(
    ("problem_type", "class_names", "targets", "metric"),
    [
        ("regression", ("age",), lambda index: (float(index) / 10,), "mean_absolute_error"),
        (
            "multi_label_classification",
            ("effusion", "mass"),
            lambda index: (float(index % 2), float(index % 3 > 0)),
            "auroc",
        ),
    ],
)
def test_values_and_findings(of_images, monkeypatch, problem_type, class_names, targets, metric):
    layout = labelled_by(problem_type, class_names, targets)
    monkeypatch.setitem(LABELLED_LAYOUTS, "own", layout)
    result = Finetuner(of_images(layout="own", max_steps=2, validate_every=2)).run()
    last = log_of(result.output)[-1]
    assert result.best_value == last[f"validation/{metric}"]
    model = AutoModelForImageClassification.from_pretrained(result.model)
    assert model.config.problem_type == problem_type
    assert list(model.config.id2label.values()) == list(class_names)


def test_a_line_of_the_log(settings):
    run = settings(accumulation=2, max_steps=4, validate_every=2, warmup_fraction=0.5)
    lines = log_of(Finetuner(run).run().output)
    assert [line["step"] for line in lines] == [0, 1, 2, 3]
    for line in lines:
        assert line["learning_rate"] == learning_rate_at(line["step"], 4, 0.01, 0.5, 0.9)
        assert line["samples"] == 4
        assert math.isfinite(line["gradient_norm"]) and line["gradient_norm"] > 0
        assert ("validation/dice" in line) == (line["step"] in (1, 3))
    assert {"validation/dice/liver", "validation/dice/tumour"} <= lines[1].keys()


def test_each_layer_learns_at_its_own_rate(of_images, checkpoint):
    run = of_images(
        max_steps=1, validate_every=1, layer_decay=0.5, weight_decay=0.0, warmup_fraction=0.0
    )
    after = weights_of(Finetuner(run).run().output)
    before = load_file(checkpoint / "model.safetensors")
    # The first step of AdamW moves a weight by the learning rate, whatever its gradient. Of the
    # stem, six layers lie below the head, and of the last block one.
    for prefix, factor in (("encoder.stem.", 0.5**6), ("encoder.stages.3.layers.0.", 0.5)):
        moved = max(
            float((after[name] - before[name]).abs().max())
            for name in before
            if name.startswith(prefix)
        )
        assert moved == pytest.approx(0.01 * factor, rel=0.01), prefix


def test_what_is_frozen_is_as_it_was_pretrained(settings, checkpoint):
    after = weights_of(Finetuner(settings(max_steps=2, freeze="encoder")).run().output)
    before = load_file(checkpoint / "model.safetensors")
    for part, stays in (("encoder.", True), ("decoder.", False)):
        names = [name for name in after if name.startswith(part)]
        assert all(torch.equal(after[name], before[name]) for name in names) == stays


def test_epochs_are_rounds_over_patches(of_images):
    # 9 cases, twice each, in batches of 3 x 2: 3 steps an epoch
    run = of_images(max_steps=None, epochs=5, patches_per_case=2, accumulation=2)
    finetuner = Finetuner(run)
    assert finetuner.total_steps == 15
    finetuner.folder.release()


def test_small_batches_that_add_up_are_a_large_one(settings):
    exact = {"augment": False, "max_steps": 1, "validate_every": 1, "gradient_clip": None}
    large = log_of(Finetuner(settings(batch_size=4, **exact)).run().output)
    small = settings(batch_size=2, accumulation=2, output=settings().output + "-small", **exact)
    found = log_of(Finetuner(small).run().output)
    # Dice is of a batch as a whole, so that the loss is nearly, not quite, the same.
    assert found[0]["loss"] == pytest.approx(large[0]["loss"], rel=0.05)


def test_of_a_classification_they_are_the_same(of_images):
    exact = {"augment": False, "max_steps": 1, "validate_every": 1}
    large = log_of(Finetuner(of_images(batch_size=6, **exact)).run().output)[0]
    small = of_images(batch_size=3, accumulation=2, output=of_images().output + "-small", **exact)
    found = log_of(Finetuner(small).run().output)[0]
    assert found["loss"] == pytest.approx(large["loss"], rel=1e-5)
    assert found["gradient_norm"] == pytest.approx(large["gradient_norm"], rel=1e-4)


# ------------------------------------------------------------------------------- going on


@pytest.mark.parametrize("kind", ["volumes", "images"])
def test_a_stopped_run_continues_bit_for_bit(settings, of_images, tmp_path, kind):
    make = settings if kind == "volumes" else of_images
    changes = {"max_steps": 8, "validate_every": 5, "drop_path_rate": 0.2, "dropout": 0.3}
    whole = Finetuner(make(output=str(tmp_path / "whole"), **changes)).run()

    run = make(output=str(tmp_path / "stopped"), **changes)
    log = tmp_path / "stopped" / "log.jsonl"
    finetuner = Finetuner(run)
    thread = terminate_when(lambda: log.exists() and log.read_text().count("\n") >= 3)
    stopped = finetuner.run()
    thread.join()
    assert not stopped.finished and 3 <= stopped.step < 8
    assert not stopped.model.exists()
    continued = Finetuner(run)
    assert continued.state.step == stopped.step
    assert continued.run().finished

    assert without_times(log_of(run.output)) == without_times(log_of(whole.output))
    for name, tensor in weights_of(whole.output).items():
        assert torch.equal(tensor, weights_of(run.output)[name]), name


def test_a_finished_run_is_left_as_it_is(settings):
    first = Finetuner(settings(max_steps=2)).run()
    before = (first.output / "log.jsonl").read_bytes()
    assert Finetuner(settings(max_steps=2)).run().finished
    assert (first.output / "log.jsonl").read_bytes() == before


def test_a_run_with_other_settings_is_refused(settings):
    Finetuner(settings(max_steps=2)).run()
    told = (
        r"belongs to a run with other settings: learning_rate was 0\.01 and is now 0\.02\. Give the"
        r" old settings"
    )
    with pytest.raises(ValueError, match=told):
        Finetuner(settings(max_steps=2, learning_rate=0.02))
    with pytest.raises(ValueError, match="already holds a run"):
        Finetuner(settings(max_steps=2, resume="never"))
    # What changes nothing that is computed may change, and nothing keeps the folder locked.
    again = Finetuner(settings(max_steps=2, log_every=5, num_workers=1))
    assert again.state.step == 2
    again.folder.release()


def test_bfloat16_trains_and_is_another_run(settings):
    run = settings(max_steps=3)
    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        result = Finetuner(run, Accelerator(mixed_precision="bf16")).run()
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
    assert result.finished
    assert all(math.isfinite(line["loss"]) for line in log_of(result.output))
    with pytest.raises(ValueError, match=r"mixed_precision was 'bf16' and is now 'no'"):
        Finetuner(run)


def test_a_tracker_gets_the_numbers(settings):
    run = settings(max_steps=3, log_every=2, report_to=["tensorboard"])
    result = run_finetuning(run).result
    events = EventAccumulator(str(result.output / "unimiss")).Reload()
    # Steps 0 and 2, and the last one is validated.
    lines = log_of(result.output)
    assert [line["step"] for line in lines] == [0, 2]
    for name in ("loss", "learning_rate", "validation/dice"):
        assert [(event.step, event.value) for event in events.Scalars(name)] == [
            (line["step"], pytest.approx(line[name])) for line in lines if name in line
        ]


# ------------------------------------------------------------------------------- the best


def test_validation_alone_chooses_the_best_checkpoint(settings):
    result = Finetuner(settings(max_steps=8, validate_every=2, learning_rate=0.05)).run()
    found = {
        line["step"] + 1: line["validation/dice"]
        for line in log_of(result.output)
        if "validation/dice" in line
    }
    assert list(found) == [2, 4, 6, 8]
    best = max(found, key=lambda step: (found[step], step))
    assert result.best_value == max(found.values())
    assert found[int(result.best.name.removeprefix("step-"))] == found[best]
    assert (
        load_file(result.model / "model.safetensors").keys()
        == load_file(result.best / "model.safetensors").keys()
    )
    for name, tensor in load_file(result.model / "model.safetensors").items():
        assert torch.equal(tensor, load_file(result.best / "model.safetensors")[name])


def test_another_number_chooses_if_it_is_asked_for(settings):
    run = settings(best_metric="dice/liver", best_mode="min", validate_every=2)
    result = Finetuner(run).run()
    values = [
        line["validation/dice/liver"]
        for line in log_of(result.output)
        if "validation/dice/liver" in line
    ]
    assert result.best_value == min(values)


def test_a_number_that_validation_has_not(settings):
    told = r"best_metric is 'dise', and validation has no such number\. It has dice, dice/liver,"
    with pytest.raises(ValueError, match=told):
        Finetuner(settings(best_metric="dise", best_mode="max"))


def test_a_run_stops_early_and_stays_stopped(of_images):
    # With a rate of nearly nothing, no validation is better than the first.
    run = of_images(learning_rate=1e-12, patience=2, max_steps=40, validate_every=2)
    result = Finetuner(run).run()
    assert result.stopped_early and result.finished
    assert result.step == 6
    assert int(result.best.name.removeprefix("step-")) in (2, 4, 6)
    assert result.model.is_dir()
    again = Finetuner(run).run()
    assert again.stopped_early and again.step == 6


# ------------------------------------------------------------------------------- what is left


def test_the_published_checkpoint_opens_everywhere(finished):
    _, outcome = finished
    result = outcome.result
    for folder in (result.model, result.best):
        weights = load_file(folder / "model.safetensors")
        assert not [n for n in weights if n.startswith(("auxiliary_heads", "projection"))]
        assert not [n for n in weights if "prototype" in n]
        model = AutoModelForSemanticSegmentation.from_pretrained(folder)
        assert model.config.deep_supervision is False
        assert model(torch.rand(1, 1, 4, 32, 32)).logits.shape == (1, 3, 4, 32, 32)
        assert MiTImageProcessor.from_pretrained(folder).window == "soft tissue"
    assert not (result.model / "training_state").exists()
    assert (result.best / "training_state" / "state.pt").is_file()


def test_what_is_published_holds_no_path(finished):
    run, outcome = finished
    places = [run.dataset, run.model, run.output, run.cache_folder, str(Path.home())]
    for path in outcome.result.model.iterdir():
        if path.suffix in (".json", ".md"):
            text = path.read_text()
            assert not [place for place in places if place in text], path.name
    card = (outcome.result.model / "README.md").read_text()
    assert "| 1 | liver |" in card and "| 2 | tumour |" in card


def test_the_description_repeats_the_task(finished):
    _, outcome = finished
    description = json.loads((outcome.result.model / "finetuning.json").read_text())
    assert description["layout"] == "nnunet" and description["task"] == "segmentation"
    assert description["window"] == [4, 32, 32]
    assert description["split"]["split_seed"] == 0


# ------------------------------------------------------------------------------- mistakes


def test_a_loss_that_is_not_finite_names_the_cases_and_keeps_the_state_before(
    of_images, monkeypatch
):
    # The square of a value above 1e19 is more than float32 holds.
    layout = labelled_by("regression", ("dose",), lambda index: (1e30 if index == 3 else 0.1,))
    monkeypatch.setitem(LABELLED_LAYOUTS, "own", layout)
    finetuner = Finetuner(of_images(layout="own"))
    with pytest.raises(NonFiniteLossError, match=r"The loss is inf, at step \d,") as error:
        finetuner.run()
    told = str(error.value)
    assert "film-3" in told and "The state before it is saved in" in told
    assert told.count("film-") == 3, "those of the step alone"
    step = finetuner.state.step
    again = Finetuner(of_images(layout="own"))
    assert again.state.step == step
    assert again.state.is_finite()
    again.folder.release()


def test_weights_that_are_not_finite_are_not_saved(of_images):
    finetuner = Finetuner(of_images())
    with torch.no_grad():
        finetuner.state.model.classifier.weight.fill_(math.nan)
    with pytest.raises(NonFiniteLossError, match="weights are not finite either, so they are not"):
        finetuner.run()
    assert not list((finetuner.output / "checkpoints").glob("step-*"))


def test_no_data_set_is_named(settings):
    with pytest.raises(ValueError, match="There is no data to train on"):
        Finetuner(settings(dataset=None))


def test_sizes_of_another_dimension(settings, of_images):
    with pytest.raises(ValueError, match=r"patch_size is \[32, 32\], but cases are 3D; wanted dep"):
        Finetuner(settings(patch_size=[32, 32]))
    with pytest.raises(ValueError, match=r"mirror is \[3\]; 3D cases have the axes \[0, 1, 2\]"):
        Finetuner(settings(mirror=[3]))
    told = r"mirror is \[0\], but only segmentations .* and ChestXR is a classification"
    with pytest.raises(ValueError, match=told):
        Finetuner(of_images(mirror=[0]))


def test_a_class_that_no_training_case_has(settings, tmp_path):
    root = finetuning_miniatures.organ_volumes(tmp_path, train=3, test=1)
    text = (root / "dataset.json").read_text()
    (root / "dataset.json").write_text(text.replace('"tumour": 2', '"tumour": 2, "cyst": 3'))
    told = "None of the 2 training cases has a voxel of cyst"
    with pytest.raises(ValueError, match=told):
        Finetuner(settings(dataset=str(root), cache_folder=None)).run()


def test_cases_that_cannot_be_prepared_are_all_named(of_images, tmp_path):
    root = finetuning_miniatures.findings(tmp_path)
    for name in ("train/covid/covid_0.png", "validation/normal/normal_1.png"):
        (root / name).write_bytes(b"no picture")
    run = of_images(dataset=str(root), cache_folder=None)
    with pytest.raises(ValueError, match="2 of 21 cases cannot be prepared") as error:
        Finetuner(run).run()
    assert "train/covid/covid_0" in str(error.value)
    assert "validation/normal/normal_1" in str(error.value)
    Image.new("L", (32, 32), 250).save(root / "train/covid/covid_0.png")
    Image.new("L", (32, 32), 30).save(root / "validation/normal/normal_1.png")
    assert Finetuner(run).run().finished
