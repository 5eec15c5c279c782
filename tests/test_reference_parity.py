"""The package reproduces what the official implementation returned; see `reference_parity.py`."""

from pathlib import Path

import numpy as np
import pytest

import reference_parity

REFERENCE = Path(__file__).parent / "reference"


@pytest.mark.parametrize("name", ["forward_tiny", "forward_small", "pretrain_tiny"])
def test_official_figures(name):
    errors, tolerance = reference_parity.check_file(REFERENCE / f"{name}.npz")
    assert errors
    assert {k: v for k, v in errors.items() if not v <= tolerance} == {}


def test_official_figures_with_a_backward_pass_per_sample():
    with np.load(REFERENCE / "pretrain_tiny.npz") as archive:
        errors = reference_parity.check_pretraining(dict(archive), "tiny", samples_per_backward=1)
    assert {k: v for k, v in errors.items() if not v <= 1e-6} == {}


def test_a_wrong_figure_is_found(tmp_path, capsys):
    with np.load(REFERENCE / "forward_tiny.npz") as archive:
        figures = {k: v for k, v in archive.items() if k.startswith("image96.")}
    figures["image96.cls"][0, 0] += 1e-6
    np.savez(tmp_path / "forward_tiny.npz", **figures)
    assert reference_parity.main([str(tmp_path / "forward_tiny.npz")]) == 1
    failed = [line for line in capsys.readouterr().out.splitlines() if "FAILED" in line]
    assert len(failed) == 1 and "image96.cls" in failed[0]


def test_a_file_of_unknown_size_is_refused(tmp_path):
    (tmp_path / "forward.npz").write_bytes((REFERENCE / "forward_tiny.npz").read_bytes())
    with pytest.raises(ValueError, match="give --size"):
        reference_parity.check_file(tmp_path / "forward.npz")
