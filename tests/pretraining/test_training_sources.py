"""Which data sets the card of a pretrained model can name."""

import json

from layout_miniatures import lidc_idri
from unimiss_hf.data.prepared_folders import NOTE
from unimiss_hf.pretraining.training_sources import find_sources

SOURCE = {
    "title": "RibFrac",
    "homepage": "https://example.org/ribfrac",
    "licenses": [{"identifier": "cc-by-nc-4.0", "name": "CC BY-NC 4.0", "url": "https://cc.org"}],
    "citation": "Jin L,  et al.",
}


def test_a_prepared_folder_says_what_it_was_made_from(tmp_path):
    second = {
        **SOURCE,
        "title": "Mine",
        "licenses": [{"identifier": "unknown", "name": "", "url": ""}],
    }
    (tmp_path / NOTE).write_text(json.dumps({"sources": [SOURCE, second]}))
    found, mine = find_sources([str(tmp_path), str(tmp_path)])
    assert found.link == "[RibFrac](https://example.org/ribfrac)"
    assert found.terms_link == "[CC BY-NC 4.0](https://cc.org)"
    assert found.citation == "Jin L, et al."
    assert mine.terms_link == "none stated, see here"


def test_a_prepared_folder_of_another_version_is_passed_over(tmp_path):
    (tmp_path / NOTE).write_text("{}")
    assert find_sources([str(tmp_path)]) == []


def test_a_data_set_as_it_was_downloaded_is_known(tmp_path):
    lidc_idri(tmp_path)
    (found,) = find_sources([str(tmp_path)])
    assert found.title == "LIDC-IDRI"
    assert found.terms == "CC BY 3.0"


def test_the_sample_is_known_by_its_parts(tmp_path):
    (tmp_path / "ct").mkdir()
    (tmp_path / "xray").mkdir()
    (tmp_path / "sample.json").write_text("{}")
    (found,) = find_sources([str(tmp_path / "ct"), str(tmp_path / "xray")])
    assert "sample CT of LIDC-IDRI" in found.title
    assert found.terms == "CC BY 3.0"


def test_nothing_is_said_of_others(images):
    assert find_sources([str(images), "owner/name", str(images / "0.png")]) == []
