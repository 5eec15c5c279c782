"""The answers of `MiTImageProcessor`: scores as labels and label maps."""

import numpy as np
import pytest
import torch
from transformers.utils import ModelOutput

from image_files import grid, nifti, saved
from unimiss_hf.image_processing_mit import MiTImageProcessor


class TestAnswers:
    def test_raw_inputs_serve_instead_of_the_batch(self, tmp_path):
        path = saved(nifti(grid(12, 10, 8), (1, 1, 3)), tmp_path / "a.nii.gz")
        film = np.zeros((6, 7))
        processor = MiTImageProcessor()
        scores = [torch.rand(2, 4, 5, 6), torch.rand(2, 3, 3)]
        answers = processor.post_process_semantic_segmentation(scores, [path, film], spacing=None)
        groups = processor([path, film], group_by_dimension=True, spacing=None)
        again = processor.post_process_semantic_segmentation(scores, groups)
        assert answers[0].shape == (12, 10, 8)
        np.testing.assert_array_equal(answers[0].dataobj, again[0].dataobj)
        np.testing.assert_array_equal(answers[1], again[1])

    def test_target_sizes_as_transformers_pipelines_give_them(self):
        scores = torch.zeros(2, 3, 4, 4)
        scores[:, 0, :, :2], scores[:, 2, :, 2:] = 1, 1
        processor = MiTImageProcessor()
        labels = processor.post_process_semantic_segmentation(scores, target_sizes=[(8, 8), (4, 6)])
        assert [tuple(item.shape) for item in labels] == [(8, 8), (4, 6)]
        assert labels[0][0].tolist() == [0, 0, 0, 0, 2, 2, 2, 2]
        plain = processor.post_process_semantic_segmentation(ModelOutput(logits=scores))
        assert plain[1].tolist() == [[0, 0, 2, 2]] * 4

    def test_numbers_must_agree(self):
        processor = MiTImageProcessor()
        batch = processor(np.zeros((8, 8)))
        with pytest.raises(ValueError, match="inputs: got 2 outputs for 1 inputs"):
            processor.post_process_semantic_segmentation(torch.zeros(2, 3, 8, 8), batch)
        with pytest.raises(ValueError, match="target_sizes: got 2 outputs for 1"):
            processor.post_process_semantic_segmentation(
                torch.zeros(2, 3, 8, 8), target_sizes=[(8, 8)]
            )
        with pytest.raises(ValueError, match="not both"):
            processor.post_process_semantic_segmentation(
                torch.zeros(1, 3, 8, 8), batch, target_sizes=[(8, 8)]
            )
        with pytest.raises(ValueError, match="got 2 outputs for 1 inputs"):
            processor.post_process_classification(torch.zeros(2, 3), batch)

    def test_masks_of_classes_that_overlap(self, tmp_path):
        path = saved(nifti(grid(12, 10, 8), (1, 1, 3)), tmp_path / "a.nii.gz")
        inputs = [path, np.zeros((6, 7))]
        processor = MiTImageProcessor()
        scores = [torch.rand(3, 4, 5, 6) - 0.5, torch.rand(2, 3, 3) - 0.5]
        restore = processor.post_process_multi_label_segmentation
        answers = restore(scores, inputs, spacing=None)
        again = restore(scores, processor(inputs, group_by_dimension=True, spacing=None))
        assert [len(masks) for masks in answers] == [3, 2]
        for masks, same in zip(answers, again, strict=True):
            for mask, other in zip(masks, same, strict=True):
                values = np.asarray(getattr(mask, "dataobj", mask))
                np.testing.assert_array_equal(values, getattr(other, "dataobj", other))
                assert 0 < values.mean() < 1
        assert not any(mask.any() for mask in restore(scores[1:], inputs[1:], threshold=0.9)[0])
        with pytest.raises(ValueError, match="inputs: got 1 outputs for 2 inputs"):
            restore(scores[:1], inputs)
        with pytest.raises(ValueError, match="threshold is 1"):
            restore(scores, inputs, threshold=1)

    def test_what_holds_no_logits_or_grids_is_told(self):
        processor = MiTImageProcessor()
        batch = processor(np.zeros((8, 8)))
        scores = np.random.default_rng(0).random((1, 3, 8, 8))
        answer = processor.post_process_semantic_segmentation(scores, batch)[0]
        np.testing.assert_array_equal(answer, scores[0].argmax(0))
        with pytest.raises(ValueError, match="no grids any more"):
            processor.post_process_semantic_segmentation(scores, dict(batch))
        for wrong in ((scores,), [], ModelOutput(pooler_output=torch.zeros(1, 4))):
            with pytest.raises(ValueError, match="Wanted the output of a segmentation model"):
                processor.post_process_semantic_segmentation(wrong, batch)

    def test_arrays_keep_their_axes(self):
        processor = MiTImageProcessor(image_size=None)
        for shape, labels in (
            ((1, 8, 9, 9), (1, 8, 9, 9)),
            ((9, 9, 1), (9, 9, 1)),
            ((3, 9, 9), (9, 9)),
        ):
            batch = processor(np.zeros(shape))
            size = batch["pixel_values"][0].shape[1:]
            (answer,) = processor.post_process_semantic_segmentation(
                torch.zeros(1, 2, *size), batch
            )
            assert answer.shape == labels

    def test_classification(self):
        processor = MiTImageProcessor()
        answers = processor.post_process_classification(
            ModelOutput(logits=torch.tensor([[0.0, 1.0], [3.0, 1.0]])),
            [np.zeros((8, 8)), np.zeros((8, 8))],
            id2label={0: "normal", 1: "covid"},
        )
        assert [answer[0]["label"] for answer in answers] == ["covid", "normal"]
