"""Files that come as bytes: what they are by their content, and which are refused, and when."""

import gzip
import io
import shutil
import struct
import tracemalloc
import zipfile
import zlib

import nibabel
import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian

from dicom_files import slice_affine, write_radiograph, write_series
from unimiss_hf import MiTImageProcessor
from unimiss_hf.image_reading_mit import load_volume
from unimiss_hf.received_files_mit import InputBounds, open_received

MEGABYTE = bytes(2**20)
# They are members of a gzip file that follow one another: 16 GiB in 16 MiB.
GZIP_BOMB = gzip.compress(MEGABYTE * 16) * 1024


@pytest.fixture(scope="module")
def volume():
    voxels = np.random.default_rng(0).integers(-1000, 500, (10, 9, 8)).astype(np.int16)
    return nibabel.Nifti1Image(voxels, np.diag([-1.0, 1.0, 3.0, 1.0]))


@pytest.fixture
def series(tmp_path):
    """The files of a series of 6 slices in their order, and their HU."""
    hu = np.random.default_rng(1).integers(-1000, 500, (6, 8, 9))
    return write_series(tmp_path / "given", hu), hu


@pytest.fixture
def receive(tmp_path):
    def receive(data, **bounds):
        folder = tmp_path / "received"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return open_received(data, folder, InputBounds(**bounds))

    return receive


def zipped(files, compression=zipfile.ZIP_DEFLATED):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


def with_shape(image, *shape):
    """The header of a NIfTI-1 file, changed, and no voxels."""
    head = bytearray(image.to_bytes()[:352])
    head[40:56] = struct.pack("<8h", len(shape), *shape, *[1] * (7 - len(shape)))
    return bytes(head)


def png_claiming(width, height):
    """A PNG file whose header speaks of a size, and which has no pixels."""

    def chunk(kind, content):
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b""))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


@pytest.mark.parametrize("image_class", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_nifti(receive, volume, image_class, pack):
    stored = image_class(np.asarray(volume.dataobj), volume.affine)
    received = receive(pack(stored.to_bytes()))
    assert isinstance(received, image_class)
    found, expected = load_volume(received), load_volume(volume)
    np.testing.assert_array_equal(found.voxels, expected.voxels)
    assert found.spacing == expected.spacing == (3, 1, 1)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32])
def test_mgh(receive, volume, pack, dtype):
    voxels = np.abs(np.asarray(volume.dataobj)).astype(dtype)
    received = receive(pack(nibabel.MGHImage(voxels, volume.affine).to_bytes()))
    np.testing.assert_array_equal(received.dataobj, voxels)
    assert load_volume(received).spacing == (3, 1, 1)


def test_a_tiff_preamble_does_not_hide_dicom(receive, tmp_path):
    pixels = np.arange(80).reshape(8, 10)
    data = write_radiograph(tmp_path / "xray", pixels).read_bytes()
    received = receive(b"II*\0" + data[4:])
    assert dcmread(received).Rows == 8
    assert received.parent == tmp_path / "received"


def test_a_zip_of_slices_is_a_series(receive, series):
    paths, hu = series
    files = {f"study/series 1/{path.name}": path.read_bytes() for path in paths}
    others = {
        "__MACOSX/._IM0000.dcm": paths[0].read_bytes(),
        "study/DICOMDIR": paths[0].read_bytes(),
        "study/report.txt": b"none",
        "study/empty/": b"",
    }
    folder = receive(zipped(files | others))
    np.testing.assert_array_equal(load_volume(folder).voxels, load_volume(paths).voxels)
    assert load_volume(folder).voxels.size == hu.size
    assert sorted(path.name for path in folder.iterdir()) == [f"{n:04d}.dcm" for n in range(6)]


