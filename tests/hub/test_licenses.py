"""Which licence a card may name for weights."""

import pytest

from unimiss_hf.hub.licenses import license_of_weights, require_hub_license

URL = "https://creativecommons.org/licenses/by/4.0/"


def test_terms_of_the_data_alone_are_the_licence():
    assert license_of_weights("nlst", "cc-by-4.0", URL, False) == {"license": "cc-by-4.0"}


@pytest.mark.parametrize("others", ["mit", "cc-by-4.0"])
def test_a_pretrained_model_that_adds_nothing_changes_nothing(others):
    assert license_of_weights("nlst", "cc-by-4.0", URL, True, others) == {"license": "cc-by-4.0"}


@pytest.mark.parametrize("others", [None, "cc-by-nc-4.0", "other"])
def test_terms_that_may_add_up_are_named_as_such(others):
    assert license_of_weights("nlst", "cc-by-4.0", URL, True, others) == {
        "license": "other",
        "license_name": "cc-by-4.0-and-of-the-pretrained-weights",
        "license_link": URL,
    }


@pytest.mark.parametrize("identifier", ["unknown", "other", "something"])
def test_terms_without_an_identifier_are_named_after_the_data(identifier):
    found = license_of_weights("BTCV data", identifier, URL, False)
    assert found["license"] == "other"
    assert found["license_name"] == "terms-of-btcv-data"


def test_an_identifier_that_the_hub_does_not_know_is_refused():
    assert require_hub_license("cc-by-nc-sa-4.0") == "cc-by-nc-sa-4.0"
    with pytest.raises(ValueError, match="knows no licence 'apache'"):
        require_hub_license("apache")
