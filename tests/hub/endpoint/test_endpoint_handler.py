"""What a handler answers, in this process: as the pipeline does, in JSON; and what it refuses."""

import base64
import gzip
import io
import json
import tempfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from inference_server import load_handler
from PIL import Image
from transformers import pipeline

from dicom_files import write_series


@pytest.fixture(scope="module")
def handlers(endpoint_folders):
    return {name: load_handler(folder) for name, folder in endpoint_folders.items()}


@pytest.fixture(scope="module")
def pipelines(endpoint_folders, handlers):
    return {
        name: pipeline(handlers[name].task, str(folder), device="cpu")
        for name, folder in endpoint_folders.items()
    }


@pytest.fixture
def ask(handlers):
    """Ask a handler; what it answers has been through JSON, which has no NaN."""

    def ask(name, inputs, **parameters):
        answer = handlers[name]({"inputs": inputs, "parameters": parameters})
        return json.loads(json.dumps(answer, allow_nan=False))

    return ask


def opened(text):
    """The NIfTI image of an answer."""
    return nibabel.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(text)))


def masks_of(answer):
    return {
        entry["label"]: np.asarray(Image.open(io.BytesIO(base64.b64decode(entry["mask"]))))
        for entry in answer
    }


def test_the_task_is_that_of_the_class_in_the_config(handlers):
    assert {name: handler.task for name, handler in handlers.items()} == {
        "features": "medical-feature-extraction",
        "classification": "medical-image-classification",
        "segmentation": "medical-image-segmentation",
        "overlapping": "medical-image-segmentation",
    }


@pytest.mark.parametrize("kind", ["png", "jpg", "tif", "bmp", "16.png"])
def test_pictures_are_classified_as_the_pipeline_does(ask, pipelines, files, kind):
    image = Image.open(io.BytesIO(files[kind]))
    assert ask("classification", files[kind]) == pipelines["classification"](image)
    assert ask("classification", image, top_k=1) == pipelines["classification"](image, top_k=1)


@pytest.mark.parametrize("kind", ["nii", "nii.gz", "nii2", "mgh", "mgz"])
def test_volumes_are_told_by_their_content(ask, pipelines, files, volume, kind):
    expected = pipelines["features"](volume)["pooled"]
    # MGH has the voxels as floats and a float32 affine.
    np.testing.assert_allclose(ask("features", files[kind]), [expected], rtol=1e-5, atol=1e-6)


def test_base64_is_taken_as_text_as_a_data_url_and_as_a_file(ask, files):
    expected = ask("features", files["nii.gz"])
    text = base64.b64encode(files["nii.gz"]).decode()
    in_lines = base64.encodebytes(files["nii.gz"]).decode()
    for inputs in (text, {"file": text}, f"data:application/gzip;base64,{text}", in_lines):
        assert ask("features", inputs) == expected


def test_arrays_are_nested_lists(ask, pipelines, volume):
    voxels = np.asarray(volume.dataobj).T
    expected = pipelines["features"](voxels, source_spacing=(3, 1, 1))["pooled"]
    assert ask("features", voxels.tolist(), source_spacing=[3, 1, 1]) == [expected]


def test_features_of_patches(ask, pipelines, volume, files):
    expected = pipelines["features"](volume, patches=True)
    assert ask("features", files["nii"], patches=True) == expected


def test_a_label_map_lies_on_the_files_own_grid(ask, pipelines, volume, files):
    expected = pipelines["segmentation"](volume)
    answer = ask("segmentation", files["nii.gz"], output="nifti")
    found = opened(answer["segmentation"])
    np.testing.assert_array_equal(found.dataobj, expected["segmentation"].dataobj)
    np.testing.assert_array_equal(found.affine, volume.affine)
    assert answer["segments_info"] == expected["segments_info"]


def test_masks_that_overlap_are_one_file(ask, pipelines, volume, files):
    expected = pipelines["overlapping"](volume)
    found = opened(ask("overlapping", files["nii"])["segmentation"])
    assert found.shape == (*volume.shape, 3)
    for number, mask in enumerate(expected["masks"]):
        np.testing.assert_array_equal(found.dataobj[..., number], mask.dataobj)
    np.testing.assert_array_equal(found.affine, volume.affine)


