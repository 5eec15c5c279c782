"""The files of an endpoint: where they come to lie, and that what they ask for is what we need."""

import re
import tomllib
from pathlib import Path

import pytest

from unimiss_hf.hub import endpoint_files
from unimiss_hf.hub.endpoint_files import ENDPOINT_FILES, add_endpoint

ROOT = Path(__file__).parents[3]


def by_package(requirements):
    return dict(re.fullmatch(r"([\w-]+)(?:\[\w+\])?(.*)", line).groups() for line in requirements)


def test_requirements_are_those_of_the_package(endpoint_folders):
    text = (endpoint_folders["features"] / "requirements.txt").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ours = by_package([*project["dependencies"], *project["optional-dependencies"]["dicom"]])
    # torchvision only has to fit torch.
    asked = {name: versions for name, versions in by_package(lines).items() if name in ours}
    assert asked == {name: ours[name] for name in asked}
    assert by_package(lines).keys() - asked.keys() == {"torchvision"}
    # What the published files and the handler import.
    files = [*endpoint_folders["features"].glob("*.py")]
    imported = {
        match
        for path in files
        for match in re.findall(r"^\s*(?:import|from) (\w+)", path.read_text(), re.MULTILINE)
    }
    packages = {name: name for name in ours} | {"pillow": "PIL"}
    assert {name for name, module in packages.items() if module in imported} <= asked.keys()


def test_the_files_are_copied_beside_a_model_alone(endpoint_folders, tmp_path):
    for name in ENDPOINT_FILES:
        source = Path(endpoint_files.__file__).with_name("endpoint") / name
        assert (endpoint_folders["features"] / name).read_bytes() == source.read_bytes()
    with pytest.raises(FileNotFoundError, match="holds no model: it has no config"):
        add_endpoint(tmp_path)
