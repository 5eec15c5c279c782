import copy
import importlib
import pickle
import shutil
import sys
import warnings
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, PreTrainedConfig

import unimiss_hf
from image_files import RANDOM, grid, nifti, saved
from unimiss_hf.hounsfield_mit import AIR_HU, window_range
from unimiss_hf.image_processing_mit import MiTImageProcessor
from unimiss_hf.image_reading_mit import read_volume


class TestMiTImageProcessor:
    @pytest.fixture
    def files(self, tmp_path):
        Image.fromarray(RANDOM.integers(0, 255, (30, 32), dtype=np.uint8)).save(tmp_path / "a.png")
        saved(nifti(grid(12, 10, 8), (1, 1, 3)), tmp_path / "a.nii.gz")
        return tmp_path

    @pytest.mark.parametrize("kind", [str, Path, Image.open])
    def test_radiographs(self, files, kind):
        pixels = MiTImageProcessor()(kind(files / "a.png"), return_tensors="pt")["pixel_values"]
        assert pixels.shape == (1, 1, 224, 224)
        assert pixels.dtype == torch.float32
        assert 0 <= pixels.min() < pixels.max() <= 1

    @pytest.mark.parametrize("kind", [str, Path, nibabel.load])
    def test_volumes(self, files, kind):
        source = kind(files / "a.nii.gz")
        pixels = MiTImageProcessor()([source, source], return_tensors="np")["pixel_values"]
        assert pixels.shape == (2, 1, 8, 10, 12)
        assert pixels.dtype == np.float32
        np.testing.assert_allclose(pixels[1, 0] * 1024, read_volume(source), atol=1e-3)

    @pytest.mark.parametrize(
        ("shape", "wanted"),
        [
            ((30, 32), (1, 1, 30, 32)),
            ((1, 30, 32), (1, 1, 30, 32)),
            ((3, 30, 32), (1, 1, 30, 32)),
            ((30, 32, 1), (1, 1, 30, 32)),
            ((30, 32, 3), (1, 1, 30, 32)),
            ((4, 30, 32), (1, 1, 4, 30, 32)),
            ((30, 4, 8), (1, 1, 30, 4, 8)),
            ((1, 2, 30, 32), (1, 1, 2, 30, 32)),
            ((1, 1, 3, 30, 32), (1, 1, 3, 30, 32)),
            ((1, 8, 30, 3), (1, 1, 8, 30, 3)),
        ],
    )
    def test_the_dimension_is_read_from_an_array(self, shape, wanted):
        processor = MiTImageProcessor(image_size=None)
        for array in (np.full(shape, 0.5), torch.full(shape, 0.5, dtype=torch.bfloat16)):
            pixels = processor(array, return_tensors="pt")["pixel_values"]
            assert pixels.shape == wanted
            expected = 0.5 if pixels.ndim == 4 else 0.5 / 1024
            torch.testing.assert_close(pixels, torch.full(wanted, expected))

    @pytest.mark.parametrize(
        "shape",
        [
            (3, 30, 3),
            (1, 1, 1),
            (2, 30, 32),
            (30, 32, 4),
            (30, 32, 2),
            (8, 1, 30, 32),
            (1, 3, 30, 32),
            (1, 1, 30, 32),
            (2, 1, 8, 30, 32),
            (5,),
        ],
    )
    def test_refuses_ambiguous_arrays(self, shape):
        with pytest.raises(ValueError, match=r"several ways.* \(1, 1, depth, height, width\)"):
            MiTImageProcessor()(np.zeros(shape))

    def test_channels_last_and_first_agree(self):
        colours = RANDOM.random((30, 32, 3)).astype(np.float32)
        processor = MiTImageProcessor(image_size=None, num_channels=3)
        last = processor(colours, return_tensors="np")["pixel_values"]
        first = processor(colours.transpose(2, 0, 1), return_tensors="np")["pixel_values"]
        np.testing.assert_allclose(first, last, atol=1e-6)
        assert last.shape == (1, 3, 30, 32)
        np.testing.assert_allclose(last[0, 1], colours @ [0.299, 0.587, 0.114], atol=1e-6)

    def test_integers_are_divided_by_their_largest(self):
        processor = MiTImageProcessor(image_size=None)
        for dtype in (np.uint8, np.uint16, np.int16):
            grey = np.full((5, 6), np.iinfo(dtype).max, dtype=dtype)
            np.testing.assert_array_equal(processor(grey)["pixel_values"][0], np.ones((1, 5, 6)))

    @pytest.mark.parametrize(
        "image",
        [
            np.full((5, 6), 2.0),
            np.full((5, 6), -0.1),
            np.full((5, 6), np.nan),
            np.full((5, 6), 200, dtype=np.int64),
            np.full((5, 6), -1, dtype=np.int16),
            np.full((5, 6), 1j),
            np.zeros((0, 6)),
            np.full((8, 8, 8), np.inf),
        ],
    )
    def test_refuses_values_of_unknown_scale(self, image):
        with pytest.raises(ValueError, match=r"the given ndarray of shape \("):
            MiTImageProcessor()(image)

    def test_refuses_other_types(self):
        with pytest.raises(TypeError, match="b'image'"):
            MiTImageProcessor()(b"image")

    def test_resizing_is_antialiased_and_keeps_the_whole_image(self):
        board = (np.indices((64, 64)).sum(0) % 2).astype(np.float32)
        board[:, :16] = 1
        pixels = MiTImageProcessor(image_size={"height": 8, "width": 8})(board)["pixel_values"][0][
            0
        ]
        np.testing.assert_allclose(pixels[:, 0], 1)
        np.testing.assert_allclose(pixels[:, 3:], 0.5, atol=0.01)

    def test_warns_of_a_stretch_beyond_pretraining(self):
        processor = MiTImageProcessor(image_size={"height": 20, "width": 20})
        with pytest.warns(UserWarning, match="stretch"):
            processor(np.zeros((20, 30)))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            processor(np.zeros((30, 40)))
            processor(np.zeros((20, 30)), image_size=None)

    def test_volume_size_crops_and_pads_with_air_around_the_centre(self):
        volume = np.zeros((8, 10, 12))
        volume[4, 5, 6] = 512
        size = {"depth": 4, "height": 10, "width": 16}
        pixels = MiTImageProcessor(volume_size=size)(volume)["pixel_values"][0][0]
        assert pixels.shape == (4, 10, 16)
        assert pixels[2, 5, 8] == 0.5
        assert (pixels[..., :2] == AIR_HU / 1024).all()
        assert (pixels[..., -2:] == -1).all()
        assert (pixels[..., 2:-2] >= 0).all()

    def test_hounsfield_range_and_divisor(self):
        volume = np.linspace(-2000, 4000, 512).reshape(8, 8, 8)
        pixels = MiTImageProcessor()(volume)["pixel_values"][0]
        assert pixels.min() == -1
        assert pixels.max() == np.float32(3071 / 1024)
        raw = MiTImageProcessor()(volume, window=None, scaling=(0, 1))["pixel_values"][0]
        np.testing.assert_allclose(raw[0], volume, rtol=1e-6)
        assert volume.min() == -2000

    def test_source_spacing_of_arrays_and_files(self, files):
        processor = MiTImageProcessor()
        volume = np.zeros((8, 10, 12))
        shape = processor(volume, source_spacing=(6, 0.5, 2))["pixel_values"][0].shape
        assert shape == (1, 16, 5, 24)
        assert processor(volume)["pixel_values"][0].shape == (1, 8, 10, 12)
        from_file = processor(files / "a.nii.gz", source_spacing=(6, 0.5, 2))["pixel_values"][0]
        assert from_file.shape == shape
        native = processor(volume, source_spacing=(6, 0.5, 2), spacing=None)["pixel_values"][0]
        assert native.shape == (1, 8, 10, 12)
        with pytest.raises(ValueError, match="source_spacing"):
            processor(files / "a.png", source_spacing=(3, 1, 1))
        with pytest.raises(ValueError, match="source_spacing must be"):
            processor(volume, source_spacing=(3, 0, 1))

    def test_settings_are_the_processors_own(self):
        size = {"height": 16, "width": 16}
        processor, other = MiTImageProcessor(image_size=size), MiTImageProcessor()
        size["height"] = 99
        processor.to_dict()["image_size"]["height"] = 98
        MiTImageProcessor().image_size["height"] = 97
        assert processor.image_size == {"height": 16, "width": 16}
        assert other.image_size == MiTImageProcessor().image_size == {"height": 224, "width": 224}

    def test_messages_name_a_spacing_that_the_processor_takes(self, tmp_path):
        image = nifti(grid(), (0.001, 0.001, 0.002))
        image.header.set_xyzt_units("meter")
        with pytest.raises(ValueError, match=r"are in meter\. Give .* source_spacing="):
            MiTImageProcessor()(saved(image, tmp_path / "ct.nii"))
        batch = MiTImageProcessor()(tmp_path / "ct.nii", source_spacing=(6, 1, 1))
        assert batch["pixel_values"][0].shape == (1, 8, 5, 6)

    def test_refuses_an_absurd_size(self):
        with pytest.raises(ValueError, match=r"would have shape .* Check its spacing"):
            MiTImageProcessor()(nifti(grid(), (700, 700, 2500)), spacing=(0.1, 0.1, 0.1))

    def test_a_mask_of_an_array_is_not_lost(self):
        masked = np.ma.masked_greater(np.random.default_rng(0).random((8, 8)), 0.5)
        with pytest.raises(ValueError, match="filled"):
            MiTImageProcessor()(masked)

    def test_warnings_point_at_the_users_line(self):
        with pytest.warns(UserWarning, match="stretch") as caught:
            MiTImageProcessor()(np.zeros((20, 60)))
        assert caught[0].filename == __file__
        with pytest.warns(UserWarning, match="stretch"):  # a caller without a name, as exec has
            exec("process(image)", {"process": MiTImageProcessor(), "image": np.zeros((20, 60))})

    def test_refuses_batches_of_both_dimensions_or_of_none(self, files):
        with pytest.raises(ValueError, match=r"a\.png.*2D.*a\.nii\.gz.*3D.*separate calls"):
            MiTImageProcessor()([files / "a.png", files / "a.nii.gz"])
        with pytest.raises(ValueError, match="empty list"):
            MiTImageProcessor()([])

    def test_refuses_to_stack_unequal_sizes(self, files):
        inputs = [files / "a.nii.gz", np.zeros((8, 9, 9))]
        with pytest.raises(
            ValueError, match=r"1, 8, 10, 12\).*a\.nii\.gz.*1, 8, 9, 9\).*volume_size"
        ):
            MiTImageProcessor()(inputs, return_tensors="pt")
        listed = MiTImageProcessor()(inputs)["pixel_values"]
        assert [array.shape for array in listed] == [(1, 8, 10, 12), (1, 8, 9, 9)]
        with pytest.raises(ValueError, match="image_size"):
            MiTImageProcessor(image_size=None)(
                [np.zeros((8, 9)), np.zeros((8, 10))], return_tensors="np"
            )

    def test_refuses_unknown_names(self):
        with pytest.raises(TypeError, match=r"\['image_szie'\].*image_size"):
            MiTImageProcessor(image_szie=None)
        with pytest.raises(TypeError, match=r"\['size'\]"):
            MiTImageProcessor()(np.zeros((8, 8)), size=5)
        with pytest.raises(ValueError, match="tensor"):
            MiTImageProcessor()(np.zeros((8, 8)), return_tensors="tensors")

    @pytest.mark.parametrize(
        "setting",
        [
            {"image_size": {"height": True, "width": 8}},
            {"num_channels": True},
            {"num_channels": 1.0},
            {"image_size": 224},
            {"image_size": {"height": 224}},
            {"image_size": {"height": 224, "width": 0}},
            {"image_size": {"height": 224, "width": 1.5}},
            {"volume_size": {"height": 224, "width": 224}},
            {"num_channels": 2},
            {"spacing": (1, 1)},
            {"window": (100, 0)},
            {"window": (np.nan, 100)},
            {"window": 5},
            {"window": (1, 2, 3)},
            {"window": "brain"},
            {"grey_window": "bone"},
            {"grey_window": (1, -1)},
            {"scaling": "hu"},
            {"scaling": (0, 0)},
            {"scaling": None},
        ],
    )
    def test_refuses_invalid_settings(self, setting):
        (name,) = setting
        with pytest.raises(ValueError, match=rf"^{name} must be"):
            MiTImageProcessor(**setting)
        with pytest.raises(ValueError, match=rf"^{name} must be"):
            MiTImageProcessor()(np.zeros((8, 8)), **setting)