def test_an_image_has_a_mask_for_each_class_found(ask, pipelines, grey_levels, files):
    image = Image.fromarray(grey_levels)
    labels = np.asarray(pipelines["segmentation"](image)["segmentation"])
    answer = ask("segmentation", files["png"])
    assert {entry["score"] for entry in answer} == {None}
    names = np.array(["air", "lung", "bone"])
    found = masks_of(answer)
    assert found.keys() == set(names[np.unique(labels)])
    for name, mask in found.items():
        np.testing.assert_array_equal(mask, 255 * (names[labels] == name))


def test_masks_of_an_image_may_overlap(ask, pipelines, grey_levels, files):
    masks = pipelines["overlapping"](Image.fromarray(grey_levels))["masks"]
    names = ("air", "lung", "bone")
    expected = {n: np.asarray(m) * 255 for n, m in zip(names, masks, strict=True) if m.getbbox()}
    found = masks_of(ask("overlapping", files["png"]))
    assert found.keys() == expected.keys()
    for name, mask in found.items():
        np.testing.assert_array_equal(mask, expected[name])


@pytest.mark.parametrize("shape", [(60, 64), (1, 60, 64), (60, 64, 1)])
def test_masks_of_a_flat_array_are_flat(ask, grey_levels, shape):
    array = (grey_levels / 255).reshape(shape).tolist()
    assert {mask.shape for mask in masks_of(ask("segmentation", array)).values()} == {(60, 64)}


@pytest.mark.parametrize("name", ["segmentation", "overlapping"])
def test_the_label_map_of_an_array_is_a_nifti_file_too(ask, pipelines, volume, name):
    voxels = np.asarray(volume.dataobj).T
    found = opened(ask(name, voxels[None, None].tolist(), source_spacing=[3, 1, 2])["segmentation"])
    assert found.header.get_zooms()[:3] == (2, 1, 3)
    result = pipelines[name](voxels, source_spacing=(3, 1, 2))
    expected = result["segmentation"] if name == "segmentation" else np.stack(result["masks"])
    np.testing.assert_array_equal(np.asarray(found.dataobj).T, expected)


