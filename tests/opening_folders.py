"""What saved folders answer, wherever the code that opens them comes from: package or folder."""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import (
    AutoBackbone,
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageClassification,
    AutoModelForPreTraining,
    AutoModelForSemanticSegmentation,
    pipeline,
)

SMALL = {
    "image_size": {"height": 64, "width": 64},
    "volume_size": {"depth": 8, "height": 32, "width": 32},
}


def open_everything(work: Path) -> tuple[dict[str, str], dict[str, list]]:
    """Open the folders in a working folder through each Auto class and in each pipeline.

    Args:
        work: holds the folders `pretraining`, `classification` and `segmentation`, and the inputs
            `xray.png` and `ct.nii.gz`.

    Returns:
        The module of each class that was opened, and the numbers that each answers with.
    """
    pretraining, classification, segmentation = (
        str(work / name) for name in ("pretraining", "classification", "segmentation")
    )
    config = AutoConfig.from_pretrained(pretraining, trust_remote_code=True)
    # AutoBackbone.from_pretrained asks the Hub about a local folder, too.
    backbone_class = type(AutoBackbone.from_config(config, trust_remote_code=True))
    processor = AutoImageProcessor.from_pretrained(pretraining, trust_remote_code=True)
    opened = {
        "AutoConfig": config,
        "AutoModel": AutoModel.from_pretrained(pretraining, trust_remote_code=True),
        "AutoBackbone": backbone_class.from_pretrained(pretraining),
        "AutoModelForPreTraining": AutoModelForPreTraining.from_pretrained(
            pretraining, trust_remote_code=True
        ),
        "AutoModelForImageClassification": AutoModelForImageClassification.from_pretrained(
            classification, trust_remote_code=True
        ),
        "AutoModelForSemanticSegmentation": AutoModelForSemanticSegmentation.from_pretrained(
            segmentation, trust_remote_code=True
        ),
        "AutoImageProcessor": processor,
    }
    answers = {}
    volume = processor(work / "ct.nii.gz", return_tensors="pt", **SMALL)
    with torch.no_grad():
        for name, field in (
            ("AutoModel", "pooler_output"),
            ("AutoBackbone", "feature_maps"),
            ("AutoModelForPreTraining", "class_token"),
            ("AutoModelForImageClassification", "logits"),
            ("AutoModelForSemanticSegmentation", "logits"),
        ):
            output = opened[name](**volume)[field]
            answers[name] = (output[-1] if isinstance(output, tuple) else output).tolist()

    inputs = _inputs(work)
    for task, folder in (
        ("medical-feature-extraction", pretraining),
        ("medical-image-classification", classification),
        ("medical-image-segmentation", segmentation),
    ):
        opened[task] = pipeline(task, folder, trust_remote_code=True, device="cpu", **SMALL)
        answers[task] = [_numbers(result) for result in opened[task](inputs)]
    # What one machine without the package saves, the next must be able to open.
    opened["medical-image-segmentation"].save_pretrained(work / "saved_again")
    modules = {name: type(instance).__module__ for name, instance in opened.items()}
    return modules, answers


def features_from_hub(work: Path, commit: str) -> list:
    """Download the repository `clinic/mit` at a commit, its code too, and extract features."""
    extract = pipeline(
        "medical-feature-extraction",
        "clinic/mit",
        revision=commit,
        code_revision=commit,
        trust_remote_code=True,
        device="cpu",
        **SMALL,
    )
    return [_numbers(result) for result in extract(_inputs(work))]


def _inputs(work: Path) -> list:
    hu = np.linspace(-1000, 1000, 8 * 36 * 40, dtype=np.float32)
    return [work / "xray.png", str(work / "ct.nii.gz"), hu.reshape(8, 36, 40)]


def _numbers(result: dict | list) -> list:
    if isinstance(result, list):
        return [[int(entry["label"][-1]), entry["score"]] for entry in result]
    if "pooled" in result:
        return result["pooled"]
    label_map = result["segmentation"]
    return np.asarray(getattr(label_map, "dataobj", label_map)).tolist()


if __name__ == "__main__":
    try:
        import unimiss_hf
    except ModuleNotFoundError:
        pass
    else:
        sys.exit(f"unimiss_hf is installed here: {unimiss_hf.__file__}")
    work = Path(sys.argv[1])
    modules, answers = open_everything(work)
    answers["Hub"] = features_from_hub(work, sys.argv[2])
    (work / "opened.json").write_text(json.dumps([modules, answers]))
