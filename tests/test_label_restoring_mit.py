import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from image_files import RANDOM, grid, nifti, saved
from oriented_grids import stored_affine, turn
from unimiss_hf import MiTImageProcessor
from unimiss_hf.data.sample import find_sample_ct
from unimiss_hf.label_restoring_mit import label_map, mask_map
from unimiss_hf.plane_grids_mit import PlaneGrid
from unimiss_hf.volume_grids_mit import VolumeGrid

HEART = 51  # TotalSegmentator's index


def one_hot(labels: torch.Tensor, classes: int) -> torch.Tensor:
    """Scores `(batch, classes, ...)` whose highest is the label."""
    return torch.nn.functional.one_hot(labels, classes).movedim(-1, 1).float()


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return 2 * (first & second).sum() / (first.sum() + second.sum())


def ball(shape, spacing, radius) -> np.ndarray:
    """Labels (x, y, z) of a ball of a radius in mm, and of its upper half."""
    x, y, z = np.meshgrid(
        *[(np.arange(n) - (n - 1) / 2) * mm for n, mm in zip(shape, spacing, strict=True)],
        indexing="ij",
    )
    inside = x**2 + y**2 + z**2 < radius**2
    return inside.astype(np.uint8) + (inside & (z > 0))


@pytest.mark.parametrize(
    ("codes", "angles"), [("RAS", (0, 0, 0)), ("LPS", (0.2, -0.1, 0.3)), ("SLA", (0, 0.4, 0))]
)
@pytest.mark.parametrize("volume_size", [None, {"depth": 50, "height": 40, "width": 45}])
def test_labels_of_an_oblique_anisotropic_flipped_volume_come_back(
    tmp_path, codes, angles, volume_size
):
    spacing = (0.8, 0.9, 2.5)
    labels = ball((60, 50, 22), spacing, 18)
    affine = stored_affine(codes, spacing, angles)
    image = nifti(RANDOM.integers(-1000, 1000, labels.shape).astype(np.int16), affine)
    path = saved(image, tmp_path / "ct.nii.gz")
    maps = saved(nifti(labels, affine), tmp_path / "labels.nii.gz")
    processor = MiTImageProcessor(spacing=(1.2, 1.2, 1.2), volume_size=volume_size)
    batch = processor(path, segmentation_maps=maps, return_tensors="pt")
    assert (
        batch["labels"].shape == batch["pixel_values"].shape[:1] + batch["pixel_values"].shape[2:]
    )
    (answer,) = processor.post_process_semantic_segmentation(one_hot(batch["labels"], 3), batch)
    restored = np.asarray(answer.dataobj)
    assert restored.shape == labels.shape
    assert restored.dtype == np.uint8
    np.testing.assert_array_equal(answer.affine, nibabel.load(path).affine)
    assert nibabel.aff2axcodes(answer.affine) == nibabel.aff2axcodes(affine)
    for label in (1, 2):
        assert dice(restored == label, labels == label) > 0.93
    # nowhere further off than one voxel: the neighbourhood of each voxel has its label
    shifts = [(dx, dy, dz) for dx in (-1, 0, 1) for dy in (-1, 0, 1) for dz in (-1, 0, 1)]
    near = np.zeros(labels.shape, dtype=bool)
    for shift in shifts:
        near |= restored == np.roll(labels, shift, (0, 1, 2))
    assert near.all()
    again = nibabel.load(saved(answer, tmp_path / "answer.nii.gz"))
    np.testing.assert_array_equal(np.asarray(again.dataobj), restored)
    np.testing.assert_allclose(again.affine, affine, atol=1e-5)


def test_the_heart_of_the_sample_ct_comes_back():
    """The CT is flipped (LAS) and anisotropic (2.5 x 0.7 x 0.7 mm); here it is oblique too."""
    path = find_sample_ct()
    stored = nibabel.load(path.with_name("mask.nii.gz"))
    oblique = np.eye(4)
    oblique[:3, :3] = turn((0.1, -0.15, 0.2))
    affine = oblique @ stored.affine
    heart = np.asarray(stored.dataobj) == HEART
    labels = nibabel.Nifti1Image(heart.astype(np.uint8), affine)
    ct = nibabel.Nifti1Image(np.asarray(nibabel.load(path).dataobj), affine)
    processor = MiTImageProcessor(spacing=(1.5, 1.5, 1.5))
    batch = processor(ct, segmentation_maps=labels, return_tensors="pt")
    (answer,) = processor.post_process_semantic_segmentation(one_hot(batch["labels"], 2), batch)
    assert dice(np.asarray(answer.dataobj) == 1, heart) > 0.99
    np.testing.assert_array_equal(answer.affine, affine)


def test_scores_are_interpolated_before_the_class_is_chosen():
    scores = torch.tensor([[[[0.0, 1.0]]], [[[0.8, 0.0]]]])  # the border lies at 4/9 of the way
    native = VolumeGrid.native((18, 1, 1)).resized((1, 1, 2))
    assert label_map(scores, native)[0, 0].tolist() == [1] * 8 + [0] * 10


