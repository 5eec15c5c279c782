"""What tests of preparing share: small folders of images, and settings that are quick."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from unimiss_hf.data.prepared_folders import NOTE
from unimiss_hf.data.preparing.card import make_card
from unimiss_hf.data.preparing.origins import find_origins
from unimiss_hf.data.preparing.output_folder import CARD, OutputFolder
from unimiss_hf.data.preparing.planning import make_plan
from unimiss_hf.data.preparing.settings import PreparationSettings
from unimiss_hf.data.preparing.shard_writing import write_shard
from unimiss_hf.data.preparing.summary import summarise


@pytest.fixture
def films(tmp_path) -> Path:
    """A folder of six radiographs of 8 bits, 24 x 30 pixels, two of them in a folder in it."""
    folder = tmp_path / "in" / "films"
    (folder / "later").mkdir(parents=True)
    random = np.random.default_rng(0)
    for index in range(6):
        pixels = random.integers(0, 256, (24, 30), dtype=np.uint8)
        place = folder / "later" if index > 3 else folder
        Image.fromarray(pixels).save(place / f"{index}.png")
    return folder


@pytest.fixture
def scans(tmp_path) -> Path:
    """A folder of five CT volumes of 6 x 12 x 14 voxels, spacing 3 x 2 x 1 mm."""
    folder = tmp_path / "in" / "scans"
    folder.mkdir(parents=True)
    random = np.random.default_rng(1)
    for index in range(5):
        voxels = random.integers(-1000, 500, (14, 12, 6), dtype=np.int16)
        image = nibabel.Nifti1Image(voxels, np.diag([-1.0, 2.0, 3.0, 1.0]))
        nibabel.save(image, folder / f"{index}.nii.gz")
    return folder


@pytest.fixture
def make_settings():
    def make(**changes) -> PreparationSettings:
        return PreparationSettings(**{"workers": 1, "samples_per_shard": 2, **changes})

    return make


@pytest.fixture
def prepared_in_process(make_settings):
    """Prepare folders as the command does, but for its processes, which take time to start."""

    def run(folders, output: Path, **changes) -> Path:
        settings = make_settings(**changes)
        plan = make_plan(find_origins(folders, settings), settings)
        with OutputFolder(output) as folder:
            folder.begin(plan, settings)
            records = [
                write_shard(shard, settings, folder.hidden, folder.partial) for shard in plan.shards
            ]
            summary = summarise(plan, settings, records, plan.lines)
            texts = {CARD: make_card(summary, output.name), NOTE: summary.to_json()}
            folder.finish(records, texts)
        return output

    return run
