"""What a finished run leaves opens in pipelines, for those who know nothing of its training."""

import nibabel
import numpy as np
import pytest
import torch
from transformers import AutoModelForSemanticSegmentation, pipeline

from finetuning_miniatures import SPACING
from layout_miniatures import stored
from unimiss_hf import (
    MiTForImageClassification,
    MiTForSemanticSegmentation,
    MiTImageProcessor,
)
from unimiss_hf.data.labelled.catalog import find_labelled_layout
from unimiss_hf.finetuning import Finetuner
from unimiss_hf.finetuning.prediction import WindowSettings
from unimiss_hf.finetuning.scoring import segment_case


def test_a_pipeline_segments_as_the_scores_were_made(finished, organs):
    run, outcome = finished
    folder = outcome.result.model
    segment = pipeline("medical-image-segmentation", str(folder))
    path = organs / "imagesTs" / "case_06_0000.nii.gz"
    found = segment(str(path), overlap=run.window_overlap)
    image = nibabel.load(path)
    assert [row["label"] for row in found["segments_info"]] == ["background", "liver", "tumour"]
    np.testing.assert_array_equal(found["segmentation"].affine, image.affine)

    data = find_labelled_layout(organs).read(organs)
    case = next(case for case in data.cases if case.files == (path,))
    scored = segment_case(
        AutoModelForSemanticSegmentation.from_pretrained(folder).eval(),
        MiTImageProcessor.from_pretrained(folder),
        data,
        case,
        WindowSettings(tuple(run.patch_size), run.window_overlap),
    )
    codes = "".join(nibabel.aff2axcodes(image.affine))
    wanted = stored(scored.predicted, codes, SPACING)
    assert scored.predicted.any()
    np.testing.assert_array_equal(found["segmentation"].dataobj, wanted.dataobj)


def test_a_pipeline_classifies_a_radiograph(of_images, chests):
    result = Finetuner(of_images(max_steps=1, validate_every=1)).run()
    classify = pipeline("medical-image-classification", str(result.model))
    found = classify(str(chests / "test" / "covid" / "covid_0.png"))
    assert {row["label"] for row in found} == {"normal", "pneumonia", "covid"}
    assert sum(row["score"] for row in found) == pytest.approx(1)


@pytest.mark.parametrize("num_axes", [2, 3])
def test_a_model_of_one_dimension_refuses_the_other(small_config, num_axes):
    size = (1, 1, 4, 32, 32)
    volumes, images = torch.zeros(size), torch.zeros(size[:2] + size[3:])
    known, unknown = (images, volumes) if num_axes == 2 else (volumes, images)
    small_config.trained_axes, small_config.num_labels = num_axes, 2
    for model_class in (MiTForImageClassification, MiTForSemanticSegmentation):
        model = model_class(small_config).eval()
        assert model(known).logits.isfinite().all()
        with pytest.raises(ValueError, match=r"was fine-tuned on .* alone"):
            model(unknown)
