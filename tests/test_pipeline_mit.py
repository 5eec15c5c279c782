import datasets
import nibabel
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset
from transformers import pipeline

from dicom_files import write_radiograph, write_series
from opening_folders import SMALL
from small_pyramid import SMALLEST_PYRAMID
from unimiss_hf import (
    MiTConfig,
    MiTForImageClassification,
    MiTForPreTraining,
    MiTForSemanticSegmentation,
    MiTImageProcessor,
    MiTModel,
)
from unimiss_hf.sliding_windows_mit import predict_logits

TASKS = {
    "medical-feature-extraction": MiTForPreTraining,
    "medical-image-classification": MiTForImageClassification,
    "medical-image-segmentation": MiTForSemanticSegmentation,
}


@pytest.fixture(scope="module")
def config():
    return MiTConfig(**SMALLEST_PYRAMID, id2label={0: "air", 1: "lung", 2: "bone"})


@pytest.fixture(scope="module")
def folders(config, tmp_path_factory):
    """A saved folder for each task."""
    torch.manual_seed(0)
    folders = {}
    for task, model_class in TASKS.items():
        folders[task] = tmp_path_factory.mktemp(task)
        model_class(config).save_pretrained(folders[task])
        MiTImageProcessor().save_pretrained(folders[task])
    return folders


@pytest.fixture(scope="module")
def open_pipeline(folders):
    def open_pipeline(task, folder_of=None, **parameters):
        return pipeline(task, folders[folder_of or task], device="cpu", **parameters)

    return open_pipeline


@pytest.fixture(scope="module")
def extract(open_pipeline):
    return open_pipeline("medical-feature-extraction", **SMALL)


@pytest.fixture(scope="module")
def segment(open_pipeline):
    return open_pipeline("medical-image-segmentation")


@pytest.fixture(scope="module")
def voxels():
    """HU of a volume (x, y, z)."""
    return np.random.default_rng(0).integers(-1000, 500, (40, 36, 9)).astype(np.int16)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, voxels):
    """One input of each kind, by its name."""
    folder, random = tmp_path_factory.mktemp("inputs"), np.random.default_rng(1)
    affine = np.diag([-1.0, 1.0, 3.0, 1.0])
    grey = random.integers(0, 255, (60, 64), np.uint8)
    Image.fromarray(grey).save(folder / "xray.png")
    nibabel.save(nibabel.Nifti1Image(voxels, affine), folder / "ct.nii.gz")
    np.save(folder / "ct.npy", voxels.T.astype(np.float32))
    slices = write_series(folder / "series", voxels.T)
    return {
        "PNG": folder / "xray.png",
        "NIfTI": str(folder / "ct.nii.gz"),
        "DICOM radiograph": write_radiograph(folder / "xray.dcm", grey.astype(np.uint16) * 16),
        "folder of slices": folder / "series",
        "list of slices": slices,
        "npy": folder / "ct.npy",
        "PIL": Image.fromarray(grey),
        "nibabel": nibabel.Nifti1Image(voxels, affine),
        "array 2D": grey,
        "array 3D": voxels.T.astype(np.float32),
        "tensor": torch.from_numpy(voxels.T.astype(np.float32)),
    }


