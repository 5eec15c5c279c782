"""The documentation does what it says: code runs, options exist, links lead somewhere."""

import dataclasses
import importlib
import os
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import nibabel
import numpy as np
import pyarrow.parquet
import pytest
from accelerate.commands.launch import launch_command_parser
from PIL import Image

from command_help import help_of
from drawn_diagrams import diagrams_of, folder_of
from settings_tables import tables
from small_pyramid import SMALLEST_PYRAMID
from unimiss_hf import (
    MiTConfig,
    MiTForImageClassification,
    MiTForPreTraining,
    MiTForSemanticSegmentation,
    MiTImageProcessor,
)
from unimiss_hf.pretraining import Pretrainer

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
TUTORIALS = DOCS / "tutorials"

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
# Programs of others, whose options are not ours to check.
OTHERS = {"curl", "hf", "jq", "source"}


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks_of(page: Path, language: str) -> list[str]:
    text = page.read_text(encoding="utf-8")
    return [block for kind, block in FENCE.findall(text) if kind == language]


def prose_of(page: Path) -> str:
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def run_python(page: Path) -> dict:
    """Run a page's Python blocks one after the other, and return what they left."""
    left: dict = {}
    for block in blocks_of(page, "python"):
        exec(compile(block, name_of(page), "exec"), left)
    return left


def commands_of(page: Path) -> list[list[str]]:
    """The words of each command in a page's blocks without a language."""
    commands = []
    for block in blocks_of(page, ""):
        for line in block.replace("\\\n", " ").splitlines():
            commands += [shlex.split(part, comments=True) for part in re.split(r" \| ?", line)]
    return [words for words in commands if words]