def test_a_query_has_texts_that_stand_for_values(ask, files):
    given = ask("segmentation", files["nii"], spacing=[6, 3, 3], overlap=0.25, window="lung")
    texts = {"spacing": "[6, 3, 3]", "overlap": "0.25", "window": "lung"}
    assert ask("segmentation", files["nii"], **texts) == given
    assert given != ask("segmentation", files["nii"])


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("features", {"num_workers": 2}, "no parameter num_workers. There are window_size, over"),
        ("features", {"return_tensors": True}, "no parameter return_tensors"),
        ("classification", {"mirror": [0]}, "no parameter mirror. There are top_k, source_sp"),
        ("classification", {"top_k": "many"}, "top_k must be a positive number"),
        ("features", {"patches": "yes"}, "patches must be true or false; got the str yes"),
        ("segmentation", {"output": "png"}, 'output must be null or "nifti"; got the str png'),
        ("segmentation", {"overlap": "half"}, "overlap must be a number or a list of numbers"),
        ("segmentation", {"mirror": 1}, "mirror must be a list of whole numbers; got the int 1"),
        ("segmentation", {"window_size": [8, 1.5, 8]}, "window_size must be a list of whole"),
        ("segmentation", {"spacing": "fine"}, "spacing must be 3 positive mm"),
        ("segmentation", {"spacing": [0.01] * 3}, r"would have shape \(2700, 3600, 4000\)"),
        ("segmentation", {"source_spacing": [3, 1]}, "source_spacing must be 3 positive mm"),
        (
            "segmentation",
            {"volume_size": {"depth": 4096, "height": 4096, "width": 4096}},
            "too large: 68719476736 voxels in volume_size, and 134217728 are taken at most",
        ),
        (
            "features",
            {"image_size": {"height": 10**5, "width": 10**5}},
            "too large: 10000000000 pixels in image_size, and 67108864 are taken at most",
        ),
    ],
)
def test_parameters_that_cannot_be_are_told(ask, files, name, parameters, message):
    with pytest.raises(ValueError, match=message):
        ask(name, files["nii"], **parameters)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (None, "inputs must be a file as base64, .*; got the NoneType None"),
        ({"image": "abcd"}, "got the dict {'image'"),
        ("https://example.org/ct.nii.gz", "not base64 .*URLs and paths are not opened"),
        ("/etc/hostname", r"base64|no known kind"),
        ("data:image/png,abcd", "must be base64; got one that starts with data:image/png"),
        ("", "Nothing came. Send a PNG, "),
        ([[1, 2], [3]], "rows differ in length"),
        (["aGVsbG8=", "aGVsbG8="], "A list is one array; send a request for each"),
        ([[0.5, 2.0], [1.0, 0.0]], "floats in \\[0, 1\\]"),
        ([], "empty: its shape is"),
    ],
)
def test_inputs_that_cannot_be_are_told(ask, inputs, message):
    with pytest.raises(ValueError, match=message):
        ask("features", inputs)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "this one has the list"),
        ({}, r"this one has \[\]"),
        ({"inputs": "", "options": {}}, r"this one has \['inputs', 'options'\]"),
        ({"inputs": "", "parameters": [1]}, "parameters must be an object with names"),
    ],
)
def test_requests_of_another_form_are_told(handlers, data, message):
    with pytest.raises(ValueError, match=message):
        handlers["features"](data)


def test_an_image_has_no_nifti_file(ask, files):
    with pytest.raises(ValueError, match="is no NIfTI file; leave output away"):
        ask("segmentation", files["png"], output="nifti")


def test_a_model_that_gives_no_numbers_is_told(endpoint_folders, files):
    handler = load_handler(endpoint_folders["features"])
    with torch.no_grad():
        for weight in handler.pipeline.model.parameters():
            weight.fill_(torch.nan)
    with pytest.raises(ValueError, match="not finite"):
        handler({"inputs": files["png"]})


def test_messages_name_no_folders_and_no_copy_is_left(ask, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (path, *_) = write_series(tmp_path / "given", np.zeros((4, 40, 40)), RescaleType="US")
    with pytest.raises(ValueError, match=r"^input\.dcm is a CT slice with RescaleType 'US'"):
        ask("features", path.read_bytes())
    assert [entry.name for entry in tmp_path.iterdir()] == ["given"]


# Pillow warns of images that are as large as half the bound.
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_the_environment_replaces_bounds(endpoint_folders, files, monkeypatch):
    monkeypatch.setenv("UNIMISS_MAX_PIXELS", "3839")
    monkeypatch.setenv("UNIMISS_MAX_VOXELS", "12959")
    handler = load_handler(endpoint_folders["features"])
    with pytest.raises(ValueError, match=r"too large: 3840 pixels .* 3839 are taken"):
        handler({"inputs": files["png"]})
    with pytest.raises(ValueError, match=r"12960 voxels \(40 x 36 x 9\), and 12959 are taken"):
        handler({"inputs": files["nii"]})
    monkeypatch.setenv("UNIMISS_MAX_AT_ONCE", "many")
    with pytest.raises(ValueError, match="UNIMISS_MAX_AT_ONCE must be a positive whole number"):
        load_handler(endpoint_folders["features"])


def test_a_folder_without_a_model_of_a_known_class_is_told(handlers, tmp_path):
    handler_class = type(handlers["features"])
    with pytest.raises(FileNotFoundError, match=r"no .*config\.json"):
        handler_class(tmp_path)
    Path(tmp_path / "config.json").write_text('{"architectures": ["BertModel"]}')
    with pytest.raises(ValueError, match="architecture BertModel; wanted one of MiTForImage"):
        handler_class(tmp_path)