def assert_same(found, expected):
    """Compare results of feature extraction, to rounding."""
    np.testing.assert_allclose(found["pooled"], expected["pooled"], rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------------ inputs of all kinds


def test_one_input_of_each_kind_gives_one_result_and_a_list_gives_a_list(extract, inputs):
    single = {kind: extract(source) for kind, source in inputs.items()}
    assert all(isinstance(result, dict) for result in single.values())
    together = extract(list(inputs.values()))
    for found, expected in zip(together, single.values(), strict=True):
        assert_same(found, expected)
    for same in (
        ("PNG", "PIL", "array 2D"),
        ("NIfTI", "nibabel"),
        ("folder of slices", "list of slices"),
        ("npy", "array 3D", "tensor"),
    ):
        for kind in same:
            assert_same(single[kind], single[same[0]])


def test_a_list_of_one_gives_a_list_of_one(extract, inputs):
    (result,) = extract([inputs["PNG"]])
    assert_same(result, extract(inputs["PNG"]))
    assert extract([]) == []


def test_batches_of_mixed_inputs_give_what_single_ones_give(extract, inputs):
    mixed = [inputs[kind] for kind in ("PNG", "NIfTI", "array 2D", "nibabel", "npy")]
    single = extract(mixed)
    for batch_size in (2, 8):
        for found, expected in zip(extract(mixed, batch_size=batch_size), single, strict=True):
            assert_same(found, expected)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_streams_give_iterators(extract, inputs, num_workers):
    class Images(Dataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            return inputs["array 2D"] if index % 2 else inputs["array 3D"]

    kinds = ("array 3D", "array 2D", "array 3D")
    expected = [extract(inputs[kind]) for kind in kinds]
    stream = (inputs[kind] for kind in kinds)
    for results in (
        extract(Images(), batch_size=2, num_workers=num_workers),
        extract(stream, batch_size=2),
        extract(iter([inputs[kind] for kind in kinds])),
    ):
        assert not isinstance(results, list)
        for found, wanted in zip(results, expected, strict=True):
            assert_same(found, wanted)


def test_the_column_of_a_data_set_is_a_list(extract, inputs):
    images = datasets.Dataset.from_dict({"image": [str(inputs["PNG"])] * 2})
    images = images.cast_column("image", datasets.Image())
    for found in extract(images["image"]):
        assert_same(found, extract(inputs["PNG"]))


# --------------------------------------------------------------------------------- parameters


def test_the_spacing_of_volumes_leaves_radiographs_alone(extract, inputs):
    volume, image = extract([inputs["array 3D"], inputs["PNG"]], source_spacing=(3, 1, 1))
    assert_same(image, extract(inputs["PNG"]))
    assert_same(volume, extract(inputs["array 3D"], source_spacing=(3, 1, 1)))


def test_settings_of_the_processor_are_parameters(extract, inputs, config):
    model = extract.model
    sharper = {"height": 96, "width": 96}
    pixels = MiTImageProcessor(image_size=sharper)(inputs["PNG"], return_tensors="pt")
    with torch.no_grad():
        expected = model(**pixels).pooler_output[0]
    found = extract(inputs["PNG"], image_size=sharper, window_size=(96, 96), return_tensors=True)
    torch.testing.assert_close(found["pooled"], expected, rtol=1e-4, atol=1e-5)
    # It was for that call alone.
    assert extract(inputs["PNG"])["pooled"] != found["pooled"].tolist()


def test_source_spacing_is_that_of_arrays(extract, inputs):
    spacing = {"source_spacing": (3.0, 1.0, 1.0), "spacing": (3.0, 1.0, 1.5)}
    expected = extract(
        nibabel.Nifti1Image(inputs["nibabel"].get_fdata(), np.diag([1, 1, 3, 1])),
        spacing=spacing["spacing"],
    )
    assert_same(extract(inputs["array 3D"], **spacing), expected)


@pytest.mark.parametrize("task", TASKS)
def test_unknown_parameters_are_refused_by_name(task, open_pipeline, inputs):
    with pytest.raises(TypeError, match=r"no parameter spaces\. It has .*num_workers.* spacing"):
        open_pipeline(task, spaces=1)
    pipe = open_pipeline(task)
    with pytest.raises(TypeError, match="no parameter timeout"):
        pipe(inputs["PNG"], timeout=1)


def test_bad_inputs_are_named(extract, inputs, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(OSError, match=r"broken\.png"):
        extract([inputs["PNG"], tmp_path / "broken.png"])


def test_the_model_is_put_into_evaluation_mode(config):
    model = MiTModel(config).train()
    pipeline("medical-feature-extraction", model=model, image_processor=MiTImageProcessor())
    assert not model.training


# ---------------------------------------------------------------------------------- features


def test_features_are_the_models(extract, inputs):
    batch = MiTImageProcessor(**SMALL)(inputs["NIfTI"], return_tensors="pt")
    with torch.no_grad():
        output = extract.model(**batch)
    found = extract(inputs["NIfTI"], patches=True, return_tensors=True)
    torch.testing.assert_close(found["pooled"], output.pooler_output[0])
    torch.testing.assert_close(found["patches"], output.last_hidden_state[0, 1:])
    assert found["shape"] == (1, 1, 1)
    listed = extract(inputs["NIfTI"], patches=True)
    assert listed["pooled"] == found["pooled"].tolist()
    assert listed["patches"] == found["patches"].tolist()
    assert listed["shape"] == [1, 1, 1]


def test_large_volumes_go_through_windows(extract, inputs):
    whole = {"volume_size": {"depth": 16, "height": 64, "width": 96}, "patches": True}
    found = extract(inputs["NIfTI"], **whole)
    assert found["shape"] == [1, 2, 3]
    assert len(found["patches"]) == 6
    other = extract(inputs["NIfTI"], **whole, window_size=(16, 64, 96))
    assert other["pooled"] != pytest.approx(found["pooled"], abs=1e-4)
    with pytest.raises(ValueError, match=r"\(depth, height, width\)"):
        extract(inputs["NIfTI"], window_size=(64, 64))


def test_half_precision_gives_floats(open_pipeline, inputs):
    pipe = open_pipeline("medical-feature-extraction", dtype=torch.bfloat16, **SMALL)
    assert pipe.dtype == torch.bfloat16
    for result in pipe([inputs["PNG"], inputs["NIfTI"]]):
        assert np.isfinite(result["pooled"]).all()


# ------------------------------------------------------------------------------ classification


def test_labels_are_ranked(open_pipeline, inputs):
    classify = open_pipeline("medical-image-classification", **SMALL)
    results = classify([inputs["PNG"], inputs["NIfTI"]])
    for source, ranked in zip((inputs["PNG"], inputs["NIfTI"]), results, strict=True):
        batch = MiTImageProcessor(**SMALL)(source, return_tensors="pt")
        with torch.no_grad():
            scores = classify.model(**batch).logits.softmax(1)[0]
        expected = {"air": scores[0], "lung": scores[1], "bone": scores[2]}
        assert {entry["label"] for entry in ranked} == expected.keys()
        assert all(
            entry["score"] == pytest.approx(float(expected[entry["label"]]), abs=1e-5)
            for entry in ranked
        )
        assert [e["score"] for e in ranked] == sorted((e["score"] for e in ranked), reverse=True)
    assert classify(inputs["PNG"], top_k=1) == results[0][:1]


def test_a_model_without_labels_is_refused(config, inputs):
    for model_class in (MiTModel, MiTForPreTraining):
        classify = pipeline(
            "medical-image-classification",
            model=model_class(config),
            image_processor=MiTImageProcessor(**SMALL),
        )
        with pytest.raises(TypeError, match="needs MiTForImageClassification"):
            classify(inputs["PNG"])


# -------------------------------------------------------------------------------- segmentation


def test_label_maps_come_from_other_processes_too(segment, inputs):
    kinds = ("NIfTI", "PNG")
    found = segment([inputs[kind] for kind in kinds], num_workers=2)
    for kind, result in zip(kinds, found, strict=True):
        expected = segment(inputs[kind])
        assert result["segments_info"] == expected["segments_info"]
        assert type(result["segmentation"]) is type(expected["segmentation"])


def test_label_maps_lie_on_the_inputs_own_grids(segment, inputs, voxels):
    kinds = ("PNG", "NIfTI", "folder of slices", "array 2D", "array 3D")
    results = dict(zip(kinds, segment([inputs[kind] for kind in kinds]), strict=True))
    maps = {kind: result["segmentation"] for kind, result in results.items()}
    assert isinstance(maps["PNG"], Image.Image) and maps["PNG"].size == (64, 60)
    assert isinstance(maps["NIfTI"], nibabel.Nifti1Image)
    assert maps["NIfTI"].shape == voxels.shape
    np.testing.assert_array_equal(maps["NIfTI"].affine, np.diag([-1.0, 1.0, 3.0, 1.0]))
    assert isinstance(maps["folder of slices"], nibabel.Nifti1Image)
    assert maps["array 2D"].shape == (60, 64)
    assert maps["array 3D"].shape == voxels.T.shape

    # voxels of 3 mm3; the series' slices lie 2.5 mm apart, its pixels are 0.8 x 0.7 mm
    volumes = {"NIfTI": 3.0, "folder of slices": 2.5 * 0.8 * 0.7}
    for kind, result in results.items():
        label_map = np.asarray(getattr(maps[kind], "dataobj", maps[kind]))
        for number, (segment_info, label) in enumerate(
            zip(result["segments_info"], ("air", "lung", "bone"), strict=True)
        ):
            assert (segment_info["label_id"], segment_info["label"]) == (number, label)
            assert segment_info["voxels"] == np.count_nonzero(label_map == number)
            if kind in volumes:
                ml = segment_info["voxels"] * volumes[kind] / 1000
                assert segment_info["volume_ml"] == pytest.approx(ml, rel=1e-4)
            else:
                assert segment_info["volume_ml"] is None


def test_the_spacing_of_an_array_gives_volumes(segment, inputs):
    result = segment(inputs["array 3D"], source_spacing=(3.0, 1.0, 2.0))
    for entry in result["segments_info"]:
        assert entry["volume_ml"] == pytest.approx(entry["voxels"] * 6 / 1000)


def test_batches_of_mixed_inputs_give_the_label_maps_of_single_ones(segment, inputs):
    kinds = ("PNG", "NIfTI", "array 2D", "nibabel", "array 3D")
    together = segment([inputs[kind] for kind in kinds], batch_size=4)
    for kind, found in zip(kinds, together, strict=True):
        expected = segment(inputs[kind])
        maps = [
            np.asarray(getattr(m, "dataobj", m))
            for m in (found["segmentation"], expected["segmentation"])
        ]
        assert type(found["segmentation"]) is type(expected["segmentation"])
        # Two classes may be equal to rounding in a voxel.
        assert np.mean(maps[0] == maps[1]) > 0.999


def test_label_maps_are_those_of_all_logits(segment, inputs):
    processor = MiTImageProcessor()
    for kind, options in (
        ("NIfTI", {"window_size": (8, 32, 32), "overlap": 0.25, "mirror": (0, 2)}),
        ("PNG", {"window_size": (64, 64), "mirror": (1,)}),
    ):
        batch = processor(inputs[kind], return_tensors="pt")
        found = segment(inputs[kind], **options)["segmentation"]
        options["window"] = options.pop("window_size")
        logits = predict_logits(segment.model, batch["pixel_values"], **options)
        (expected,) = processor.post_process_semantic_segmentation(logits, batch)
        maps = [np.asarray(getattr(m, "dataobj", m)) for m in (found, expected)]
        assert np.mean(maps[0] == maps[1]) > 0.999
    with pytest.raises(ValueError, match=r"mirror is \(2,\); wanted .* 0 \(height\), 1 \(width\)"):
        segment(inputs["PNG"], mirror=(2,))


def test_a_model_without_logits_is_refused(config, inputs):
    segment = pipeline(
        "medical-image-segmentation",
        model=MiTModel(config),
        image_processor=MiTImageProcessor(**SMALL),
    )
    for kind in ("PNG", "NIfTI"):
        with pytest.raises(TypeError, match="gives no logits"):
            segment(inputs[kind])


@pytest.fixture(scope="module")
def segment_overlapping(tmp_path_factory):
    """A pipeline whose model's classes may overlap."""
    torch.manual_seed(0)
    config = MiTConfig(
        **SMALLEST_PYRAMID,
        id2label={0: "heart", 1: "lungs"},
        problem_type="multi_label_classification",
    )
    folder = tmp_path_factory.mktemp("overlapping")
    MiTForSemanticSegmentation(config).save_pretrained(folder)
    MiTImageProcessor().save_pretrained(folder)
    return pipeline("medical-image-segmentation", folder, device="cpu")


def test_classes_that_overlap_have_a_mask_each(segment_overlapping, inputs, voxels):
    kinds = ("PNG", "NIfTI", "array 2D", "tensor")
    results = segment_overlapping([inputs[kind] for kind in kinds])
    shapes = {"PNG": (60, 64), "NIfTI": voxels.shape, "array 2D": (60, 64)}
    types = {
        "PNG": Image.Image,
        "NIfTI": nibabel.Nifti1Image,
        "array 2D": np.ndarray,
        "tensor": torch.Tensor,
    }
    for kind, result in zip(kinds, results, strict=True):
        assert result.keys() == {"masks", "segments_info"}
        masks = [np.asarray(getattr(mask, "dataobj", mask)) for mask in result["masks"]]
        assert all(isinstance(mask, types[kind]) for mask in result["masks"])
        assert all(mask.shape == shapes.get(kind, voxels.T.shape) for mask in masks)
        assert [entry["label"] for entry in result["segments_info"]] == ["heart", "lungs"]
        for mask, entry in zip(masks, result["segments_info"], strict=True):
            assert set(np.unique(mask)) <= {0, 1}
            assert entry["voxels"] == np.count_nonzero(mask)
            has_volume = kind == "NIfTI"
            volume = pytest.approx(entry["voxels"] * 3 / 1000) if has_volume else None
            assert entry["volume_ml"] == volume
    processor = MiTImageProcessor()
    for kind, result in zip(kinds, results, strict=True):
        batch = processor(inputs[kind], return_tensors="pt")
        logits = predict_logits(segment_overlapping.model, batch["pixel_values"])
        (expected,) = processor.post_process_multi_label_segmentation(logits, batch)
        for found, wanted in zip(result["masks"], expected, strict=True):
            pair = [np.asarray(getattr(mask, "dataobj", mask)) for mask in (found, wanted)]
            assert np.mean(pair[0] == pair[1]) > 0.999
    found = [np.asarray(mask) for result in results for mask in result["masks"]]
    assert any(mask.any() for mask in found) and not all(mask.all() for mask in found)


# ------------------------------------------------------------------- transformers' own pipelines


@pytest.mark.parametrize(
    ("task", "saved"),
    [
        *((task, task) for task in TASKS),
        ("image-feature-extraction", "medical-feature-extraction"),
        ("image-classification", "medical-image-classification"),
        ("image-segmentation", "medical-image-segmentation"),
    ],
)
def test_opening_asks_no_question(task, saved, open_pipeline, monkeypatch):
    asked = []
    monkeypatch.setattr("builtins.input", lambda question: asked.append(question) or "n")
    open_pipeline(task, saved)
    assert asked == []


@pytest.mark.parametrize("pool", [True, False])
def test_image_feature_extraction_takes_radiographs(open_pipeline, inputs, pool):
    extract = open_pipeline("image-feature-extraction", "medical-feature-extraction")
    found = extract([str(inputs["PNG"]), inputs["PIL"]], pool=pool)
    ours = open_pipeline("medical-feature-extraction")
    expected = ours(inputs["PNG"], patches=True, window_size=(224, 224))
    for result in found:
        rows = [expected["pooled"]] if pool else [[expected["pooled"], *expected["patches"]]]
        np.testing.assert_allclose(result, rows, rtol=1e-4, atol=1e-5)


def test_image_classification_takes_radiographs(open_pipeline, inputs):
    classify = open_pipeline("image-classification", "medical-image-classification")
    ours = open_pipeline("medical-image-classification")(inputs["PNG"])
    found = classify(str(inputs["PNG"]))
    assert [entry["label"] for entry in found] == [entry["label"] for entry in ours]
    assert found[0]["score"] == pytest.approx(ours[0]["score"], abs=1e-5)


def test_image_segmentation_takes_radiographs(open_pipeline, inputs):
    segment = open_pipeline("image-segmentation", "medical-image-segmentation")
    masks = segment(str(inputs["PNG"]))
    assert {entry["label"] for entry in masks} <= {"air", "lung", "bone"}
    covered = sum(np.asarray(entry["mask"], dtype=int) for entry in masks)
    assert covered.shape == (60, 64) and (covered == 255).all()


def test_what_concerns_loading_is_no_parameter(open_pipeline, inputs):
    offline = open_pipeline("medical-image-classification", local_files_only=True)
    usual = open_pipeline("medical-image-classification")
    assert offline(inputs["PNG"]) == usual(inputs["PNG"])