CHANGED = {
    "image_size": None,
    "num_channels": 3,
    "spacing": None,
    "grey_window": [2048.0, 4096.0],
    "window": None,
    "scaling": [158.58, 324.7],
    "volume_size": {"depth": 16, "height": 96, "width": 96},
}


class TestSaving:
    @pytest.mark.parametrize(
        "settings",
        [{}, CHANGED, {"spacing": (1, 2, 3), "window": (40, 400), "grey_window": "minmax"}],
    )
    def test_all_settings_survive(self, tmp_path, settings):
        processor = MiTImageProcessor(**settings)
        processor.save_pretrained(tmp_path)
        loaded = MiTImageProcessor.from_pretrained(tmp_path)
        assert {name: getattr(loaded, name) for name in CHANGED} == {
            name: getattr(processor, name) for name in CHANGED
        }

    def test_every_setting_was_changed(self):
        default = MiTImageProcessor()
        assert CHANGED.keys() == MiTImageProcessor.valid_kwargs.__annotations__.keys()
        assert all(getattr(default, name) != value for name, value in CHANGED.items())

    def test_loading_refuses_mistyped_settings(self, tmp_path):
        MiTImageProcessor().save_pretrained(tmp_path)
        for auto_class in (MiTImageProcessor, AutoImageProcessor):
            with pytest.raises(TypeError, match=r"no setting \['windwo'\]"):
                auto_class.from_pretrained(tmp_path, windwo="lung")

    def test_loading_takes_settings(self, tmp_path):
        MiTImageProcessor().save_pretrained(tmp_path)
        loaded = MiTImageProcessor.from_pretrained(tmp_path, image_size=None, num_channels=3)
        assert loaded.image_size is None
        assert loaded.num_channels == 3

    def test_loads_through_the_auto_class(self, tmp_path):
        class Config(PreTrainedConfig):
            model_type = "image_processing_test"

        AutoImageProcessor.register(
            Config, image_processor_classes={"pil": MiTImageProcessor}, exist_ok=True
        )
        MiTImageProcessor(**CHANGED).save_pretrained(tmp_path)
        loaded = AutoImageProcessor.from_pretrained(tmp_path)
        assert type(loaded) is MiTImageProcessor
        assert {name: getattr(loaded, name) for name in CHANGED} == CHANGED

    def test_published_files_serve_radiographs_without_nibabel(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "nibabel", None)
        folder = tmp_path / "published_processor"
        folder.mkdir()
        for file in Path(unimiss_hf.__file__).parent.glob("*_mit.py"):
            shutil.copy(file, folder)
        monkeypatch.syspath_prepend(tmp_path)
        published = importlib.import_module("published_processor.image_processing_mit")
        processor = published.MiTImageProcessor()
        pixels = processor(np.zeros((30, 30)), return_tensors="pt")["pixel_values"]
        assert pixels.shape == (1, 1, 224, 224)
        (tmp_path / "ct.nii.gz").touch()
        with pytest.raises(ImportError, match="pip install nibabel"):
            processor(tmp_path / "ct.nii.gz")


