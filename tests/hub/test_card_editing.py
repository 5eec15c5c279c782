"""Cards on their way to the Hub: repository, licence, emissions."""

import pytest
from huggingface_hub import ModelCard

from card_validation import card_errors
from unimiss_hf.hub.card_editing import (
    PLACEHOLDER,
    with_emissions,
    with_license,
    with_repository,
)
from unimiss_hf.hub.widget import EXAMPLE

CARD = f"""---
license: other
license_name: terms-of-btcv
license_link: https://example.org/terms
widget:
- src: {EXAMPLE}
  example_title: Ours
- src: https://example.org/mine.png
---

<!-- use: begin -->
model = AutoModel.from_pretrained("{PLACEHOLDER}")
predict = pipeline("medical-image-segmentation", "{PLACEHOLDER}")
<!-- use: end -->

Beside it, `AutoModel.from_pretrained("someone/else")` is another.
"""


def test_examples_open_the_repository_and_the_widget_shows_its_picture():
    text = with_repository(CARD, "owner/name")
    assert 'AutoModel.from_pretrained("owner/name")' in text
    assert 'pipeline("medical-image-segmentation", "owner/name")' in text
    assert PLACEHOLDER not in text
    sources = [example["src"] for example in ModelCard(text).data.widget]
    assert sources[0].endswith(f"/owner/name/resolve/main/{EXAMPLE}")
    assert sources[1] == "https://example.org/mine.png"
    assert with_repository(text, "owner/name") == text


def test_a_card_can_move_and_other_models_are_left_alone():
    text = with_repository(with_repository(CARD, "owner/name"), "group/other", revision="v2")
    assert "owner/name" not in text
    assert text.count("group/other") == 3
    assert f"group/other/resolve/v2/{EXAMPLE}" in text
    assert 'from_pretrained("someone/else")' in text


def test_a_card_of_ones_own_is_changed_in_the_placeholder_alone():
    assert with_repository(f'open("{PLACEHOLDER}")\n', "a/b") == 'open("a/b")\n'
    assert with_repository("# Mine\n", "a/b") == "# Mine\n"


@pytest.mark.parametrize("name", ["a/b/c", "two words/x", ""])
def test_what_is_no_repository_is_refused(name):
    with pytest.raises(ValueError, match="no name of a repository"):
        with_repository(CARD, name)


def test_a_licence_replaces_another_with_its_name():
    text = with_license(CARD, "cc-by-4.0")
    assert ModelCard(text).data.license == "cc-by-4.0"
    assert "license_name" not in text and "license_link" not in text
    assert card_errors(text) == []


def test_another_licence_keeps_the_name_that_it_has():
    assert with_license(CARD, "other") == CARD
    text = with_license("# Mine\n", "other", name="ours", link="LICENSE")
    assert card_errors(text) == []
    assert ModelCard(text).data.license_name == "ours"


def test_licences_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match=r"no licence 'cc-by-4'.*cc-by-4\.0"):
        with_license(CARD, "cc-by-4")
    with pytest.raises(ValueError, match="other needs a name"):
        with_license("# Mine\n", "other")
    with pytest.raises(ValueError, match="license_link are for the licence other"):
        with_license(CARD, "mit", name="ours")


def test_emissions_that_somebody_measured():
    text = with_emissions(CARD, 12, "CodeCarbon", "fine-tuning", hardware="1 H100")
    assert card_errors(text) == []
    assert ModelCard(text).data.co2_eq_emissions == {
        "emissions": 12.0,
        "source": "CodeCarbon",
        "training_type": "fine-tuning",
        "hardware_used": "1 H100",
    }
    with pytest.raises(ValueError, match="-1 g; wanted a number"):
        with_emissions(CARD, -1, "CodeCarbon", "fine-tuning")
    with pytest.raises(ValueError, match="need a source"):
        with_emissions(CARD, 1, " ", "fine-tuning")
