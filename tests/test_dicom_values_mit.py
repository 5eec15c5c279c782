import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.uid import MultiFrameGrayscaleWordSecondaryCaptureImageStorage as SecondaryCapture

from dicom_files import write_radiograph, write_series
from image_files import RANDOM
from unimiss_hf.dicom_frames_mit import open_frames
from unimiss_hf.dicom_values_mit import grey_levels, is_hounsfield, physical_values

GREY = RANDOM.integers(0, 4096, (9, 8)).astype(np.uint16)


def levels(tmp_path, pixels=GREY, grey_window=None, **settings):
    path = write_radiograph(tmp_path / "chest.dcm", pixels, **settings)
    return grey_levels(open_frames(path)[0], grey_window)


def table(first, bits, entries, data=None):
    item = Dataset()
    count = len(entries) % 2**16
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [count, first, bits])
    if data is None:
        item.add_new("LUTData", "US", [int(entry) for entry in entries])
    else:
        item.add_new("LUTData", "OW", data)
    return item


class TestGreyLevels:
    @pytest.mark.parametrize(("bits", "dtype"), [(8, np.uint8), (12, np.uint16), (16, np.uint16)])
    def test_without_a_window_the_stored_bits_are_the_range(self, tmp_path, bits, dtype):
        pixels = RANDOM.integers(0, 2**bits, (7, 5)).astype(dtype)
        grey = levels(tmp_path, pixels, bits=bits)
        assert grey.dtype == np.float32
        np.testing.assert_allclose(grey, pixels / (2**bits - 1), atol=1e-6)

    def test_signed_pixels_and_a_rescale_shift_the_range(self, tmp_path):
        pixels = np.array([[-2048, 0, 2047]], dtype=np.int16)
        for tags in ({}, {"RescaleSlope": 2, "RescaleIntercept": 7}):
            np.testing.assert_allclose(
                levels(tmp_path, pixels, **tags), [[0, 2048 / 4095, 1]], atol=1e-6
            )
        flipped = levels(tmp_path, pixels, RescaleSlope=-1, RescaleIntercept=0)
        np.testing.assert_allclose(flipped, [[1, 2047 / 4095, 0]], atol=1e-6)

    @pytest.mark.parametrize(("bits", "dtype"), [(12, np.uint16), (16, np.uint16), (12, np.int16)])
    @pytest.mark.parametrize("function", [None, "LINEAR", "LINEAR_EXACT", "SIGMOID"])
    def test_windows_are_those_of_the_standard(self, tmp_path, bits, dtype, function):
        half = 2 ** (bits - 1) * (dtype == np.int16)
        pixels = RANDOM.integers(-half, 2**bits - half, (20, 20)).astype(dtype)
        tags = {"RescaleSlope": 1.5, "RescaleIntercept": -100}
        tags |= {"WindowCenter": [900, 5], "WindowWidth": [1500.5, 6], "VOILUTFunction": function}
        grey = levels(tmp_path, pixels, bits=bits, **{k: v for k, v in tags.items() if v})
        dataset = dcmread(tmp_path / "chest.dcm")
        other = apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset)
        low, high = (1.5 * value - 100 for value in (-half, 2**bits - 1 - half))
        np.testing.assert_allclose(grey, (other - low) / (high - low), atol=2e-6)
        assert 0 < grey.mean() < 1

    def test_the_narrowest_window_is_a_step(self, tmp_path):
        pixels = np.array([[198, 199, 200]], dtype=np.uint16)
        tags = {"RescaleSlope": 0.5, "RescaleIntercept": 0}
        grey = levels(tmp_path, pixels, WindowCenter=100, WindowWidth=1, **tags)
        np.testing.assert_array_equal(grey, [[0, 0, 1]])

    def test_another_window_replaces_the_files_own(self, tmp_path):
        tags = {"WindowCenter": 5, "WindowWidth": 10, "RescaleSlope": 2, "RescaleIntercept": -1000}
        np.testing.assert_allclose(
            levels(tmp_path, grey_window=(3000, 4000), **tags),
            ((2.0 * GREY - 2000) / 4000).clip(0, 1),
            atol=1e-6,
        )
        stretched = levels(tmp_path, grey_window="minmax", **tags)
        np.testing.assert_allclose(stretched, (GREY - GREY.min()) / np.ptp(GREY), atol=1e-6)
        with pytest.raises(ValueError, match="grey_window must be"):
            levels(tmp_path, grey_window=(3000, 0))
        with pytest.raises(ValueError, match=r"chest.dcm is no slice of a CT"):
            levels(tmp_path, grey_window="hounsfield")

    def test_monochrome1_is_inverted(self, tmp_path):
        for tags in ({}, {"WindowCenter": 2000, "WindowWidth": 1000}, {"WindowCenter": ""}):
            plain = levels(tmp_path, **tags)
            inverse = levels(tmp_path, PhotometricInterpretation="MONOCHROME1", **tags)
            np.testing.assert_allclose(inverse, 1 - plain, atol=1e-6)
        shaped = levels(
            tmp_path, PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE"
        )
        np.testing.assert_allclose(shaped, 1 - levels(tmp_path), atol=1e-6)

    @pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
    def test_padding_is_darkest(self, tmp_path, photometric):
        pixels = np.array([[0, 100, 200, 4095]], dtype=np.uint16)
        tags = {"PhotometricInterpretation": photometric, "PixelPaddingValue": 4095}
        plain = levels(tmp_path, pixels, PhotometricInterpretation=photometric)
        grey = levels(tmp_path, pixels, **tags)
        np.testing.assert_array_equal(grey[0, :3], plain[0, :3])
        assert grey[0, 3] == 0
        stretched = levels(tmp_path, pixels, grey_window="minmax", **tags)
        np.testing.assert_array_equal(sorted(stretched[0, :3]), [0, 0.5, 1])
        ranged = levels(tmp_path, pixels, PixelPaddingRangeLimit=200, **tags)
        np.testing.assert_array_equal(ranged[0], [plain[0, 0], plain[0, 1], 0, 0])
        nothing = levels(tmp_path, np.full((2, 2), 4095, np.uint16), **tags)
        np.testing.assert_array_equal(nothing, 0)

    def test_negative_padding_may_be_noted_as_unsigned(self, tmp_path):
        pixels = np.array([[-2000, 0, 2047]], dtype=np.int16)
        path = write_radiograph(tmp_path / "chest.dcm", pixels, bits=16)
        frame = open_frames(path)[0]
        frame.dataset.add_new("PixelPaddingValue", "US", 63_536)
        assert grey_levels(frame)[0, 0] == 0
        assert grey_levels(frame)[0, 1] > 0.4

    @pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
    def test_a_table_comes_before_a_window(self, tmp_path, photometric):
        entries = RANDOM.integers(0, 1024, 100)
        pixels = np.array([[0, 49, 50, 80, 149, 150, 4000]], dtype=np.uint16)
        tags = {"WindowCenter": 5, "WindowWidth": 10, "PhotometricInterpretation": photometric}
        grey = levels(tmp_path, pixels, VOILUTSequence=[table(50, 10, entries)], **tags)
        expected = entries[[0, 0, 0, 30, 99, 99, 99]] / 1023
        inverse = photometric == "MONOCHROME1"
        np.testing.assert_allclose(grey[0], 1 - expected if inverse else expected, atol=1e-6)

    def test_tables_may_be_packed_bytes_or_words_and_start_below_0(self, tmp_path):
        pixels = np.array([[-3, -2, 0, 300, 500]], dtype=np.int16)
        entries = np.arange(400) // 2
        expected = [[0, 0, 2 / 2, 302 // 2, 199]]
        for bits, dtype in ((8, "u1"), (8, "<u2"), (16, "<u2")):
            data = entries.astype(dtype).tobytes()
            item = table(-2, bits, entries, data)
            grey = levels(tmp_path, pixels, VOILUTSequence=[item])
            np.testing.assert_allclose(grey * (2**bits - 1), np.array(expected), atol=1e-3)

    def test_a_modality_table_comes_first(self, tmp_path):
        """Stored 0 to 4095 become 0 to 255, and the whole of these 8 bits is the range."""
        entries = np.arange(4096) // 16
        grey = levels(tmp_path, ModalityLUTSequence=[table(0, 8, entries)])
        np.testing.assert_allclose(grey, (GREY // 16) / 255, atol=1e-6)
        longest = table(0, 16, np.arange(2**16), np.arange(2**16, dtype="<u2").tobytes())
        grey = levels(tmp_path, GREY, bits=16, ModalityLUTSequence=[longest])
        np.testing.assert_allclose(grey, GREY / 65_535, atol=1e-6)

    def test_refuses_broken_tables(self, tmp_path):
        short, deep = table(0, 10, range(10)), table(0, 24, range(10))
        short.LUTDescriptor = [50, 0, 10]
        without = Dataset()
        without.LUTDescriptor = [10, 0, 10]
        for item, message in [(short, "holds 10"), (deep, "24 bits"), (without, "unreadable")]:
            for keyword in ("VOILUTSequence", "ModalityLUTSequence"):
                with pytest.raises(ValueError, match=rf"chest.dcm has an? .*{keyword}.*"):
                    levels(tmp_path, **{keyword: [item]})
            with pytest.raises(ValueError, match=message):
                levels(tmp_path, VOILUTSequence=[item])

    @pytest.mark.parametrize(
        ("tags", "message"),
        [
            ({"WindowWidth": 0}, "WindowWidth 0, which LINEAR does not allow"),
            ({"WindowWidth": 0.5}, "WindowWidth 0.5, which LINEAR"),
            ({"WindowWidth": -3, "VOILUTFunction": "SIGMOID"}, "WindowWidth -3, which SIGMOID"),
            ({"WindowWidth": 5, "VOILUTFunction": "CUBIC"}, "VOILUTFunction 'CUBIC'"),
            ({"WindowWidth": 5, "RescaleSlope": 0, "RescaleIntercept": 0}, "RescaleSlope 0"),
            ({"WindowWidth": 5, "PhotometricInterpretation": "HSV"}, "PhotometricInterpretation"),
        ],
    )
    def test_names_what_it_cannot_read(self, tmp_path, tags, message):
        with pytest.raises(ValueError, match=rf"chest.dcm has {message}"):
            levels(tmp_path, WindowCenter=100, **tags)

    @pytest.mark.parametrize(("bits", "dtype"), [(8, np.uint8), (16, np.uint16)])
    def test_colours_become_luminance(self, tmp_path, bits, dtype):
        pixels = RANDOM.integers(0, 2**bits, (5, 7, 3)).astype(dtype)
        grey = levels(tmp_path, pixels, bits=bits)
        np.testing.assert_allclose(grey, pixels @ [0.299, 0.587, 0.114] / (2**bits - 1), atol=1e-6)

    def test_luma_and_chroma_become_luminance(self, tmp_path):
        """The first channel of YBR_FULL is the luminance."""
        pixels = np.full((4, 6, 3), 128, dtype=np.uint8)
        pixels[..., 0] = np.arange(24).reshape(4, 6) * 10
        grey = levels(tmp_path, pixels, bits=8, PhotometricInterpretation="YBR_FULL")
        np.testing.assert_allclose(grey, pixels[..., 0] / 255, atol=1.5 / 255)

    def test_palettes_become_luminance(self, tmp_path):
        palette = RANDOM.integers(0, 256, (256, 3), dtype=np.uint8)
        tags = {"PhotometricInterpretation": "PALETTE COLOR"}
        for channel, name in enumerate(("Red", "Green", "Blue")):
            tags[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 8]
            tags[f"{name}PaletteColorLookupTableData"] = palette[:, channel].tobytes()
        pixels = RANDOM.integers(0, 256, (5, 6), dtype=np.uint8)
        expected = palette[pixels] @ [0.299, 0.587, 0.114] / 255
        np.testing.assert_allclose(levels(tmp_path, pixels, bits=8, **tags), expected, atol=1e-6)
        tags["RedPaletteColorLookupTableData"] = b"short."
        with pytest.raises(OSError, match=r"chest.dcm is not a complete image with a palette"):
            levels(tmp_path, pixels, bits=8, **tags)

    def test_floats_need_a_window(self, tmp_path):
        path = write_radiograph(tmp_path / "chest.dcm", GREY)
        frame = open_frames(path)[0]
        values = RANDOM.normal(size=(9, 8)).astype("<f4")
        for keyword in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation"):
            del frame.dataset[keyword]
        frame.dataset.BitsAllocated = 32
        frame.dataset.FloatPixelData = values.tobytes()
        np.testing.assert_allclose(
            grey_levels(frame, (0, 4)), (values / 4 + 0.5).clip(0, 1), atol=1e-6
        )
        with pytest.raises(ValueError, match=r"chest.dcm has neither a window nor BitsStored"):
            grey_levels(frame)
        values[2, 3] = np.nan
        frame.dataset.FloatPixelData = values.tobytes()
        with pytest.raises(ValueError, match=r"chest.dcm has 1 NaN or infinite"):
            grey_levels(frame, (0, 4))


class TestPhysicalValues:
    HU = RANDOM.integers(-1000, 2000, (1, 6, 5))

    def slice_of(self, tmp_path, **tags):
        return open_frames(write_series(tmp_path, self.HU, **tags)[0])[0]

    @pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
    @pytest.mark.parametrize("signed", [True, False])
    def test_are_hounsfield_units(self, tmp_path, photometric, signed):
        frame = self.slice_of(tmp_path, signed=signed, PhotometricInterpretation=photometric)
        assert is_hounsfield(frame)
        values = physical_values(frame)
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, self.HU[0])

    def test_no_type_of_values_means_hounsfield_units_in_a_ct(self, tmp_path):
        frame = self.slice_of(tmp_path, RescaleType=None)
        np.testing.assert_array_equal(physical_values(frame), self.HU[0])

    @pytest.mark.parametrize(
        ("tags", "message"),
        [
            (
                {"RescaleType": "Z_EFF"},
                "is a CT slice with RescaleType 'Z_EFF'.*not known to be HU",
            ),
            ({"RescaleSlope": None}, "is a CT slice with no RescaleSlope and RescaleIntercept"),
            ({"RescaleIntercept": None}, "is a CT slice with no RescaleSlope"),
            ({"RescaleSlope": 0}, "has RescaleSlope 0"),
            ({"RescaleSlope": 1e300}, "has 30 NaN or infinite"),
            ({"PhotometricInterpretation": "PALETTE COLOR"}, "has PhotometricInterpretation"),
        ],
    )
    def test_refuses_what_does_not_lead_to_hounsfield_units(self, tmp_path, tags, message):
        with pytest.raises(ValueError, match=rf"IM0000.dcm {message}"):
            physical_values(self.slice_of(tmp_path, **tags))

    def test_localizers_and_secondary_captures_are_not_in_hounsfield_units(self, tmp_path):
        kinds = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}
        assert not is_hounsfield(self.slice_of(tmp_path / "a", **kinds))
        assert not is_hounsfield(self.slice_of(tmp_path / "b", SOPClassUID=SecondaryCapture))
