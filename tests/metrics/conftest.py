import evaluate
import pytest


@pytest.fixture(scope="session")
def evaluate_cache(tmp_path_factory):
    """Keep what evaluate writes out of the user's home."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("evaluate")
        patch.setattr(evaluate.config, "HF_MODULES_CACHE", folder / "modules")
        patch.setattr(evaluate.config, "HF_METRICS_CACHE", folder / "metrics")
        yield folder