@cache
def options_of(program: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[\w-]+", help_of(f"python {program}")))


@cache
def launch_options() -> set[str]:
    return set(launch_command_parser()._option_string_actions)


def program_in(words: list[str]) -> tuple[str, list[str], list[str]] | None:
    """The program of a command as `help_of` names it, options before it, and words behind it."""
    for place, word in enumerate(words):
        if word == "-m" and words[place + 1].startswith("unimiss_hf"):
            module, rest = words[place + 1], words[place + 2 :]
            # The word behind a module with commands is one of them.
            command = f" {rest[0]}" if module in ("unimiss_hf.data", "unimiss_hf.hub") else ""
            return f"-m {module}{command}", words[:place], rest
        if word.endswith(".py"):
            return word, words[:place], words[place + 1 :]
    return None


def unknown_options(words: list[str], known: set[str]) -> list[str]:
    given = [word.split("=")[0] for word in words if word.startswith("--")]
    return [word for word in given if word not in known]


def anchors_of(page: Path) -> set[str]:
    headings = HEADING.findall(prose_of(page))
    return {re.sub(r"[^\w\- ]", "", text).strip().lower().replace(" ", "-") for text in headings}


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A folder with what `make pretrain` and the sample leave, in small; the working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    random = np.random.default_rng(0)
    affine = np.diag([1.0, 1.0, 3.0, 1.0])
    voxels = random.integers(-1000, 500, (72, 66, 20), dtype=np.int16)
    for name in ("sample/ct/cxr.nii.gz", "sample_organs/ct/imagesTs/slab_3_0000.nii.gz"):
        (tmp_path / "data" / name).parent.mkdir(parents=True)
        nibabel.save(nibabel.Nifti1Image(voxels, affine), tmp_path / "data" / name)
    (tmp_path / "data/sample/xray").mkdir()
    for name in ("0000_pa_348.png", "0001_left_lateral_101.png"):
        pixels = random.integers(0, 255, (96, 96), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "data/sample/xray" / name)

    config = MiTConfig(**SMALLEST_PYRAMID)
    labelled = MiTConfig(**SMALLEST_PYRAMID, num_labels=3)
    for folder, model in {
        "pretrain_sample/model": MiTForPreTraining(config),
        "organs/model": MiTForSemanticSegmentation(labelled),
        "views/model": MiTForImageClassification(labelled),
    }.items():
        model.save_pretrained(tmp_path / "runs" / folder)
        processor = MiTImageProcessor(image_size={"height": 64, "width": 64})
        processor.save_pretrained(tmp_path / "runs" / folder)
    return tmp_path


def run_command(words: list[str], monkeypatch) -> int:
    """Run one of the examples in this process, as typed behind `python`."""
    path = ROOT / words[1]
    specification = importlib.util.spec_from_file_location(f"run_{path.stem}", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    monkeypatch.setattr(sys, "argv", words[1:])
    return module.main()


def test_the_readmes_examples_give_features(project, capsys):
    left = run_python(ROOT / "README.md")
    image, volume = capsys.readouterr().out.splitlines()
    assert image == "torch.Size([1, 16])"
    assert left["features"]["shape"] == (2, 3, 3)
    assert volume == "torch.Size([16]) torch.Size([18, 16]) (2, 3, 3)"


def test_messages_that_the_readme_explains_are_in_the_code():
    _, _, table = (ROOT / "README.md").read_text(encoding="utf-8").partition("the message says")
    messages = re.findall(r"^\| (`.+?`) \|", table.partition("\n## ")[0], re.MULTILINE)
    assert len(messages) >= 12
    transformers = Path(importlib.import_module("transformers").__file__).parent
    code = [*(ROOT / "src").rglob("*.py"), transformers / "dynamic_module_utils.py"]
    text = "\n".join(path.read_text(encoding="utf-8") for path in code)
    for message in messages:
        for part in message.strip("`").split("` … `"):
            assert part in text or part == "CUDA out of memory", part


def test_the_first_tutorial_gives_the_features_it_says(project, monkeypatch):
    (extract,) = [
        words for words in commands_of(TUTORIALS / "features.md") if "examples" in " ".join(words)
    ]
    assert run_command(extract, monkeypatch) == 0
    left = run_python(TUTORIALS / "features.md")
    depth, height, width = left["grid"]
    assert left["radiograph"].pixel_values.shape == (1, 1, 64, 64)
    assert left["volume"].pooled.shape == (1, 16)
    assert left["volume"].patches.shape == (1, 16, depth, height, width) == (1, 16, 2, 3, 3)
    assert left["image"].patches.shape == (1, 16, 3, 3)
    table = pyarrow.parquet.read_table(project / "features.parquet")
    assert table.column_names == ["name", "dimension", "shape", "pooled"]
    assert sorted(left["names"]) == sorted(str(p) for p in Path("data/sample").rglob("*.*g*"))


def test_the_pretraining_tutorial_reads_a_runs_log(project, settings, capsys):
    Pretrainer(settings(output="runs/mine", max_steps=6)).run()
    capsys.readouterr()
    left = run_python(TUTORIALS / "pretraining.md")
    told = capsys.readouterr().out
    assert re.search(r"2d 4 steps, loss [\d.]+ to [\d.]+\nspread/image [\d.]+ to", told)
    assert re.search(r"3d 2 steps, loss [\d.]+ to [\d.]+\nspread/volume [\d.]+ to", told)

    logged = {name for line in left["lines"] for name in line}
    rows = re.findall(r"^\| (`.*?) \|", prose_of(TUTORIALS / "pretraining.md"), re.MULTILINE)
    explained = [name.strip("`") for row in rows for name in row.split(", ")]
    assert len(explained) >= 6
    for name in explained:
        assert any(known.startswith(name.removesuffix("…")) for known in logged), name


def test_the_fine_tuning_tutorial_labels_and_scores(project, capsys):
    left = run_python(TUTORIALS / "finetuning.md")
    written = nibabel.load(project / "slab_3.nii.gz")
    source = nibabel.load("data/sample_organs/ct/imagesTs/slab_3_0000.nii.gz")
    assert written.shape == source.shape
    np.testing.assert_array_equal(written.affine, source.affine)
    assert len(left["result"]["segments_info"]) == 3
    assert left["scores"]["dice"] == pytest.approx(2 / 3)


def test_the_publishing_tutorial_pushes_and_opens(project, hub):
    program = "\n".join(blocks_of(TUTORIALS / "publishing.md", "python"))
    subprocess.run(
        [sys.executable, "-c", program.replace('revision="v1"', 'revision="main"')],
        check=True,
        env={**os.environ, **hub.environment, "HF_HOME": str(project / "cache")},
    )
    files = hub.files("acme/unimiss-chests")
    assert {"config.json", "model.safetensors", "README.md"} <= set(files)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_have_the_options_that_a_page_gives_them(page):
    makefile = (ROOT / "Makefile").read_text()
    for words in commands_of(page):
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", makefile, re.MULTILINE), words
            continue
        found = program_in(words)
        if found is None:
            assert words[0] in OTHERS, f"{name_of(page)}: what is {words}?"
            continue
        program, before, behind = found
        assert unknown_options(behind, options_of(program)) == [], f"{name_of(page)}: {words}"
        if "launch" in before:
            assert unknown_options(before, launch_options()) == [], f"{name_of(page)}: {words}"


def test_options_in_running_text_exist():
    programs = [f"examples/{path.name}" for path in (ROOT / "examples").glob("*.py")]
    modules = ("data prepare", "data push", "hub push", "conversion", "data.sample")
    programs += [f"-m unimiss_hf.{module}" for module in modules]
    programs += [f"benchmarks/{path.name}" for path in (ROOT / "benchmarks").glob("pre*.py")]
    known = {"--help", *launch_options()}.union(*map(options_of, programs))
    for page in PAGES:
        for code in re.findall(r"`(--[^`]+)`", prose_of(page)):
            assert unknown_options(shlex.split(code), known) == [], f"{name_of(page)}: {code}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_relative_links_lead_somewhere(page):
    for target in LINK.findall(prose_of(page)):
        if re.match(r"\w+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{name_of(page)} links to {target}"
        if anchor:
            assert anchor in anchors_of(file), f"{name_of(page)} links to {target}"


def test_every_diagram_is_drawn_as_it_is_written_now():
    names = {name for page in DOCS.rglob("*.md") for name in diagrams_of(page.read_text())}
    assert names == {path.name for path in folder_of(DOCS).iterdir()}


def test_tables_of_settings_have_every_setting():
    marks = re.findall(
        r"<!-- (options|keys) (\S+):(\w+) -->", "".join(page.read_text() for page in PAGES)
    )
    assert len(marks) >= 8
    for kind, module, name in marks:
        settings = getattr(importlib.import_module(module), name)
        table = tables(settings, as_options=kind == "options")
        for entry in dataclasses.fields(settings):
            assert re.search(
                rf"^\| `(--|--no_)?{entry.name}`{{ .setting }} \|", table, re.MULTILINE
            ), entry.name
