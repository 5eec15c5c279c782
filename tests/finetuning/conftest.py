"""Data sets, a checkpoint and finished runs that the tests of fine-tuning share."""

import pytest

import finetuning_miniatures as miniatures
from unimiss_hf.finetuning import FinetuningSettings, run_finetuning


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    return tmp_path_factory.mktemp("finetuning")


@pytest.fixture(scope="session")
def checkpoint(shared):
    return miniatures.pretrained(shared / "pretrained")


@pytest.fixture(scope="session")
def organs(shared):
    return miniatures.organ_volumes(shared)


@pytest.fixture(scope="session")
def shadows(shared):
    return miniatures.organ_shadows(shared)


@pytest.fixture(scope="session")
def chests(shared):
    return miniatures.findings(shared)


@pytest.fixture
def settings(tmp_path, shared, checkpoint, organs):
    """Make settings of a run of 6 steps on the volumes; other settings replace them."""

    def make(**changes) -> FinetuningSettings:
        values = {
            "output": str(tmp_path / "run"),
            "model": str(checkpoint),
            "dataset": str(organs),
            "cache_folder": str(shared / "prepared"),
            "patch_size": [4, 32, 32],
            "window_overlap": 0.25,
            "max_steps": 6,
            "validate_every": 3,
            "learning_rate": 0.01,
            "bootstrap": 20,
            "figures": False,
        }
        return FinetuningSettings(**{**values, **changes})

    return make


@pytest.fixture
def of_images(settings, chests):
    """The same for the classification of radiographs."""

    def make(**changes) -> FinetuningSettings:
        values = {"dataset": str(chests), "patch_size": None, "batch_size": 3}
        return settings(**{**values, **changes})

    return make


@pytest.fixture
def of_shadows(settings, shadows):
    """The same for the segmentation of radiographs into structures that overlap."""

    def make(**changes) -> FinetuningSettings:
        values = {"dataset": str(shadows), "patch_size": None}
        return settings(**{**values, **changes})

    return make


@pytest.fixture(scope="session")
def finished(shared, checkpoint, organs):
    """A finished run on the volumes, scored: its settings and what it left."""
    run = FinetuningSettings(
        output=str(shared / "finished"),
        model=str(checkpoint),
        dataset=str(organs),
        cache_folder=str(shared / "prepared"),
        patch_size=[4, 32, 32],
        window_overlap=0.25,
        max_steps=4,
        validate_every=2,
        learning_rate=0.01,
        score_before=True,
        figures=False,
    )
    return run, run_finetuning(run)
