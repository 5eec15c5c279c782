import nibabel
import numpy as np
import pytest
from PIL import Image

from unimiss_hf import MiTImageProcessor
from viewer.images import ViewedImage, read_image
from viewer.segmentations import Segment, Segmentation, save_segmentation, segment_image


@pytest.fixture
def volume(models, ct_path):
    image = read_image(str(ct_path), models.encoder.image_processor)
    return image, segment_image(models.segmenters[3], str(ct_path), image)


def test_a_volume_is_segmented_on_the_grid_that_it_is_seen_on(volume, models, ct_path):
    image, segmentation = volume
    labels = models.segmenters[3](ct_path)["segmentation"]
    assert segmentation.masks.shape == image.shape
    stored = np.asanyarray(labels.dataobj)
    np.testing.assert_array_equal(segmentation.masks, stored[::-1, ::-1].transpose())
    assert [segment.name for segment in segmentation.segments] == ["lungs", "heart"]
    for number, segment in enumerate(segmentation.segments, start=1):
        assert segment.voxels == np.count_nonzero(stored == number)
        assert segment.volume_ml == pytest.approx(segment.voxels * 20 / 1000)
    assert len({segment.colour for segment in segmentation.segments}) == 2


def test_the_file_of_a_volume_has_its_shape_and_affine(volume, ct_path, tmp_path):
    image, segmentation = volume
    path = save_segmentation(segmentation, tmp_path, image.name)
    assert path.name == "body_labels.nii.gz"
    saved, stored = nibabel.load(path), nibabel.load(ct_path)
    assert saved.shape == stored.shape
    np.testing.assert_allclose(saved.affine, stored.affine)
    np.testing.assert_array_equal(
        np.asanyarray(saved.dataobj)[::-1, ::-1].transpose(), segmentation.masks
    )


def test_masks_of_an_image_that_overlap_are_bits_of_its_file(models, xray_path, tmp_path):
    image = read_image(str(xray_path), models.encoder.image_processor)
    segmentation = segment_image(models.segmenters[2], str(xray_path), image)
    assert segmentation.masks.shape == (2, *image.shape)
    assert segmentation.masks.dtype == bool
    assert all(segment.volume_ml is None for segment in segmentation.segments)
    saved = np.asarray(Image.open(save_segmentation(segmentation, tmp_path, image.name)))
    for bit, mask in enumerate(segmentation.masks):
        np.testing.assert_array_equal((saved >> bit) & 1, mask[0])
        assert segmentation.segments[bit].voxels == mask.sum()


def test_masks_of_a_volume_that_overlap_are_a_fourth_axis(tmp_path):
    masks = [np.zeros((4, 5, 6), np.uint8), np.ones((4, 5, 6), np.uint8)]
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    answer = [nibabel.Nifti1Image(mask, affine) for mask in masks]
    segments = [Segment(name, "#000000", 1, 0.1) for name in ("a", "b")]
    segmentation = Segmentation(segments, np.zeros((2, 6, 5, 4), bool), answer)
    saved = nibabel.load(save_segmentation(segmentation, tmp_path, "ct.nii"))
    assert saved.shape == (4, 5, 6, 2)
    np.testing.assert_allclose(saved.affine, affine)
    np.testing.assert_array_equal(np.asanyarray(saved.dataobj), np.stack(masks, -1))


def test_more_overlapping_masks_than_a_png_holds_are_refused(tmp_path):
    masks = [Image.new("1", (4, 4))] * 17
    segmentation = Segmentation([], np.zeros((17, 1, 4, 4), bool), masks)
    with pytest.raises(ValueError, match="has 17"):
        save_segmentation(segmentation, tmp_path, "a.png")


class _Bright:
    """Answers like the pipeline, with a mask of what is bright, as each file stores it."""

    image_processor = MiTImageProcessor()

    def __call__(self, sources):
        (source,) = sources
        if source.endswith(".nii"):
            stored = nibabel.load(source)
            bright = (np.asanyarray(stored.dataobj) > 128).astype(np.uint8)
            answer = nibabel.Nifti1Image(bright, stored.affine)
        else:
            answer = Image.fromarray(np.asarray(Image.open(source)) > 128)
        info = [{"label_id": 0, "label": "bright", "voxels": 1, "volume_ml": None}]
        return [{"masks": [answer], "segments_info": info}]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_masks_are_turned_as_exif_turns_the_image(orientation, tmp_path):
    grey = np.random.default_rng(0).integers(0, 2, (6, 9), dtype=np.uint8) * 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(grey).save(tmp_path / "a.png", exif=exif)
    image = read_image(str(tmp_path / "a.png"), MiTImageProcessor())
    segmentation = segment_image(_Bright(), str(tmp_path / "a.png"), image)
    np.testing.assert_array_equal(segmentation.masks[0], image.values > 0.5)


@pytest.mark.parametrize("flat", [0, 1, 2])
def test_masks_of_a_volume_file_with_one_slice_are_turned_like_it(flat, tmp_path):
    shape = [7, 8, 9]
    shape[flat] = 1
    grey = np.random.default_rng(0).integers(0, 2, shape, dtype=np.uint8) * 255
    nibabel.save(nibabel.Nifti1Image(grey, np.diag([-1.0, 2.0, 3.0, 1.0])), tmp_path / "a.nii")
    image = read_image(str(tmp_path / "a.nii"), MiTImageProcessor())
    assert isinstance(image, ViewedImage) and not image.is_volume
    segmentation = segment_image(_Bright(), str(tmp_path / "a.nii"), image)
    np.testing.assert_array_equal(segmentation.masks[0], image.values > 0.5)
