"""The picture of a model's page: there, small, and grey."""

import importlib.resources

from PIL import Image

from unimiss_hf.hub.widget import EXAMPLE, widget_field, widget_files


def test_the_picture_is_in_the_package_and_small():
    ((name, path),) = widget_files().items()
    assert name == EXAMPLE == widget_field()[0]["src"]
    assert importlib.resources.files("unimiss_hf.hub").joinpath("pictures", EXAMPLE).is_file()
    assert path.stat().st_size < 25_000
    with Image.open(path) as picture:
        assert picture.mode == "L" and picture.size == (256, 256)
        low, high = picture.getextrema()
        assert high - low > 100
