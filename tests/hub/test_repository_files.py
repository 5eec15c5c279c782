"""What of a folder would go to the Hub, and what is refused: no network."""

import json

import pytest

from published_runs import finished_run
from unimiss_hf.hub.__main__ import main
from unimiss_hf.hub.absolute_paths import find_absolute_path
from unimiss_hf.hub.repository_files import is_of_a_model, list_files
from unimiss_hf.publication_mit import AUTO_MAP


@pytest.fixture
def run(tmp_path):
    return finished_run(tmp_path / "run")


# ------------------------------------------------------------------------------- what goes


def test_a_run_and_its_model_are_the_same(run):
    assert list_files(run).files == list_files(run / "model").files


def test_reasons_are_given_for_what_stays(run):
    assert list_files(run).left_out == {
        "cases.csv": "it names cases",
        "figures/": "they show cases and name them",
        "checkpoints/": "only the model of a finished run goes",
        "prepared/": "it holds images",
        "results_before_training_cases.csv": "it names cases",
        "settings.yaml": "it names folders of this machine",
    }


def test_of_a_checkpoint_the_training_state_stays(run):
    checkpoint = run / "model"
    (checkpoint / "training_state").mkdir()
    (checkpoint / "training_state" / "model.safetensors").write_bytes(b"optimiser")
    (checkpoint / "checkpoint.json").write_text("{}")
    listed = list_files(checkpoint)
    assert not [name for name in listed.files if "training_state" in name]
    assert listed.left_out["training_state/"] == "only continuing the training needs it"
    assert listed.left_out["checkpoint.json"] == "only continuing the training needs it"


def test_code_that_is_missing_is_added_with_its_map(run):
    for path in (run / "model").glob("*_mit.py"):
        path.unlink()
    config = json.loads((run / "model" / "config.json").read_text())
    del config["auto_map"], config["custom_pipelines"]
    (run / "model" / "config.json").write_text(json.dumps(config))
    listed = list_files(run)
    assert {f"{reference.partition('.')[0]}.py" for reference in AUTO_MAP.values()} <= (
        listed.files.keys()
    )
    written = json.loads(listed.texts["config.json"])
    assert written["auto_map"] == AUTO_MAP
    assert written["id2label"] == config["id2label"]


def test_what_is_not_ours_in_a_repository_is_left_alone():
    assert all(map(is_of_a_model, ("modeling_mit.py", "figures/roc.png", "log.jsonl")))
    assert not any(map(is_of_a_model, ("notes/own_mit.py", "figures/own/map.png", "banner.png")))


# ------------------------------------------------------------------------------- refusals


