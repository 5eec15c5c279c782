"""Sections between marks, replaced without touching what stands around them."""

import pytest

from unimiss_hf.hub.card_sections import marks, section_of, with_section

BEGIN, END = marks("scores")


def test_a_section_is_added_replaced_and_found():
    text = with_section("# Title\n\nMine.\n", "scores", "one\n\ntwo\n")
    assert text == f"# Title\n\nMine.\n\n{BEGIN}\none\n\ntwo\n{END}\n"
    assert section_of(text, "scores") == "\none\n\ntwo\n"
    text += "\nMine, too.\n"
    changed = with_section(text, "scores", "three")
    assert changed == text.replace("one\n\ntwo", "three")
    assert with_section(changed, "scores", "three") == changed


def test_a_card_without_marks_has_no_section():
    assert section_of("# Title\n", "scores") is None


@pytest.mark.parametrize("text", [BEGIN, END, END + BEGIN, BEGIN + END + BEGIN])
def test_marks_that_do_not_belong_together_are_told(text):
    with pytest.raises(ValueError, match="wanted one of each, in this order"):
        with_section(text, "scores", "one")
