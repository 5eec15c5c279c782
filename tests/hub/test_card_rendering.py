import jinja2
import pytest

from unimiss_hf.hub.card_rendering import render_card


def test_a_value_that_is_missing_is_told():
    with pytest.raises(jinja2.UndefinedError, match="encoder_parameters"):
        render_card("parameters.md", {})


def test_a_template_without_metadata_is_told():
    with pytest.raises(ValueError, match="The model card's metadata read"):
        render_card("limits.md", {})