def test_parts_that_are_missing_are_told(run, tmp_path):
    model = run / "model"
    (model / "preprocessor_config.json").rename(tmp_path / "kept")
    with pytest.raises(FileNotFoundError, match=r"no preprocessor_config.json: nobody would know"):
        list_files(run)
    (tmp_path / "kept").rename(model / "preprocessor_config.json")
    weights = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(weights[:1000])
    with pytest.raises(ValueError, match=r"model.safetensors is torn or no safetensors file"):
        list_files(run)
    (model / "model.safetensors").unlink()
    (model / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(FileNotFoundError, match=r"only pytorch_model.bin, which runs code when"):
        list_files(run)


def test_a_part_that_the_index_names_is_told(run):
    index = {"weight_map": {"norm": "model-00002-of-00002.safetensors"}}
    (run / "model" / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(FileNotFoundError, match=r"lacks model-00002-of-00002.safetensors, which"):
        list_files(run)


def test_other_folders_are_told(run, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder .*runs .*Did you mean .*run\?"):
        list_files(f"{run}s")
    with pytest.raises(FileNotFoundError, match="Give a folder that save_pretrained wrote"):
        list_files(run / "figures")
    (run / "model").rename(tmp_path / "moved")
    with pytest.raises(FileNotFoundError, match="The run is not finished: run its command again"):
        list_files(run)
    (tmp_path / "moved" / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="holds a 'bert' model; wanted 'unimiss_mit'"):
        list_files(tmp_path / "moved")


def test_what_excludes_nothing_or_the_model_is_told(run):
    with pytest.raises(ValueError, match=r"--exclude figure\.png matches none of the files"):
        list_files(run, ["figure.png"])
    with pytest.raises(ValueError, match=r"config\.json cannot be left out"):
        list_files(run, ["config.json"])


@pytest.mark.parametrize(
    ("name", "line", "found"),
    [
        ("model/config.json", '{"_name_or_path": "/home/doctor/mit"}', "/home/doctor/mit"),
        ("model/README.md", "Trained on (/mnt/ct/lung) for us", "/mnt/ct/lung"),
        ("log.jsonl", '{"read": ["D:\\\\scans\\\\1"]}', "D:\\scans\\1"),
        ("log.jsonl", '{"read": "file:///data/ct/1.nii.gz failed"}', "file:///data/ct/1.nii.gz"),
        ("log.jsonl", '{"torn": "/data/ct/', "/data/ct/"),
        ("results.json", '{"server": "\\\\\\\\pacs\\\\share"}', "\\\\pacs\\share"),
        ("results.json", '{"a": 1,\n"b": "/data/ct/1"}', "line 2: /data/ct/1"),
    ],
)
def test_absolute_paths_never_go(run, name, line, found):
    path = run / name
    if name == "model/config.json":
        config = json.loads(path.read_text()) | json.loads(line)
        path.write_text(json.dumps(config))
    else:
        path.write_text(line)
    with pytest.raises(ValueError, match="names an absolute path in line ") as told:
        list_files(run)
    assert found in str(told.value)
    assert f"leave the file out with --exclude {path.name}" in str(told.value)


@pytest.mark.parametrize(
    "text",
    [
        "See https://huggingface.co/clinic/mit/resolve/main/x.png and arXiv:2112.09356.",
        "Shapes are (depth, height, width), 3/1/1 mm; images and/or volumes.",
        "runs/mine/model and ./data/ct and ~/ct stay; `loss/image_to_image`; <br/>; 1 / 2",
        "a: b / c\n[x](../docs/a.md) </details>",
    ],
)
def test_what_is_no_absolute_path_is_left_alone(tmp_path, text):
    (tmp_path / "card.md").write_text(text)
    assert find_absolute_path(tmp_path / "card.md") is None


# ------------------------------------------------------------------------------- the command


def test_a_dry_run_lists_all_and_sends_nothing(run, capsys):
    assert main(["push", str(run), "clinic/organs", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "Would go, " in printed
    for name in ("model.safetensors", "README.md", "handler.py", "LICENSE", "curves.png"):
        assert f"  {name} " in printed
    assert "  checkpoints/: only the model of a finished run goes" in printed
    assert printed.endswith("it goes to https://huggingface.co/clinic/organs.\n")


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        ([], 2, "usage: python -m unimiss_hf.hub push FOLDER OWNER/NAME"),
        (["psuh"], 2, "no command 'psuh'"),
        (["push", "nowhere", "clinic/mit"], 1, "error: There is no folder nowhere"),
        (
            ["push", "RUN", "clinic/a/b"],
            1,
            "error: 'clinic/a/b' is no name of a model; wanted OWNER/NAME",
        ),
        (["push", "RUN", "mit"], 1, "error: 'mit' has no owner; wanted OWNER/NAME"),
        (["push", "RUN", "clinic/mit", "--license", "cc-by-5"], 1, "cc-by-5"),
    ],
)
def test_mistyped_commands_are_told(run, capsys, words, status, told):
    assert main([str(run) if word == "RUN" else word for word in words]) == status
    assert told in capsys.readouterr().err


def test_a_folder_in_the_repositorys_place_is_told(run, capsys, monkeypatch):
    monkeypatch.chdir(run)
    assert main(["push", str(run), "model"]) == 1
    assert "model is a folder here; wanted the name of a repository" in capsys.readouterr().err


def test_without_a_network_that_is_told(run, capsys):
    # As in all tests, HF_HUB_OFFLINE is set.
    assert main(["push", str(run), "clinic/mit"]) == 1
    assert "error: Nothing was pushed: " in capsys.readouterr().err