def test_names_in_a_zip_lead_nowhere(receive, series, tmp_path):
    paths, _ = series
    names = ["../escaped.dcm", f"{tmp_path}/absolute.dcm", "a/../../b.dcm"]
    files = dict(zip(names, (path.read_bytes() for path in paths), strict=False))
    folder = receive(zipped(files))
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.dcm")}
    assert written - {f"given/{path.name}" for path in paths} == {
        f"received/series/{number:04d}.dcm" for number in range(3)
    }
    assert folder == tmp_path / "received" / "series"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "^Nothing came. Send a PNG"),
        (b"%PDF-1.7", "^The 8 bytes that came are of no known kind. Send a PNG"),
        (gzip.compress(b"%PDF-1.7"), "^The gzip file holds no NIfTI or MGH file. Send"),
        (gzip.compress(gzip.compress(MEGABYTE)), "^The gzip file holds no NIfTI or MGH"),
        (b"\x1f\x8b\x08\0", "^This is not a gzip file, or it is damaged: .*marker"),
        (b"\x89PNG\r\n\x1a\n", "^This is not an image that Pillow reads, or it is damaged"),
        (b"PK\x03\x04", "^This is not a zip file, or it is damaged: its end is missing"),
        (b"\0\0\0\1" + bytes(300), r"header has the shape \(0, 0, 0, 0\) at byte 284"),
        (b"\0\0\0\1" + b"\0\0\0\2" * 4 + b"\0\0\0\x63", "not a volume that nibabel reads"),
        (zipped({"a.txt": b"text", "b/": b""}), "^The zip holds no DICOM files. Send"),
        (zipped({"a.nii": b"n+1"}), "^The zip holds no DICOM files. Send"),
    ],
    # Of the bytes, which hold the time, processes would make different names.
    ids=[
        "empty",
        "pdf",
        "pdf in gzip",
        "gzip in gzip",
        "torn gzip",
        "torn png",
        "torn zip",
        "mgh without voxels",
        "mgh of no type",
        "zip of texts",
        "zip of a volume",
    ],
)
def test_what_is_no_image_is_told(receive, data, message):
    with pytest.raises(ValueError, match=message):
        receive(data)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_volume_that_was_cut_off_is_told(receive, volume, pack):
    with pytest.raises(ValueError, match="cut off: it has 1000 bytes, and by its header 1792"):
        receive(pack(volume.to_bytes()[:1000]))


def test_a_gzip_file_that_was_cut_off_or_damaged_is_told(receive, volume):
    packed = bytearray(gzip.compress(volume.to_bytes()))
    with pytest.raises(ValueError, match=r"not a gzip file, or it is damaged: .*ended before"):
        receive(bytes(packed[:-100]))
    packed[-6] ^= 1  # In its checksum.
    with pytest.raises(ValueError, match="not a gzip file, or it is damaged: CRC check failed"):
        receive(bytes(packed))


def test_what_headers_claim_is_bounded(receive, volume, tmp_path):
    for pack in (bytes, gzip.compress):
        with pytest.raises(ValueError, match=r"too large: 27000000000000 voxels \(30000 x 30000"):
            receive(pack(with_shape(volume, 30000, 30000, 30000)))
        with pytest.raises(ValueError, match=r"shape \(-5, 8, 9\) at byte 352"):
            receive(pack(with_shape(volume, -5, 8, 9)))
    with pytest.raises(ValueError, match=r"too large: 200000352 bytes after decompression"):
        receive(with_shape(volume, 1000, 1000, 100), decoded_bytes=10**8)
    with pytest.raises(ValueError, match=r"too large: 80000000 pixels \(10000, 8000\)"):
        receive(png_claiming(10000, 8000))
    with pytest.raises(ValueError, match=r"Pillow reads, or .* decompression bomb"):
        receive(png_claiming(30000, 30000))

    def claim(dataset, index):
        dataset.Rows = dataset.Columns = 65535

    paths = write_series(tmp_path / "claims", np.zeros((2, 4, 4)), change=claim)
    with pytest.raises(ValueError, match="too large: 4294836225 pixels"):
        receive(paths[0].read_bytes())
    with pytest.raises(ValueError, match=r"too large: 8589672450 voxels \(of 2 slices\)"):
        receive(zipped({path.name: path.read_bytes() for path in paths}))


