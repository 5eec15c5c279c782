"""One official checkpoint of MiT-tiny, and the folder it becomes."""

from pathlib import Path

import pytest
import torch

from official_checkpoints import constant_network, official_checkpoint
from reference_parity import official_weights
from unimiss_hf.conversion import ConversionReport, convert_checkpoint


@pytest.fixture(scope="session")
def teacher_weights() -> dict[str, torch.Tensor]:
    """The weights that the official figures belong to, in float32."""
    weights = official_weights("tiny", num_prototypes=256)
    return {name: weight.float() for name, weight in weights.items()}


@pytest.fixture(scope="session")
def official_file(tmp_path_factory, teacher_weights) -> Path:
    """As the official trainer writes it: the student wrapped once more than the teacher."""
    student = constant_network("tiny", 0.25, backbone="module.backbone.", head="module.")
    teacher = {
        name if name.startswith("head.") else f"backbone.{name}": weight
        for name, weight in teacher_weights.items()
    }
    path = tmp_path_factory.mktemp("official") / "UniMiSS_tiny.pth"
    torch.save(official_checkpoint(student, teacher), path)
    return path


@pytest.fixture(scope="session")
def converted(tmp_path_factory, official_file) -> ConversionReport:
    """The teacher's folder. Tests that change it work on a copy."""
    return convert_checkpoint(official_file, tmp_path_factory.mktemp("ours") / "unimiss-tiny")
