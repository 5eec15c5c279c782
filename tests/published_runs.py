"""A finished run's folder in miniature, with everything in it that must not be published."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from small_pyramid import SMALLEST_PYRAMID
from unimiss_hf import MiTConfig, MiTForSemanticSegmentation, MiTImageProcessor
from unimiss_hf.hub.plain_card import plain_card

CLASSES = {0: "background", 1: "liver", 2: "spleen"}
RESULTS = {
    "unimiss_hf": "0.1.0",
    "model": "run",
    "data": {"layout": "nnunet", "title": "nnU-Net's raw format", "options": {}, "part": "test"},
    "task": "segmentation",
    "dimension": "3d",
    "scores": {
        "cases": 1,
        "dice": {
            "mean": 0.75,
            "classes_counted": 2,
            "per_class": {
                name: {"mean": value, "std": 0.0, "cases": 1, "undefined": ["patient_0815"]}
                for name, value in (("liver", 0.8), ("spleen", 0.7))
            },
        },
    },
}


def finished_run(folder: Path) -> Path:
    """Write a run's folder, as fine-tuning leaves it.

    Returns:
        The folder.
    """
    torch.manual_seed(0)
    config = MiTConfig(
        **SMALLEST_PYRAMID,
        num_labels=len(CLASSES),
        id2label=CLASSES,
        label2id={name: number for number, name in CLASSES.items()},
        trained_axes=3,
        deep_supervision=False,
    )
    model = folder / "model"
    MiTForSemanticSegmentation(config).save_pretrained(model)
    MiTImageProcessor(spacing=(3, 2, 2)).save_pretrained(model)
    (model / "README.md").write_text(plain_card(MiTConfig.from_pretrained(model)))
    (model / "finetuning.json").write_text('{"layout": "nnunet"}\n')
    (folder / "results.json").write_text(json.dumps(RESULTS))
    (folder / "log.jsonl").write_text('{"step": 0, "loss": 1.5}\n{"step": 1, "loss": 1.25}\n')
    noise = np.random.default_rng(0).integers(0, 255, (160, 160, 3), dtype=np.uint8)
    (folder / "figures").mkdir()
    pictures = ("curves.png", "features.png", "figures/roc.png", "figures/patient_0815.png")
    for turned, name in enumerate(pictures):
        Image.fromarray(np.rot90(noise, turned)).save(folder / name)
    # What stays.
    (folder / "cases.csv").write_text("case,dice\npatient_0815,0.75\n")
    (folder / "results_before_training_cases.csv").write_text("case,dice\npatient_0815,0.1\n")
    (folder / "settings.yaml").write_text("dataset: /home/doctor/data\n")
    for name in ("checkpoints/step-00000002/training_state/state.pt", "prepared/0.npy"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(b"state")
    return folder
