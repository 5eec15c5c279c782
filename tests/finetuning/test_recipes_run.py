"""The recipes of benchmarks, run on small copies of their data sets as they are downloaded."""

import csv
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from accelerate import Accelerator
from transformers import AutoModelForImageClassification, AutoModelForSemanticSegmentation

import labelled_miniatures_classification as classification
import labelled_miniatures_segmentation as segmentation
from layout_miniatures import chestxray14
from unimiss_hf.data.labelled.btcv import ORGANS
from unimiss_hf.data.labelled.chestxray14 import FINDINGS
from unimiss_hf.data.labelled.totalsegmentator_classes import ALL_2
from unimiss_hf.finetuning import (
    EvaluationSettings,
    FinetuningSettings,
    evaluate_model,
    run_finetuning,
)
from unimiss_hf.training.recipes import read_recipe

RECIPES = Path(__file__).parents[2] / "recipes"
SPLITS = ("train", "val", "test")
SQUARE = {"image_size": {"height": 32, "width": 32}}
SMALL = {
    "max_steps": 2,
    "epochs": None,
    "validate_every": 1,
    "batch_size": 2,
    "bootstrap": 20,
    "num_workers": 0,
    "figures": False,
}
"""What every run has in place of its recipe's."""

pytestmark = pytest.mark.filterwarnings("ignore:.*has modality MR")


