"""JSRT: film images and the masks of SCR."""

import pickle

import numpy as np
import pytest
from PIL import Image

from labelled_miniatures_classification import JSRT_MASKS, jsrt, jsrt_film, write_mask
from layout_miniatures import touch
from unimiss_hf import MiTImageProcessor
from unimiss_hf.data.labelled.jsrt import JSRT
from unimiss_hf.data.labelled.label_bits import unpack_masks


@pytest.fixture
def root(tmp_path):
    return jsrt(tmp_path)


def in_box(name, shape=(1024, 1024)):
    mask = np.zeros(shape, bool)
    top, bottom, left, right = JSRT_MASKS[name]
    mask[top:bottom, left:right] = True
    return mask


def test_images_and_folds(root, tmp_path):
    data = JSRT.read(root)
    assert data.class_names == ("heart", "lung", "clavicle")
    assert data.problem_type == "multi_label_classification"
    assert {case.name: (case.split, len(case.label_files)) for case in data.cases} == {
        "JPCLN001": ("train", 5),
        "JPCNN002": ("test", 5),
    }
    assert data.problems == ()
    assert [case.split for case in JSRT.read(root, test_fold=1).cases] == ["test", "train"]
    assert JSRT.recognise(root) and JSRT.recognise(tmp_path)
    with pytest.raises(ValueError, match="does not look like JSRT"):
        JSRT.read(root / "scratch")


