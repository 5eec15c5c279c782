import os
from pathlib import Path

import pytest

from viewer.settings import parse_settings


def test_options_count_more_than_the_environment():
    environment = {
        "UNIMISS_ENCODER": "owner/a",
        "UNIMISS_SEGMENTER_3D": "owner/b",
        "UNIMISS_SAMPLES": os.pathsep.join(("x", "y")),
    }
    settings = parse_settings(["--encoder", "runs/model", "--port", "80"], environment)
    assert settings.encoder == "runs/model" and settings.segmenter_3d == "owner/b"
    assert settings.segmenter_2d is None and settings.port == 80
    assert settings.samples == (Path("x"), Path("y"))
    assert settings.host == "127.0.0.1"


def test_a_space_of_the_hub_is_reached_from_outside():
    environment = {"UNIMISS_ENCODER": "owner/a", "SPACE_ID": "owner/page"}
    assert parse_settings([], environment).host == "0.0.0.0"


def test_an_encoder_is_needed(capsys):
    with pytest.raises(SystemExit):
        parse_settings([], {})
    assert "--encoder" in capsys.readouterr().err
