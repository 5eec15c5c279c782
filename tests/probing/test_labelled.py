"""Probes of labelled data sets: their cases, features and targets."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from unimiss_hf import MiTImageProcessor, MiTModel
from unimiss_hf.probing.labelled import features_of, find_cases, load_processor, targets_of

CLASSES = ("normal", "pneumonia", "covid")


@pytest.fixture
def chestxr(tmp_path) -> Path:
    """Six images of each class to learn from, three to test, in ChestXR's folders."""
    random = np.random.default_rng(0)
    for split, count in (("train", 6), ("validation", 3), ("test", 3)):
        for number, name in enumerate(CLASSES):
            folder = tmp_path / "chestxr" / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = random.integers(0, 60, (40, 48), dtype=np.uint8)
                pixels[:, 12 * number : 12 * number + 24] += 150
                Image.fromarray(pixels).save(folder / f"{name}_{index}.png")
    return tmp_path / "chestxr"


@pytest.fixture
def processor() -> MiTImageProcessor:
    return MiTImageProcessor(image_size={"height": 32, "width": 32})


def test_cases_are_split_as_the_data_set_says(chestxr):
    cases = find_cases(str(chestxr))
    assert (cases.title, cases.dimension, cases.class_names) == ("ChestXR", "2d", CLASSES)
    assert {case.split for case in cases.train} == {"train", "validation"}
    assert {case.split for case in cases.test} == {"test"}
    assert np.bincount(targets_of(cases.train)).tolist() == [9, 9, 9]
    assert np.bincount(targets_of(cases.test)).tolist() == [3, 3, 3]
    assert cases.notes == ()


def test_large_data_sets_can_be_drawn_from_and_say_so(chestxr):
    drawn, again, other = (find_cases(str(chestxr), max_cases=8, seed=seed) for seed in (1, 1, 2))
    assert len(drawn.train) == len(drawn.test) == 8
    assert [case.name for case in drawn.train] == [case.name for case in again.train]
    assert [case.name for case in drawn.train] != [case.name for case in other.train]
    assert drawn.notes == (
        "Of 27 cases to learn from, 8 were drawn.",
        "Of 9 cases to test, 8 were drawn.",
    )


def test_each_encoder_reads_each_image(chestxr, processor, small_config):
    cases = find_cases(str(chestxr)).test
    encoders = [MiTModel(small_config).eval() for _ in range(2)]
    features = features_of(cases, encoders, processor)
    assert [found.shape for found in features] == [(9, 16), (9, 16)]
    prepared = processor([cases[4].files[0]], return_tensors="pt")["pixel_values"]
    for encoder, found in zip(encoders, features, strict=True):
        with torch.no_grad():
            expected = encoder(prepared).pooler_output[0].numpy()
        np.testing.assert_allclose(found[4], expected, atol=1e-5)


def test_an_image_that_cannot_be_read_is_named(chestxr, processor, small_config):
    cases = find_cases(str(chestxr)).test
    cases[2].files[0].write_bytes(b"nothing")
    with pytest.raises(ValueError, match=rf"{cases[2].name} cannot be read"):
        features_of(cases, [MiTModel(small_config).eval()], processor)


def test_data_sets_of_other_tasks_are_refused(tmp_path):
    for place in ("images", "masks/lungs"):
        (tmp_path / "xray" / place).mkdir(parents=True)
        Image.new("L", (8, 8)).save(tmp_path / "xray" / place / "000_pa.png")
    with pytest.raises(ValueError, match="is a data set for segmentation; a probe needs a class"):
        find_cases(str(tmp_path / "xray"))


def test_what_cannot_be_found_is_told(chestxr, tmp_path):
    with pytest.raises(ValueError, match=r"There is no layout 'chestx'; .* Did you mean"):
        find_cases(str(chestxr), "chestx")
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        find_cases(str(tmp_path / "chestrx"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(OSError):
        load_processor(str(tmp_path / "empty"))
