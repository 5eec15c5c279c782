"""Checkpoints that a run may not go on from are told, with all that differs."""

from pathlib import Path

import pytest

from unimiss_hf.training.continuation import require_same_processes, require_same_run

CHECKPOINT = Path("runs/a/checkpoints/step-000010")


def test_the_same_run_goes_on():
    require_same_run(CHECKPOINT, {}, "bf16", "bf16")
    require_same_processes(CHECKPOINT, 2, 2)


def test_all_that_differs_is_named():
    differences = {"seed": (0, 1), "model_size": ("small", None)}
    with pytest.raises(ValueError) as told:
        require_same_run(CHECKPOINT, differences, "no", "bf16")
    assert str(told.value) == (
        f"{CHECKPOINT} belongs to a run with other settings: seed was 0 and is now 1; model_size "
        "was 'small' and is now None; mixed_precision was 'no' and is now 'bf16'. Give the old "
        "settings to continue it, or another --output to start a new run."
    )
    assert list(differences) == ["seed", "model_size"]


def test_another_precision_alone_is_another_run():
    with pytest.raises(ValueError, match="settings: mixed_precision was 'fp16' and is now 'no'"):
        require_same_run(CHECKPOINT, {}, "fp16", "no")


def test_another_number_of_processes_is_told():
    with pytest.raises(ValueError, match=r"by 4 processes, and there are 1 now\. Start"):
        require_same_processes(CHECKPOINT, 4, 1)