def test_image_on_the_grid_of_the_masks(root):
    case = pickle.loads(pickle.dumps(JSRT.read(root).cases[0]))
    image = case.load_image(case)
    assert image.shape == (1024, 1024) and image.dtype == np.float32
    film = 1 - jsrt_film("JPCLN001") / 4095  # White is zero.
    wanted = film.reshape(1024, 2, 1024, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(image, wanted, atol=1e-6)


def test_masks_overlap_in_one_map(root):
    case = JSRT.read(root).cases[0]
    packed = case.load_labels(case)
    assert packed.dtype == np.int64
    heart = in_box("heart")
    lung = in_box("left lung") | in_box("right lung")
    clavicle = in_box("left clavicle") | in_box("right clavicle")
    assert (heart & lung).any()
    np.testing.assert_array_equal(packed, heart * 1 + lung * 2 + clavicle * 4)


def test_processor_takes_image_and_masks_together(root):
    import torch

    processor = MiTImageProcessor(image_size={"height": 64, "width": 64})
    for case in JSRT.read(root).cases:
        batch = processor(
            case.load_image(case), segmentation_maps=case.load_labels(case), return_tensors="pt"
        )
        assert batch["pixel_values"].shape == (1, 1, 64, 64)
        assert batch["pixel_values"].min() >= 0 and batch["pixel_values"].max() <= 1
        masks = unpack_masks(batch["labels"], 3)
        assert masks.shape == (1, 3, 64, 64) and masks.dtype == torch.float32
        assert (masks.sum(dim=(0, 2, 3)) > 0).all()


def test_masks_of_zero_and_one(root):
    path = root / "scratch" / "fold1" / "masks" / "heart" / "JPCLN001.gif"
    Image.fromarray(in_box("heart").astype(np.uint8)).save(path)
    (case, _) = JSRT.read(root, structures=["heart"]).cases
    np.testing.assert_array_equal(case.load_labels(case), in_box("heart"))
    Image.new("L", (1024, 1024)).save(path)
    assert not case.load_labels(case).any()


def test_chosen_structures(root):
    data = JSRT.read(root, structures=["clavicle", "heart"])
    assert data.class_names == ("clavicle", "heart")
    case = data.cases[0]
    clavicle = in_box("left clavicle") | in_box("right clavicle")
    np.testing.assert_array_equal(case.load_labels(case), clavicle * 1 + in_box("heart") * 2)


def test_masks_that_are_joined_already_and_images_as_png(tmp_path):
    pixels = np.arange(256 * 256, dtype=np.uint32).reshape(256, 256).astype(np.uint16)
    (tmp_path / "Images").mkdir()
    Image.fromarray(pixels).save(tmp_path / "Images" / "JPCLN003.png")
    for structure, box in {
        "heart": JSRT_MASKS["heart"],
        "lung": JSRT_MASKS["left lung"],
        "clavicle": JSRT_MASKS["left clavicle"],
    }.items():
        write_mask(tmp_path / "Masks" / structure / "JPCLN003.gif", box)
    (case,) = JSRT.read(tmp_path).cases
    assert len(case.label_files) == 3
    # The image is the coarser one, and is not inverted.
    np.testing.assert_allclose(case.load_image(case), pixels / 65_535, atol=1e-6)
    packed = case.load_labels(case)
    assert packed.shape == (256, 256)
    # Of 4 x 4 pixels of a mask, half or more are inside: of rows 150 to 799, rows 37 to 199.
    inside = np.flatnonzero((packed & 2).any(axis=1))
    assert (inside[0], inside[-1]) == (37, 199)


def test_missing_files_are_told(root):
    masks = root / "scratch" / "fold1" / "masks"
    (masks / "left lung" / "JPCLN001.gif").unlink()
    (root / "All247images" / "JPCNN002.IMG").unlink()
    write_mask(root / "scratch" / "fold1" / "masks" / "heart" / "JPCLN009.gif", None)
    touch(root / "scr.zip.part")
    data = JSRT.read(root)
    assert data.cases == ()
    told = {problem.name: problem.reason for problem in data.problems}
    assert told.keys() == {"JPCLN001", "JPCNN002", "JPCLN009", "scr.zip.part"}
    assert "no mask of left lung" in told["JPCLN001"]
    assert "no image" in told["JPCNN002"] and "no image" in told["JPCLN009"]
    # Without the lungs, the first image has all masks.
    assert len(JSRT.read(root, structures="heart").cases) == 1


def test_image_in_both_formats(root):
    Image.new("L", (1024, 1024)).save(root / "All247images" / "JPCLN001.png")
    data = JSRT.read(root)
    assert data.cases[0].files[0].suffix == ".IMG"
    (problem,) = data.problems
    assert problem.name == "JPCLN001" and not problem.is_missing
    assert "JPCLN001.png is passed over" in problem.reason


def test_mask_of_other_shape_than_the_others(root):
    write_mask(root / "scratch" / "fold1" / "masks" / "heart" / "JPCLN001.gif", None, side=512)
    case = JSRT.read(root).cases[0]
    with pytest.raises(
        ValueError, match=r"JPCLN001\.gif has shape \(1024, 1024\) and .*\(512, 512"
    ):
        case.load_labels(case)


def test_masks_that_do_not_fit_the_image(root):
    for path in (root / "scratch" / "fold1").rglob("JPCLN001.gif"):
        Image.new("L", (1000, 1000)).save(path)
    case = JSRT.read(root).cases[0]
    message = r"JPCLN001\.IMG has shape \(2048, 2048\) and its masks have \(1000, 1000\)"
    for load in (case.load_image, case.load_labels):
        with pytest.raises(ValueError, match=message):
            load(case)


def test_mask_with_labels_beyond_inside(root):
    values = np.zeros((1024, 1024), np.uint8)
    values[:9], values[9:20] = 100, 255
    path = root / "scratch" / "fold1" / "masks" / "heart" / "JPCLN001.gif"
    Image.fromarray(values).save(path)
    case = JSRT.read(root).cases[0]
    with pytest.raises(ValueError, match=r"heart/JPCLN001\.gif has 3 grey levels, 0 to 255"):
        case.load_labels(case)


def test_damaged_images(root):
    path = root / "All247images" / "JPCLN001.IMG"
    case = JSRT.read(root).cases[0]
    jsrt_film("JPCLN001").astype("<u2").tofile(path)
    with pytest.raises(ValueError, match=r"JPCLN001\.IMG has values up to .* have 12 bits"):
        case.load_image(case)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(OSError, match=r"JPCLN001\.IMG has 1,000 bytes; .* has 8,388,608"):
        case.load_image(case)


def test_wrong_options(root):
    with pytest.raises(ValueError, match=r"no structure 'lungs'; .*Did you mean lung\?"):
        JSRT.read(root, structures=["lungs"])
    with pytest.raises(ValueError, match="must name one or more"):
        JSRT.read(root, structures=[])
    with pytest.raises(ValueError, match="must name one or more"):
        JSRT.read(root, structures=["heart", "heart"])
    with pytest.raises(ValueError, match="test_fold=3 is no fold of SCR; there are 1 and 2"):
        JSRT.read(root, test_fold=3)
    with pytest.raises(ValueError, match=r"no option 'structure'; .*Did you mean structures\?"):
        JSRT.read(root, structure="heart")
