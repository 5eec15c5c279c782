"""What a card says that a processor does."""

import pytest

from unimiss_hf import MiTImageProcessor
from unimiss_hf.hub.input_description import (
    describe_images,
    describe_volumes,
    describe_window,
    is_magnetic_resonance,
)

TIMES = "\N{MULTIPLICATION SIGN}"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "clipped to -1024 to 3071 HU, divided by 1024"),
        ({"window": [75, 400], "scaling": "unit"}, "clipped to -125 to 275 HU, scaled to 0 to 1"),
        ({"window": None}, "Hounsfield units, not clipped, divided by 1024"),
        ({"scaling": [10.0, 20.0]}, "clipped to -1024 to 3071 HU, less 10, divided by 20"),
        ({"window": "percentiles", "scaling": "unit"}, "clipped to each volume's own 0.5th"),
    ],
)
def test_values_of_volumes(settings, told):
    processor = MiTImageProcessor(**settings)
    assert describe_volumes(processor)["values"].startswith(told)
    assert is_magnetic_resonance(processor) == (settings.get("window") == "percentiles")


def test_sizes_and_spacings_of_volumes():
    told = describe_volumes(MiTImageProcessor())
    assert (
        told["spacing"] == "resampled to 3 \N{MULTIPLICATION SIGN} 1 \N{MULTIPLICATION SIGN} 1 mm"
    )
    assert "size" not in told
    size = {"depth": 4, "height": 8, "width": 9}
    told = describe_volumes(MiTImageProcessor(spacing=None, volume_size=size))
    assert told["spacing"] == "as it is"
    assert told["size"].endswith(f"4 {TIMES} 8 {TIMES} 9 voxels")


@pytest.mark.parametrize(
    ("window", "told"),
    [
        (None, "the file declares"),
        ("minmax", "lowest to highest"),
        ("percentiles", "0.5th to 99.5th"),
        ("hounsfield", "-1024 to 3071 HU"),
        ([2047.5, 4095], "from 0 to 4095 become 0 to 1"),
    ],
)
def test_grey_levels_of_images(window, told):
    assert told in describe_images(MiTImageProcessor(grey_window=window))["grey levels"]


def test_sizes_of_images():
    assert describe_images(MiTImageProcessor(image_size=None))["size"] == "as it is"
    assert describe_images(MiTImageProcessor())["size"].startswith("resized to 224")
    assert "voxels" in describe_window((4, 8, 8)) and "pixels" in describe_window((8, 8))
