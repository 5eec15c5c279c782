"""Masks of structures that overlap, as one map of bits."""

import numpy as np
import pytest
import torch

from unimiss_hf.data.labelled.label_bits import MOST_CLASSES, pack_masks, unpack_masks


@pytest.mark.parametrize("shape", [(5, 6), (3, 4, 5)])
@pytest.mark.parametrize("count", [1, 5, MOST_CLASSES])
def test_there_and_back(shape, count):
    masks = np.random.default_rng(0).random((count, *shape)) < 0.4
    packed = pack_masks(masks)
    assert packed.dtype == np.int64 and packed.shape == shape
    found = unpack_masks(torch.from_numpy(packed)[None], count)
    assert found.dtype == torch.float32
    np.testing.assert_array_equal(found[0], masks)


def test_bits_of_a_voxel():
    masks = [np.array([[0, 255]]), np.array([[0, 1]]), np.array([[True, False]])]
    assert pack_masks(masks).tolist() == [[4, 3]]


def test_masks_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"one shape; got \[\(2, 2\), \(2, 3\)\]"):
        pack_masks([np.zeros((2, 2)), np.zeros((2, 3))])


@pytest.mark.parametrize("count", [0, MOST_CLASSES + 1])
def test_no_masks_or_too_many(count):
    with pytest.raises(ValueError, match=f"Got {count} masks; wanted 1 to 63"):
        pack_masks([np.zeros((2, 2))] * count)


def test_a_bit_that_no_class_has():
    with pytest.raises(ValueError, match="holds 8, but 3 classes make 7 at most"):
        unpack_masks(torch.tensor([[[8, 1]]]), 3)
