"""Models go to a Hub on this machine, over real HTTP, with huggingface_hub as it is."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pushing_program
import pytest
import torch
from asked_programs import ask
from safetensors.torch import load

from loopback_hub import LoopbackHub, Repository
from published_runs import finished_run
from unimiss_hf import MiTConfig, MiTForSemanticSegmentation
from unimiss_hf.hub import push_model
from unimiss_hf.hub.card_fields import read_fields
from unimiss_hf.publication_mit import AUTO_MAP

REPO = "clinic/organs"


def environment(hub: LoopbackHub, work: Path) -> dict[str, str]:
    return {**hub.environment, "HF_HUB_CACHE": str(work / "cache")}


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    work = tmp_path_factory.mktemp("pushing")
    finished_run(work / "run")
    return work


@pytest.fixture(scope="module")
def pushed(work):
    """What several commands said, and what the Hub holds then."""
    run, model = str(work / "run"), str(work / "run" / "model")
    with LoopbackHub() as hub:
        other = hub.repositories["models", "clinic/bert"] = Repository({})
        other.add("first", {"config.json": b'{"model_type": "bert"}'})
        notes = hub.repositories["models", "clinic/notes"] = Repository({})
        notes.add("first", {"notes.txt": b"nothing"})
        hub.drops["PUT"] = 1
        requests = {
            "first": ["push", run, REPO, "--private"],
            "again": ["push", run, REPO],
            "without figures": ["push", model, REPO, "--exclude", "fe*.png"],
            "branch": ["push", run, REPO, "--revision", "v2", "--license", "cc-by-4.0"],
            "unchanged": {"model": model, "options": {"repo_id": "clinic/same"}},
            "changed": {
                "model": model,
                "changed": True,
                "options": {"repo_id": "clinic/changed", "commit_message": "Train on"},
            },
            "public": ["push", run, "clinic/same", "--private"],
            "other kind": ["push", run, "clinic/bert"],
            "other content": ["push", run, "clinic/notes"],
        }
        answers = dict(
            zip(
                requests,
                ask(pushing_program, list(requests.values()), environment(hub, work)),
                strict=True,
            )
        )
        assert hub.drops["PUT"] == 0
        tokenless = {**environment(hub, work), "HF_TOKEN": "hf_another"}
        (refused,) = ask(pushing_program, [["push", run, "clinic/new"]], tokenless)
        return {**answers, "refused": refused, "hub": hub}


def files_of(pushed, name=REPO, revision="main") -> dict[str, bytes]:
    return pushed["hub"].repositories["models", name].at(revision).files


# ------------------------------------------------------------------------------- what is there


def test_all_of_a_model_goes_in_one_commit(pushed, work):
    repository = pushed["hub"].repositories["models", REPO]
    first = repository.commits[1]
    assert first.message == "Upload model"
    expected = {
        "model.safetensors",
        "config.json",
        "preprocessor_config.json",
        "README.md",
        "LICENSE",
        "handler.py",
        "requirements.txt",
        "log.jsonl",
        "curves.png",
        "results.json",
        "features.png",
        "figures/roc.png",
        *(f"{reference.partition('.')[0]}.py" for reference in AUTO_MAP.values()),
    }
    assert expected <= first.files.keys()
    weights = (work / "run" / "model" / "model.safetensors").read_bytes()
    assert first.files["model.safetensors"] == weights
    assert b"MIT License" in first.files["LICENSE"]
    assert repository.request["visibility"] == "private"
    assert pushed["first"]["status"] == 0
    assert f"Pushed: {pushed['hub'].endpoint}/{REPO}" in pushed["first"]["out"]
    assert f"To pin it: {REPO}@{first.sha}" in pushed["first"]["out"]


def test_what_only_training_needs_and_what_tells_of_people_stays(pushed):
    every = [
        name
        for repository in pushed["hub"].repositories.values()
        for commit in repository.commits
        for name in commit.files
    ]
    told = ("training_state", "checkpoint", "prepared", "cases", "settings.yaml", "patient")
    assert not [name for name in every if any(word in name for word in told)]
    texts = b"".join(
        content for name, content in files_of(pushed).items() if not name.endswith(".safetensors")
    )
    assert b"patient_0815" not in texts
    assert (
        json.loads(files_of(pushed)["results.json"])["scores"]["dice"]["per_class"]["liver"][
            "undefined"
        ]
        == 1
    )
    assert b"/home/" not in texts and str(Path.home()).encode() + b"/" not in texts


def test_the_card_opens_the_repository_and_holds_the_scores(pushed):
    card = files_of(pushed)["README.md"].decode()
    assert f'pipeline("medical-image-segmentation", "{REPO}")' in card
    fields = read_fields(card)
    (index,) = fields["model-index"]
    assert index["name"] == "organs"
    values = [m["value"] for result in index["results"] for m in result["metrics"]]
    assert sorted(values) == [0.7, 0.75, 0.8]
    branch = read_fields(files_of(pushed, revision="v2")["README.md"].decode())
    assert branch["license"] == "cc-by-4.0"
    assert fields.get("license") != "cc-by-4.0"


def test_pictures_of_patients_are_told(pushed):
    assert "show images of the data: features.png. --exclude" in pushed["first"]["out"]
    assert "Pictures" not in pushed["without figures"]["out"]


def test_what_is_not_there_any_more_is_deleted(pushed):
    repository = pushed["hub"].repositories["models", REPO]
    assert "features.png" in repository.commits[1].files
    assert "features.png" not in files_of(pushed)


def test_nothing_new_makes_no_commit(pushed):
    # The first, and the one without figures.
    assert len(pushed["hub"].messages(REPO)) == 2
    first = pushed["hub"].repositories["models", REPO].commits[1].sha
    assert f"{REPO}@{first}" in pushed["again"]["out"]


def test_a_branch_is_made(pushed):
    branches = pushed["hub"].repositories["models", REPO].branches
    assert branches.keys() == {"main", "v2"}
    assert branches["v2"][-1].sha in pushed["branch"]["out"]


# ------------------------------------------------------------------------- model.push_to_hub


def test_a_model_that_was_not_changed_takes_card_log_and_figures_along(pushed):
    same = files_of(pushed, "clinic/same")
    assert {"log.jsonl", "curves.png", "results.json", "finetuning.json"} <= same.keys()
    assert 'pipeline("medical-image-segmentation", "clinic/same")' in same["README.md"].decode()
    assert same["preprocessor_config.json"] == files_of(pushed)["preprocessor_config.json"]
    ours, theirs = (load(files["model.safetensors"]) for files in (same, files_of(pushed)))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_of_other_weights_no_card_and_scores_are_told(pushed):
    changed = files_of(pushed, "clinic/changed")
    assert not {"log.jsonl", "results.json", "finetuning.json"} & changed.keys()
    card = changed["README.md"].decode()
    assert "has weights that were changed since: card, log and scores" in pushed["changed"]["out"]
    assert "what it was trained on, how, and how well it does was not said" in card
    assert read_fields(card)["pipeline_tag"] == "image-segmentation"
    assert "| 1 | liver |" in card
    assert {"handler.py", "LICENSE", "modeling_mit.py"} <= changed.keys()
    assert pushed["hub"].messages("clinic/changed") == ["Train on"]


def test_a_model_without_a_processor_is_refused(small_config):
    model = MiTForSemanticSegmentation(small_config)
    with pytest.raises(ValueError, match=r"Give image_processor=MiTImageProcessor\(\.\.\.\)"):
        model.push_to_hub("clinic/new")
    with pytest.raises(TypeError, match="privat"):
        push_model(model, "clinic/new", privat=True)


def test_another_card_replaces_the_folders(work):
    model = MiTForSemanticSegmentation.from_pretrained(work / "run" / "model")
    sizes = {}
    for card in ("# Ours\n", "# Ours, and longer\n"):
        pushed = model.push_to_hub("clinic/new", card=card, dry_run=True, tell=lambda text: None)
        assert pushed.commit is None
        sizes[card] = pushed.sizes["README.md"] - len(card)
    # What is added to each is the same.
    assert len(set(sizes.values())) == 1


# ------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        ("public", "clinic/same is public already, so --private would not keep anything"),
        ("other kind", "clinic/bert on the Hub holds a 'bert' model, not a 'unimiss_mit' one."),
        ("other content", "clinic/notes on the Hub holds something else, such as notes.txt."),
        ("refused", "the Hub does not accept the token, or there is none"),
    ],
)
def test_the_hubs_refusals_say_what_to_do(pushed, request_, told):
    assert pushed[request_]["status"] == 1
    assert pushed[request_]["err"].startswith("error: ")
    assert told in pushed[request_]["err"]
    assert ("models", "clinic/new") not in pushed["hub"].repositories


def test_a_call_that_was_killed_goes_on(work):
    command = [sys.executable, "-m", "unimiss_hf.hub", "push", str(work / "run"), REPO]
    with LoopbackHub() as hub:
        hub.delay = 1.0
        process = subprocess.Popen(
            command,
            env={**os.environ, **environment(hub, work)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            deadline = time.monotonic() + 120
            while not hub.large and time.monotonic() < deadline and process.poll() is None:
                time.sleep(0.005)
        finally:
            process.kill()
            process.communicate()
        assert hub.large and not hub.messages(REPO)
        hub.delay = 0.0
        arrived, before = set(hub.large), len(hub.requests)
        subprocess.run(
            command, env={**os.environ, **environment(hub, work)}, check=True, capture_output=True
        )
        sent = {line.rpartition("/")[2] for line in hub.requests[before:] if "PUT" in line}
        assert not arrived & sent
        assert hub.messages(REPO) == ["Upload model"]
        weights = (work / "run" / "model" / "model.safetensors").read_bytes()
        assert hub.files(REPO)["model.safetensors"] == weights


def test_what_was_pushed_opens_from_its_files(pushed, tmp_path):
    for name, content in files_of(pushed).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    model = MiTForSemanticSegmentation.from_pretrained(tmp_path)
    assert model.config.id2label == {0: "background", 1: "liver", 2: "spleen"}
    assert isinstance(model.config, MiTConfig)
