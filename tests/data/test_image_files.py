"""Which files are images, and which of them are one."""

import nibabel
import numpy as np
from PIL import Image

from dicom_files import write_radiograph, write_series
from unimiss_hf.data.image_files import ImageFiles, group_images, images_in, is_image_file

HU = np.zeros((4, 5, 6), int)


def test_images_are_known_by_their_names_or_beginnings(tmp_path):
    Image.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / "a.PNG", format="PNG")
    nibabel.save(nibabel.Nifti1Pair(np.zeros((5, 6, 7), np.int16), np.eye(4)), tmp_path / "b.hdr")
    write_radiograph(tmp_path / "without_suffix", np.zeros((5, 6), np.uint16))
    (tmp_path / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "notes.txt").write_text("text")
    images, others = images_in(tmp_path)
    # An image without its header is an image by itself, and what is wrong with it will be told.
    assert [path.name for path in images] == ["a.PNG", "b.hdr", "without_suffix"]
    assert [path.name for path in others] == ["DICOMDIR", "notes.txt"]
    assert is_image_file(tmp_path / "b.img")


def test_slices_are_grouped_by_folder_whatever_their_order(tmp_path):
    slices = write_series(tmp_path / "ct", HU)
    film = write_radiograph(tmp_path / "ct" / "film.dcm", np.zeros((5, 6), np.uint16))
    png = tmp_path / "a.png"
    paths = [slices[3], png, *slices[:3], film, png]
    groups = group_images(paths)
    assert [(group.path, set(group.files)) for group in groups] == [
        (png, {png}),
        (tmp_path / "ct", set(slices)),
        (film, {film}),
    ]
    assert not any(group.is_guess for group in groups)


def test_what_cannot_be_grouped_stays_together(tmp_path):
    slices = write_series(tmp_path, HU)
    slices[1].write_bytes(b"no DICOM")
    assert group_images(slices) == [ImageFiles(tmp_path, tuple(slices), is_guess=True)]