class TestGrouping:
    def test_one_entry_for_each_dimension(self):
        film, volume = np.zeros((30, 32)), np.zeros((4, 30, 32))
        groups = MiTImageProcessor()(
            [volume, film, film], group_by_dimension=True, return_tensors="pt"
        )
        assert list(groups) == ["2d", "3d"]
        assert groups["2d"]["indices"] == [1, 2]
        assert groups["3d"]["indices"] == [0]
        assert groups["2d"]["pixel_values"].shape == (2, 1, 224, 224)
        assert groups["3d"]["pixel_values"].shape == (1, 1, 4, 30, 32)
        assert [len(groups[name].grids) for name in groups] == [2, 1]
        assert [grid.grid.native_shape for grid in groups.grids] == [
            (4, 30, 32),
            (30, 32),
            (30, 32),
        ]

    def test_one_dimension_has_one_entry(self):
        groups = MiTImageProcessor()(np.zeros((8, 8)), group_by_dimension=True)
        assert list(groups) == ["2d"]

    def test_tensors_move_together_and_grids_stay(self):
        groups = MiTImageProcessor()(
            [np.zeros((8, 8)), np.zeros((4, 8, 8))], group_by_dimension=True, return_tensors="pt"
        )
        moved = groups.to(torch.float16)
        assert {moved[name]["pixel_values"].dtype for name in moved} == {torch.float16}
        batch = MiTImageProcessor()(np.zeros((8, 8)), return_tensors="pt").to("cpu", torch.bfloat16)
        assert batch["pixel_values"].dtype == torch.bfloat16
        assert len(batch.grids) == 1

    def test_grids_are_pickled_and_copied(self):
        batch = MiTImageProcessor()(np.zeros((4, 8, 8)), return_tensors="pt")
        for other in (pickle.loads(pickle.dumps(batch)), copy.deepcopy(batch)):
            assert other.grids[0].grid.native_shape == (4, 8, 8)
            torch.testing.assert_close(other["pixel_values"], batch["pixel_values"])

    def test_source_spacing_is_for_the_volumes(self):
        groups = MiTImageProcessor()(
            [np.zeros((4, 8, 8)), np.zeros((8, 8))],
            group_by_dimension=True,
            source_spacing=(6, 1, 1),
        )
        assert groups["3d"]["pixel_values"][0].shape == (1, 8, 8, 8)