def test_scores_of_another_resolution_cover_what_was_prepared():
    labels = np.zeros((10, 12, 14), dtype=np.int64)
    labels[4:] = 1  # a plane, and a column of which interpolation rounds no edge
    labels[:, :, 8:] = 2
    native = VolumeGrid.native(labels.shape[::-1])
    coarse = torch.from_numpy(labels[::2, ::2, ::2])
    restored = label_map(one_hot(coarse[None], 3)[0], native)
    assert (restored != labels).mean() < 0.01
    np.testing.assert_array_equal(restored[:, :, 8:], 2)
    np.testing.assert_array_equal(restored[:, 0, :6], labels[:, 0, :6])


def test_what_was_cropped_away_is_background():
    native = VolumeGrid.native((4, 4, 4)).cropped((1, 0, 0), (2, 4, 4))
    labels = label_map(torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1).expand(2, 2, 4, 4), native)
    assert labels.any((1, 2)).tolist() == [False, True, True, False]


def test_one_score_stands_for_one_class():
    native = VolumeGrid.native((3, 1, 1))
    assert label_map(torch.tensor([[[[-1.0, 0.0, 2.0]]]]), native).ravel().tolist() == [0, 0, 1]


@pytest.mark.parametrize(("classes", "dtype"), [(256, np.uint8), (300, np.int16)])
def test_the_type_holds_all_classes(classes, dtype):
    scores = torch.zeros(classes, 1, 1, 2)
    scores[classes - 1] = 1
    labels = label_map(scores, VolumeGrid.native((2, 1, 1)))
    assert labels.dtype == dtype
    assert (labels == classes - 1).all()


def test_refuses_scores_of_another_dimension():
    with pytest.raises(ValueError, match=r"4 axes, \(classes, depth, height, width\).*\(2, 4, 4\)"):
        label_map(torch.zeros(2, 4, 4), VolumeGrid.native((4, 4, 4)))


def test_masks_overlap_where_their_scores_do():
    scores = torch.tensor([[[[2.0, -1.0]]], [[[0.5, 1.5]]]])
    native = VolumeGrid.native((4, 1, 1)).resized((1, 1, 2)).cropped((0, 0, 0), (1, 1, 2))
    masks = mask_map(scores, native)  # places -0.25, 0.25, 0.75 and 1.25
    assert masks.dtype == bool
    assert masks.shape == (2, 1, 1, 4)
    assert masks[:, 0, 0].tolist() == [[True, True, False, False], [True] * 4]
    sure = mask_map(scores, native, threshold=0.7)  # a score of 0.847
    assert sure[:, 0, 0].tolist() == [[True, True, False, False], [False, False, True, True]]


def test_no_mask_reaches_what_was_cropped_away():
    native = VolumeGrid.native((4, 4, 4)).cropped((1, 0, 0), (2, 4, 4))
    masks = mask_map(torch.ones(3, 2, 4, 4), native)
    assert masks.any((2, 3)).tolist() == [[False, True, True, False]] * 3


@pytest.mark.parametrize("threshold", [0, 1, -0.5, 2])
def test_refuses_thresholds_that_are_no_probability(threshold):
    with pytest.raises(ValueError, match=f"threshold is {threshold}; wanted a probability"):
        mask_map(torch.ones(1, 2, 4, 4), VolumeGrid.native((4, 4, 2)), threshold)


@pytest.mark.parametrize("shift", [-2, 1, 3])
def test_a_shifted_grid_of_the_same_length_is_no_copy(shift):
    """Cut on one side and filled up on the other, so that lengths agree and places do not."""
    native = VolumeGrid.native((6, 6, 6)).cropped((0, shift, 0), (6, 6, 6))
    labels = torch.arange(6).reshape(1, 6, 1).expand(6, 6, 6)
    restored = label_map(one_hot(labels[None], 6)[0], native)
    expected = [row - shift if 0 <= row - shift < 6 else 0 for row in range(6)]
    assert restored[0, :, 0].tolist() == expected


def test_an_image_larger_than_a_block_is_restored_row_by_row(monkeypatch):
    scores, native = torch.randn(3, 20, 24), PlaneGrid((150, 130), (20, 24))
    at_once = label_map(scores, native)
    monkeypatch.setattr("unimiss_hf.label_restoring_mit._BLOCK", 3 * 130 * 7)
    np.testing.assert_array_equal(label_map(scores, native), at_once)


