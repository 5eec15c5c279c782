"""Metadata of a card, of which one field changes and no other byte."""

import pytest
from huggingface_hub import ModelCard

from unimiss_hf.hub.card_fields import read_fields, with_fields

CARD = """---
# what it is
license: mit   # of the weights
tags:
- a
- b

# how it does
metrics:
- dice
---

# A title

---
license: not this
---
"""


def test_a_field_is_replaced_and_comments_stay():
    text = with_fields(CARD, {"tags": ["c"]})
    assert text == CARD.replace("- a\n- b\n", "- c\n")
    assert read_fields(text) == {"license": "mit", "tags": ["c"], "metrics": ["dice"]}


def test_a_new_field_comes_behind_the_others_and_none_takes_one_out():
    text = with_fields(CARD, {"pipeline_tag": "image-classification", "license": None})
    assert text.startswith("---\n# what it is\ntags:")
    assert "- dice\npipeline_tag: image-classification\n---\n\n# A title" in text
    assert with_fields(text, {"gone": None}) == text


def test_the_same_again_changes_nothing():
    once = with_fields(CARD, {"license": "cc-by-4.0", "metrics": ["f1"]})
    assert with_fields(once, {"license": "cc-by-4.0", "metrics": ["f1"]}) == once


def test_windows_line_ends_stay():
    text = with_fields("---\r\nlicense: mit\r\n---\r\nText\r\n", {"tags": ["a", "b"]})
    assert text == "---\r\nlicense: mit\r\ntags:\r\n- a\r\n- b\r\n---\r\nText\r\n"


def test_a_card_without_metadata_gets_some():
    text = with_fields("# A title\n", {"license": "mit"})
    assert text == "---\nlicense: mit\n---\n\n# A title\n"
    assert ModelCard(text).data.license == "mit"
    assert read_fields("# A title\n") == {}
    assert with_fields("# A title\n", {"license": None}) == "# A title\n"


def test_metadata_without_a_field_get_one():
    assert with_fields("---\n---\nText\n", {"license": "mit"}) == "---\nlicense: mit\n---\nText\n"


@pytest.mark.parametrize("front", ["- a\n- b", "{license: mit}", "license mit"])
def test_what_are_no_fields_are_refused(front):
    with pytest.raises(ValueError, match="not fields by their names"):
        with_fields(f"---\n{front}\n---\n", {"license": "mit"})


def test_what_is_no_yaml_is_refused_with_its_line():
    with pytest.raises(ValueError, match="not YAML, line 2 of them"):
        read_fields("---\na: 1\nb: c: d\n---\n")
