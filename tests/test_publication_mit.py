import importlib
import json
import re
import sys
from pathlib import Path

import pytest
import transformers
from huggingface_hub import HfApi, RepoUrl
from transformers import AutoConfig, AutoModel, pipeline
from transformers.dynamic_module_utils import get_imports

import unimiss_hf
from unimiss_hf import (
    MiTBackbone,
    MiTConfig,
    MiTForImageClassification,
    MiTForPreTraining,
    MiTForSemanticSegmentation,
    MiTImageProcessor,
    MiTModel,
)
from unimiss_hf.publication_mit import AUTO_MAP, CUSTOM_PIPELINES
from unimiss_hf.pushing_mit import PushToHubMixin

PUBLISHED = sorted(Path(unimiss_hf.__file__).parent.glob("*_mit.py"))
MODELS = [
    MiTModel,
    MiTBackbone,
    MiTForPreTraining,
    MiTForImageClassification,
    MiTForSemanticSegmentation,
]


def saved_config(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text())


def published_class(reference: str) -> type:
    module, name = reference.split(".")
    return getattr(importlib.import_module(f"unimiss_hf.{module}"), name)


def assert_is_published(folder: Path) -> None:
    for source in PUBLISHED:
        assert (folder / source.name).read_text() == source.read_text()
    config = saved_config(folder)
    assert config["auto_map"] == AUTO_MAP
    assert config["custom_pipelines"] == CUSTOM_PIPELINES


# ------------------------------------------------------------------------------- what is named


def test_every_class_that_is_named_exists():
    for name, reference in AUTO_MAP.items():
        assert hasattr(transformers, name)
        published_class(reference)
    for task, entry in CUSTOM_PIPELINES.items():
        (auto_class,) = entry["pt"]
        assert auto_class in AUTO_MAP, task
        published_class(entry["impl"])


def test_named_pipelines_are_those_that_are_registered():
    for task, entry in CUSTOM_PIPELINES.items():
        _, registered, _ = transformers.pipelines.PIPELINE_REGISTRY.check_task(task)
        assert registered["impl"] is published_class(entry["impl"])
        assert [auto_class.__name__ for auto_class in registered["pt"]] == entry["pt"]


@pytest.mark.parametrize("source", PUBLISHED, ids=lambda path: path.name)
def test_published_files_stand_by_themselves(source):
    # What transformers demands to be installed before it runs the file.
    allowed = {"torch", "transformers", "numpy", "PIL", "huggingface_hub", "einops"}
    assert set(get_imports(source)) - sys.stdlib_module_names <= allowed
    relative = re.findall(r"^\s*from\s+(\.\S*)\s+import", source.read_text(), re.MULTILINE)
    names = {f".{path.stem}" for path in PUBLISHED}
    assert set(relative) <= names
    assert not re.search(r"^\s*(from|import)\s+unimiss_hf", source.read_text(), re.MULTILINE)


# ------------------------------------------------------------------------------ what is saved


@pytest.mark.parametrize("model_class", MODELS)
def test_any_model_saves_all_code_and_names_all_classes(model_class, small_config, tmp_path):
    model_class(small_config).save_pretrained(tmp_path)
    assert_is_published(tmp_path)


def test_what_was_opened_is_saved_whole_again(small_config, tmp_path):
    MiTForPreTraining(small_config).save_pretrained(tmp_path / "first")
    AutoModel.from_pretrained(tmp_path / "first").save_pretrained(tmp_path / "second")
    AutoConfig.from_pretrained(tmp_path / "second").save_pretrained(tmp_path / "third")
    assert_is_published(tmp_path / "second")
    assert_is_published(tmp_path / "third")


def test_a_pipeline_saves_model_processor_and_code(small_config, tmp_path):
    pipe = pipeline(
        "medical-feature-extraction",
        model=MiTModel(small_config),
        image_processor=MiTImageProcessor(image_size={"height": 64, "width": 64}),
        device="cpu",
    )
    pipe.save_pretrained(tmp_path)
    assert_is_published(tmp_path)
    opened = pipeline("medical-feature-extraction", tmp_path, device="cpu")
    assert opened.image_processor.image_size == {"height": 64, "width": 64}
    # The model is that of another task, too.
    opened.model.save_pretrained(tmp_path / "again")
    assert_is_published(tmp_path / "again")


def test_only_the_main_process_saves_code(small_config, tmp_path):
    MiTModel(small_config).save_pretrained(tmp_path, is_main_process=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("way", ["push_to_hub", "save_pretrained"])
def test_pushing_uploads_the_code(way, small_config, tmp_path, monkeypatch):
    commits = []
    repository = RepoUrl("https://huggingface.co/me/mit")
    monkeypatch.setattr(HfApi, "create_repo", lambda *_, **__: repository)
    monkeypatch.setattr(
        HfApi, "create_commit", lambda *_, operations, **__: commits.append(operations)
    )
    model = MiTModel(small_config)
    if way == "push_to_hub":
        # As where the published files are all there is; the package's own is tested with the Hub.
        monkeypatch.setattr(PushToHubMixin, "publisher", None)
        model.push_to_hub("me/mit")
    else:
        model.save_pretrained(tmp_path, push_to_hub=True, repo_id="me/mit")
    (operations,) = commits
    uploaded = {operation.path_in_repo for operation in operations}
    assert {"config.json", "model.safetensors", *(path.name for path in PUBLISHED)} <= uploaded


def test_classes_of_others_keep_their_place(small_config, tmp_path):
    small_config.auto_map = {"AutoModel": "their_model.TheirMiT"}
    small_config.custom_pipelines = {"their-task": {"impl": "theirs.Pipeline", "pt": ["AutoModel"]}}
    small_config.save_pretrained(tmp_path)
    config = saved_config(tmp_path)
    assert config["auto_map"] == {**AUTO_MAP, "AutoModel": "their_model.TheirMiT"}
    assert config["custom_pipelines"].keys() == {"their-task", *CUSTOM_PIPELINES}


# ------------------------------------------------------------------------------ what is opened


def test_registered_pipelines_ask_for_no_trust(small_config, tmp_path):
    small_config.custom_pipelines = {"their-task": {"impl": "theirs.Pipeline", "pt": ["AutoModel"]}}
    MiTModel(small_config).save_pretrained(tmp_path)
    MiTImageProcessor().save_pretrained(tmp_path)
    # transformers runs the folder's code for each task that a configuration names.
    assert MiTConfig.from_pretrained(tmp_path).custom_pipelines.keys() == {"their-task"}
    pipe = pipeline("medical-feature-extraction", tmp_path, device="cpu")
    assert type(pipe).__module__ == "unimiss_hf.pipeline_mit"
    with pytest.raises(ValueError, match="trust_remote_code"):
        pipeline("their-task", tmp_path)