class TestWindows:
    @pytest.mark.parametrize("window", ["pretraining", "lung", "soft tissue", "bone", (50, 350)])
    def test_windows_and_scales(self, window):
        volume = np.linspace(-2000, 4000, 512).reshape(8, 8, 8)
        low, high = window_range(window)
        processor = MiTImageProcessor(window=window)
        pixels = processor(volume)["pixel_values"][0][0]
        np.testing.assert_allclose(pixels, volume.clip(low, high) / 1024, atol=1e-6)
        unit = processor(volume, scaling="unit")["pixel_values"][0][0]
        np.testing.assert_allclose(unit, ((volume - low) / (high - low)).clip(0, 1), atol=1e-6)
        shifted = processor(volume, scaling=(100, 50))["pixel_values"][0][0]
        np.testing.assert_allclose(shifted, (volume.clip(low, high) - 100) / 50, atol=1e-4)

    def test_unit_scale_needs_a_window(self):
        with pytest.raises(ValueError, match="window=None"):
            MiTImageProcessor(window=None, scaling="unit")

    def test_grey_windows(self):
        film = np.array([[0, 1000], [2000, 4095]], dtype=np.uint16)
        processor = MiTImageProcessor(image_size=None, grey_window=(1000, 2000))
        np.testing.assert_allclose(processor(film)["pixel_values"][0][0], [[0, 0.5], [1, 1]])
        whole = processor(film, grey_window="minmax")["pixel_values"][0][0]
        np.testing.assert_allclose(whole, film / 4095, atol=1e-6)
        with pytest.warns(UserWarning, match="as if 12 bits were stored in 16"):
            processor(film, grey_window=None)

    def test_arrays_in_hounsfield_units(self):
        hu = np.array([[-2000.0, -512], [0, 1024]])
        processor = MiTImageProcessor(image_size=None, grey_window="hounsfield", num_channels=3)
        pixels = processor(hu, return_tensors="np")["pixel_values"]
        np.testing.assert_allclose(pixels[0], np.tile([[-1, -0.5], [0, 1]], (3, 1, 1)))