class TestKinds:
    """Each kind of input gives its own kind of label map."""

    processor = MiTImageProcessor(image_size=None, spacing=None)

    def answer(self, source, **settings):
        batch = self.processor(source, return_tensors="pt", **settings)
        labels = (batch["pixel_values"][:, 0] > batch["pixel_values"].median()).long()
        return self.processor.post_process_semantic_segmentation(one_hot(labels, 2), batch)[0]

    @pytest.fixture
    def film(self):
        """White at the upper left."""
        film = np.zeros((20, 24), dtype=np.uint8)
        film[:10, :12] = 255
        return film

    def test_image_files_and_pil_images(self, tmp_path, film):
        Image.fromarray(film).save(tmp_path / "film.png")
        for source in (tmp_path / "film.png", Image.fromarray(film)):
            answer = self.answer(source)
            assert answer.mode == "L"
            np.testing.assert_array_equal(np.asarray(answer) * 255, film)

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_an_image_stored_on_its_side(self, tmp_path, film, orientation):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(film).save(tmp_path / "film.png", exif=exif)
        answer = np.asarray(self.answer(tmp_path / "film.png"))
        assert answer.shape == film.shape
        np.testing.assert_array_equal(answer * 255, film)

    def test_masks_are_of_the_same_kinds(self, tmp_path, film):
        Image.fromarray(film).save(tmp_path / "film.png")
        volume = nifti(np.kron(grid(4, 4, 4), np.ones((2, 2, 2))).astype(np.int16))
        for source, kind, dtype in (
            (tmp_path / "film.png", Image.Image, bool),
            (film / 255, np.ndarray, bool),
            (torch.from_numpy(film / 255), torch.Tensor, torch.bool),
            (saved(volume, tmp_path / "ct.nii.gz"), nibabel.Nifti1Image, np.uint8),
        ):
            batch = self.processor(source, return_tensors="pt")
            bright = batch["pixel_values"] > batch["pixel_values"].median()
            scores = torch.cat([bright, ~bright], dim=1) * 2.0 - 1
            answers = self.processor.post_process_multi_label_segmentation(scores, batch)
            assert len(answers) == 1 and len(answers[0]) == 2
            (expected,) = self.processor.post_process_semantic_segmentation(scores.flip(1), batch)
            for mask, wanted in zip(answers[0], (1, 0), strict=True):
                assert isinstance(mask, kind)
                values = getattr(mask, "dataobj", mask)
                values = values if isinstance(values, torch.Tensor) else np.asarray(values)
                assert values.dtype == dtype
                label = np.asarray(getattr(expected, "dataobj", expected)) == wanted
                np.testing.assert_array_equal(np.asarray(values).astype(bool), label)

    def test_arrays_and_tensors(self, film):
        for source in (film / 255, torch.from_numpy(film / 255)):
            answer = self.answer(source)
            assert type(answer) is type(source)
            np.testing.assert_array_equal(np.asarray(answer) * 255, film)
        volume = np.kron(grid(4, 4, 4), np.ones((2, 2, 2)))
        answer = self.answer(volume, volume_size={"depth": 8, "height": 8, "width": 8})
        assert answer.shape == volume.shape

    @pytest.mark.parametrize("codes", ["RAS", "LPS", "RSA", "PSR"])
    @pytest.mark.parametrize("flat", [0, 1, 2])
    def test_a_volume_file_with_one_slice(self, tmp_path, codes, flat):
        shape = [16, 16, 16]
        shape[flat] = 1
        voxels = grid(*shape)
        voxels[:1], voxels[:, -1:] = 2000, 2000
        image = nifti(voxels, stored_affine(codes, (1, 1, 2), (0.1, 0, 0.2)))
        with pytest.warns(UserWarning, match="one slice"):
            answer = self.answer(saved(image, tmp_path / "slice.nii.gz"))
        assert answer.shape == tuple(shape)
        np.testing.assert_allclose(answer.affine, image.affine, atol=1e-6)
        np.testing.assert_array_equal(np.asarray(answer.dataobj), voxels > np.median(voxels))

    def test_axes_of_length_one_stay(self, tmp_path):
        image = nifti(grid(6, 5, 4)[..., None])
        assert self.answer(saved(image, tmp_path / "ct.nii")).shape == (6, 5, 4, 1)

    def test_nifti_2_and_header_codes_stay(self, tmp_path):
        image = nibabel.Nifti2Image(grid(6, 5, 4), np.diag([1, 1, 2, 1.0]))
        image.set_sform(image.affine, code="mni")
        image.set_qform(image.affine, code="aligned")
        image.header.set_slope_inter(2, -1000)
        image.header["cal_max"] = 1000
        answer = self.answer(saved(image, tmp_path / "ct.nii"))
        assert isinstance(answer, nibabel.Nifti2Image)
        assert int(answer.header["sform_code"]) == 4
        assert int(answer.header["qform_code"]) == 2
        again = nibabel.load(saved(answer, tmp_path / "labels.nii"))
        assert set(np.unique(np.asarray(again.dataobj))) == {0, 1}
        assert again.header["cal_max"] == 0

    def test_other_volume_files_come_back_as_nifti(self, tmp_path):
        image = nibabel.MGHImage(grid(6, 5, 4), np.diag([1, -1, 2, 1.0]))
        answer = self.answer(saved(image, tmp_path / "ct.mgz"))
        assert isinstance(answer, nibabel.Nifti1Image)
        np.testing.assert_array_equal(answer.affine, image.affine)
        assert int(answer.header["sform_code"]) == 1
