import sys

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.pixels import get_decoder
from pydicom.uid import MPEG2MPML, JPEGLSLossless, RLELossless, RTStructureSetStorage

from dicom_files import slice_affine, write_enhanced, write_radiograph, write_series
from image_files import RANDOM
from unimiss_hf.dicom_frames_mit import open_frames


def radiograph(tmp_path, **tags):
    return write_radiograph(tmp_path / "chest.dcm", RANDOM.integers(0, 4096, (6, 5)), **tags)


def changed(path, change, **settings):
    dataset = dcmread(path)
    change(dataset)
    dataset.save_as(path, **settings)
    return path


class TestFrame:
    def test_finds_attributes_at_the_top_level_and_in_functional_groups(self, tmp_path):
        hu = RANDOM.integers(-1000, 1000, (3, 5, 4))
        affine = slice_affine()
        single = [open_frames(path)[0] for path in write_series(tmp_path / "ct", hu, affine)]
        several = open_frames(write_enhanced(tmp_path / "e.dcm", hu, affine, order=[2, 0, 1]))
        assert [frame.index for frame in several] == [0, 1, 2]
        for frame, same in zip(several, [single[2], single[0], single[1]], strict=True):
            assert frame.is_placed
            assert same.is_placed
            assert frame.shape == same.shape == (5, 4)
            for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
                np.testing.assert_array_equal(frame.numbers(keyword), same.numbers(keyword))
            assert frame.number("RescaleIntercept") == same.number("RescaleIntercept") == -1024
            np.testing.assert_array_equal(frame.stored_pixels(), same.stored_pixels())
        assert several[1].name == f"{tmp_path / 'e.dcm'} frame 2"
        assert several[1].short_name == "e.dcm frame 2"

    def test_empty_and_absent_attributes_are_alike(self, tmp_path):
        frame = open_frames(radiograph(tmp_path, WindowCenter="", SeriesDescription=""))[0]
        for keyword in ("WindowCenter", "WindowWidth", "SeriesDescription"):
            assert frame.get(keyword) is None
            assert frame.values(keyword) == []
            assert frame.text(keyword) == ""
        assert frame.number("WindowCenter") is None
        assert not frame.is_placed
        assert not frame.is_localizer

    def test_a_single_kind_of_image_is_not_read_letter_by_letter(self, tmp_path):
        frame = open_frames(radiograph(tmp_path, ImageType="LOCALIZER"))[0]
        assert frame.values("ImageType") == ["LOCALIZER"]
        assert frame.is_localizer

    def test_names_attributes_that_are_no_numbers(self, tmp_path):
        path = radiograph(tmp_path, PixelSpacing=[0.7, 0.7])
        content = path.read_bytes()
        assert content.count(b"0.7\\0.7 ") == 1
        for broken in (b"0.7\\nan ", b"0.7\\abc ", b"0.73    "):
            path.write_bytes(content.replace(b"0.7\\0.7 ", broken))
            with pytest.raises(ValueError, match=r"chest.dcm has .*PixelSpacing"):
                open_frames(path)[0].numbers("PixelSpacing", 2)

    def test_says_what_a_file_without_pixels_is(self, tmp_path):
        path = radiograph(tmp_path, SOPClassUID=RTStructureSetStorage, PixelData=None)
        with pytest.raises(ValueError, match=r"chest.dcm holds no pixel data.* RT Structure Set"):
            open_frames(path)[0].stored_pixels()

    def test_decompresses(self, tmp_path):
        path = radiograph(tmp_path)
        plain = open_frames(path)[0].stored_pixels()
        changed(path, lambda dataset: dataset.compress(RLELossless))
        np.testing.assert_array_equal(open_frames(path)[0].stored_pixels(), plain)

    def test_says_which_decoder_to_install(self, tmp_path, monkeypatch):
        frame = open_frames(radiograph(tmp_path))[0]
        frame.dataset.file_meta.TransferSyntaxUID = JPEGLSLossless
        monkeypatch.setattr(type(get_decoder(JPEGLSLossless)), "is_available", False)
        with pytest.raises(
            ImportError, match=r"chest.dcm is compressed.*: pip install python-gdcm"
        ):
            frame.stored_pixels()

    def test_names_compressed_films_that_pydicom_does_not_decode(self, tmp_path):
        frame = open_frames(radiograph(tmp_path))[0]
        frame.dataset.file_meta.TransferSyntaxUID = MPEG2MPML
        with pytest.raises(ValueError, match=r"chest.dcm has pixel data in MPEG2"):
            frame.stored_pixels()


class TestOpenFrames:
    @pytest.mark.parametrize("kept", [0.1, 0.5, 0.97, 0.999])
    def test_a_truncated_file_is_an_error_wherever_it_ends(self, tmp_path, kept):
        path = write_radiograph(tmp_path / "chest.dcm", RANDOM.integers(0, 4096, (20, 30)))
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * kept)])
        with pytest.raises((OSError, ValueError), match=r"chest.dcm"):
            open_frames(path)[0].stored_pixels()

    def test_names_files_that_are_missing_empty_or_no_dicom(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"missing.dcm"):
            open_frames(tmp_path / "missing.dcm")
        for content, message in [
            (b"", "is empty"),
            (b"not DICOM", "is not a DICOM file"),
            (bytes(5000), "is not a DICOM file"),
            (bytes(128) + b"DICM", "is not a DICOM file"),
        ]:
            path = tmp_path / "other.dcm"
            path.write_bytes(content)
            with pytest.raises(OSError, match=rf"other.dcm {message}"):
                open_frames(path)

    @pytest.mark.parametrize("implicit", [True, False])
    def test_reads_files_without_preamble_and_meta_information(self, tmp_path, implicit):
        path = radiograph(tmp_path)
        plain = open_frames(path)[0].stored_pixels()
        dataset = dcmread(path)
        dataset.preamble = None
        del dataset.file_meta
        dataset.save_as(path, implicit_vr=implicit, little_endian=True, enforce_file_format=False)
        assert b"DICM" not in path.read_bytes()
        np.testing.assert_array_equal(open_frames(path)[0].stored_pixels(), plain)

    @pytest.mark.parametrize("count", [0, -3])
    def test_refuses_impossible_numbers_of_frames(self, tmp_path, count):
        with pytest.raises(ValueError, match=rf"chest.dcm has NumberOfFrames {count}"):
            open_frames(radiograph(tmp_path, NumberOfFrames=count))

    def test_headers_come_without_pixels(self, tmp_path):
        path = radiograph(tmp_path)
        assert open_frames(path)[0].has_pixels
        frame = open_frames(path, headers_only=True)[0]
        assert not frame.has_pixels
        assert frame.shape == (6, 5)

    def test_says_how_to_install_pydicom(self, tmp_path, monkeypatch):
        path = radiograph(tmp_path)
        monkeypatch.setitem(sys.modules, "pydicom", None)
        with pytest.raises(ImportError, match=r"needs pydicom: pip install pydicom"):
            open_frames(path)