def test_sizes_of_what_comes_are_bounded(receive, volume, series):
    with pytest.raises(ValueError, match="too large: 1792 bytes, and 1791 are taken"):
        receive(volume.to_bytes(), bytes=1791)
    files = {path.name: path.read_bytes() for path in series[0]}
    with pytest.raises(ValueError, match="too large: 6 files in the zip, and 5 are taken"):
        receive(zipped(files), files=5)


def test_a_long_list_of_files_is_refused_before_it_is_read(receive):
    packed = zipped({f"{number:0255d}": b"" for number in range(500)})
    with pytest.raises(ValueError, match=r"\d+ files or more in the zip, and 50 are taken"):
        receive(packed, files=50)


def test_bombs_are_refused_in_little_memory(receive, volume, series):
    slice_bytes = series[0][0].read_bytes()
    bombs = {
        "of nothing": GZIP_BOMB,
        "behind a volume": gzip.compress(volume.to_bytes()) + GZIP_BOMB,
        "behind a slice": zipped({"a.dcm": slice_bytes + MEGABYTE * 40}),
        "of slices": zipped({f"{n}.dcm": slice_bytes + MEGABYTE * 4 for n in range(10)}),
    }
    for name, data in bombs.items():
        tracemalloc.start()
        with pytest.raises(ValueError, match=r"bytes after decompression|holds no NIfTI"):
            receive(data, decoded_bytes=2**25)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 2**24, name


def test_deflated_dicom_has_no_bound_and_is_refused(receive, series, tmp_path):
    dataset = dcmread(series[0][0])
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(tmp_path / "deflated.dcm")
    with pytest.raises(ValueError, match=r"deflated, which .* convert it to Explicit VR Little"):
        receive((tmp_path / "deflated.dcm").read_bytes())


def test_an_encrypted_or_large_zip_is_told(receive, series):
    packed = bytearray(zipped({"a.dcm": series[0][0].read_bytes()}))
    packed[6] |= 1
    packed[packed.rindex(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(ValueError, match=r"not a zip file, or it is damaged: .*encrypted"):
        receive(bytes(packed))
    end = packed.rindex(b"PK\x05\x06")
    packed[end:end] = b"PK\x06\x07" + bytes(16)
    with pytest.raises(ValueError, match="more than 4 GiB or 65,535 files"):
        receive(bytes(packed))


def test_resampling_is_bounded_while_it_is_asked_for(volume):
    processor, bounds = MiTImageProcessor(spacing=(1, 1, 1)), InputBounds(voxels=2000)
    with (
        bounds.resampling(),
        pytest.raises(ValueError, match=r"would have shape \(24, 9, 10\) at a spacing of"),
    ):
        processor(volume)
    assert processor(volume)["pixel_values"][0].shape == (1, 24, 9, 10)


def test_what_is_made_on_the_way_is_bounded_too(volume):
    # 8 x 9 x 10 voxels become 1 x 90 x 100, by way of 8 x 90 x 100.
    with InputBounds(voxels=50_000).resampling(), pytest.raises(ValueError, match="would have"):
        MiTImageProcessor()(volume, spacing=(24, 0.1, 0.1))


def test_a_received_image_is_read_as_the_file_is(receive, tmp_path):
    pixels = np.random.default_rng(2).integers(0, 65535, (40, 50)).astype(np.uint16)
    Image.fromarray(pixels).save(tmp_path / "xray.png")
    processor = MiTImageProcessor(image_size=None)
    received = receive((tmp_path / "xray.png").read_bytes())
    np.testing.assert_array_equal(
        processor(received)["pixel_values"][0], processor(tmp_path / "xray.png")["pixel_values"][0]
    )


def test_the_series_keeps_its_place(receive, tmp_path):
    affine = slice_affine(angles=(10, 0, 5))
    paths = write_series(tmp_path / "oblique", np.zeros((5, 6, 7)), affine)
    folder = receive(zipped({path.name: path.read_bytes() for path in paths}))
    np.testing.assert_allclose(
        load_volume(folder).grid.source_affine, load_volume(paths).grid.source_affine
    )