def nodules(folder: Path) -> Path:
    """Three malignant and three benign nodules, of as many participants, one of each in fold 0."""
    people = {(str(100288 + index), 0): f"1.2.840.113654.2.55.1{index}" for index in range(6)}
    box = (5.0, 8.0, 3.0, 5.0)
    rows = [
        [index // 2, person, year, "BM"[index % 2], uid, "(129, 129, 41)", 1.0, 3.0 + index, *box]
        for index, ((person, year), uid) in enumerate(people.items())
    ]
    return classification.nlst(folder, rows, people)


@dataclass(frozen=True)
class Run:
    """A recipe's run on a small copy.

    Attributes:
        miniature: makes the copy in a folder.
        classes: that the model is to have.
        changes: settings that replace the recipe's.
        processor: settings that replace those of the recipe's processor.
        options: likewise of its reader.
    """

    miniature: Callable[[Path], Path]
    classes: tuple[str, ...]
    changes: Mapping = field(default_factory=dict)
    processor: Mapping = field(default_factory=dict)
    options: Mapping = field(default_factory=dict)

    def settings(self, name: str, folder: Path, model: Path) -> FinetuningSettings:
        recipe = read_recipe(RECIPES / f"finetune_{name}.yaml", FinetuningSettings)
        recipe["processor"] |= self.processor
        if self.options:
            recipe["layout_options"] = recipe.get("layout_options", {}) | self.options
        paths = {
            "model": str(model),
            "output": str(folder / "run"),
            "dataset": str(self.miniature(folder)),
        }
        return FinetuningSettings(**recipe | SMALL | self.changes | paths)


PATCH = {"patch_size": [4, 32, 32]}
RUNS = {
    "chestxr": Run(
        lambda folder: classification.chestxr(folder, more=1),
        ("normal", "pneumonia", "covid"),
        {"figures": True},
        SQUARE,
    ),
    "chestxray14": Run(
        lambda folder: chestxray14(folder, FINDINGS), FINDINGS, {"validation_fraction": 0.5}, SQUARE
    ),
    "ricord": Run(
        lambda folder: classification.ricord(folder, more=2),
        ("negative", "positive"),
        options={"resized": [8, 32, 32]},
    ),
    "nlst": Run(
        nodules,
        ("benign", "malignant"),
        processor={"volume_size": {"depth": 8, "height": 32, "width": 32}},
    ),
    "jsrt": Run(
        lambda folder: classification.jsrt(folder, ("JPCLN001", "JPCNN002", "JPCNN003")),
        ("heart", "lung", "clavicle"),
        processor=SQUARE,
    ),
    "btcv": Run(lambda folder: segmentation.btcv(folder, times=2), ("background", *ORGANS), PATCH),
    "chaos": Run(
        lambda folder: segmentation.chaos(folder, mrs=3, times=4),
        ("background", "liver", "right kidney", "left kidney", "spleen"),
        {**PATCH, "folds": 3},
    ),
    "mmwhs": Run(
        lambda folder: segmentation.mmwhs(folder, cts=3, times=3),
        (
            "background",
            "left ventricle",
            "right ventricle",
            "left atrium",
            "right atrium",
            "left ventricular myocardium",
            "ascending aorta",
            "pulmonary artery",
        ),
        {"patch_size": [16, 32, 32]},
    ),
    "msd": Run(
        lambda folder: segmentation.decathlon(folder, cases=3, times=2),
        ("background", "spleen", "cyst"),
        {**PATCH, "folds": 3},
    ),
    "msd_spleen": Run(
        lambda folder: segmentation.decathlon(folder, cases=3, times=2),
        ("background", "spleen", "cyst"),
        {**PATCH, "folds": 3},
    ),
    "totalsegmentator": Run(
        lambda folder: segmentation.totalsegmentator(folder, ALL_2, shape=(6, 7, 7), times=3),
        ("background", *ALL_2),
        {"patch_size": [16, 32, 32]},
    ),
    "nnunet": Run(
        lambda folder: segmentation.nnunet(folder, times=2),
        ("background", "liver", "tumour"),
        {**PATCH, "figures": True},
    ),
}


def numbers_in(content) -> list[float]:
    """All numbers of what was read from JSON."""
    if isinstance(content, dict):
        content = list(content.values())
    if isinstance(content, list):
        return [number for each in content for number in numbers_in(each)]
    return [content] if isinstance(content, int | float) else []


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def require_scores(folder: Path, classes: tuple[str, ...], is_segmentation: bool) -> dict:
    """Check what a finished run has left, and return its scores."""
    scores = json.loads((folder / "results.json").read_text())["scores"]
    assert all(math.isfinite(number) for number in numbers_in(scores))
    foreground = [name for name in classes if name != "background"]
    rows = rows_of(folder / "cases.csv")
    if is_segmentation:
        assert list(scores["dice"]["per_class"]) == foreground
        assert 0 <= scores["dice"]["mean"] <= 1
        assert {row["class"] for row in rows} == set(foreground)
    else:
        assert list(scores["per_class"]) == foreground
        assert 0 <= scores["auroc"] <= 1
        assert all(0 <= float(row[f"score/{name}"]) <= 1 for row in rows for name in classes)
    kind = AutoModelForSemanticSegmentation if is_segmentation else AutoModelForImageClassification
    model = kind.from_pretrained(folder / "model")
    assert list(model.config.id2label.values()) == list(classes)
    return scores


def evaluated(settings: FinetuningSettings, folder: Path, **options) -> dict:
    """What scoring the model of a finished run finds, as JSON has it."""
    evaluation = evaluate_model(
        EvaluationSettings(
            model=str(folder / "model"),
            dataset=settings.dataset,
            output=str(folder / "again"),
            mirror=settings.mirror,
            bootstrap=settings.bootstrap,
            **options,
        ),
        Accelerator(),
    )
    return json.loads(json.dumps(evaluation.scores.summary))


@pytest.mark.parametrize("name", RUNS)
def test_a_recipe_runs_from_the_download_to_its_scores(name, tmp_path, checkpoint):
    run = RUNS[name]
    settings = run.settings(name, tmp_path, checkpoint)
    result = run_finetuning(settings).result
    assert result.finished and result.step == 2
    output = Path(settings.output)
    all_folds = settings.folds is not None and settings.fold is None
    folders = [output / f"fold-{n}" for n in range(settings.folds)] if all_folds else [output]
    scores = [require_scores(each, run.classes, settings.best_metric == "dice") for each in folders]
    assert evaluated(settings, folders[-1]) == scores[-1]
    if all_folds:
        tested = [{row["case"] for row in rows_of(each / "cases.csv")} for each in folders]
        assert [len(cases) for cases in tested] == [1] * 3 and len(set.union(*tested)) == 3
        mean = json.loads((output / "results.json").read_text())["scores"]["mean Dice"]
        assert list(mean["folds"].values()) == [each["dice"]["mean"] for each in scores]
    drawn = {path.name for path in output.rglob("*.png")}
    assert ("curves.png" in drawn, len(drawn) > 1) == (settings.figures, settings.figures)


def test_ricord_runs_on_the_published_split(tmp_path, checkpoint):
    """Lists of series are files of this machine: no model keeps them, and scoring asks for them."""
    names = [
        f"data_nii_v0/MIDRC-RICORD-1{letter}/ID{letter}-{index:06d}_date01-02-2004_"
        f"2.000000-NA-7000{index}.nii.gz {int(letter == 'A')}"
        for index in range(3)
        for letter in "AB"
    ]
    lists = {f"RICORD_{split}.txt": names[2 * n : 2 * n + 2] for n, split in enumerate(SPLITS)}
    place = str(classification.ricord_lists(tmp_path, lists))
    options = {"resized": [8, 32, 32], "lists": place}
    run = Run(
        lambda folder: classification.ricord(folder, more=3),
        ("negative", "positive"),
        {},
        {},
        options,
    )
    settings = run.settings("ricord", tmp_path, checkpoint)
    run_finetuning(settings)
    folder = Path(settings.output)
    scores = require_scores(folder, run.classes, is_segmentation=False)
    assert {row["patient"] for row in rows_of(folder / "cases.csv")} == {"A-000002", "B-000002"}
    assert not any(place in path.read_text() for path in (folder / "model").glob("*.json"))
    with pytest.raises(ValueError, match=r"the options \['lists'\] .*give them again"):
        evaluated(settings, folder)
    assert evaluated(settings, folder, layout_options=options) == scores
