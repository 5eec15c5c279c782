"""The Hub of the tests refuses the cards that the real one refuses."""

import os
import subprocess
import sys

import pytest

from card_validation import card_errors

PROGRAM = "import sys; from huggingface_hub import ModelCard; ModelCard(sys.argv[1]).validate()"

INDEX = """model-index:
- name: a
  results:
  - task: {type: image-classification}
    dataset: {name: A, type: a}
    metrics:
    - {type: accuracy, value: %s}
"""


@pytest.mark.parametrize(
    ("front", "message"),
    [
        ("license: CC-BY-4.0", '"license" must be one of'),
        ("license: other", '"license_name" is wanted'),
        ("license: mit\nlicense_name: mine", "for a"),
        ("license: other\nlicense_name: Of Mine", "must be lower case"),
        ("license: other\nlicense_name: a\nlicense_link: there", "must be an address"),
        ("pipeline_tag: segmentation", "none of the tasks"),
        ("tags:\n- null", "array of texts"),
        ("library_name: 3", "must be a text"),
        ("datasets:\n- a/b/c", "cannot be a repository"),
        ("base_model: two words", "cannot be a repository"),
        ("tags: [a]\ntags: [b]", "tags is there twice"),
        ("- a", "wanted fields"),
        ("a: [", "not YAML"),
        ("widget: chest.png", "must be an array of examples"),
        ("widget:\n- title: a", 'needs "src" or "text"'),
        ("co2_eq_emissions: {source: me}", 'number of "emissions"'),
        ("model-index:\n- name: a", "lacks what it needs"),
        (INDEX % ".nan", "is no number"),
    ],
)
def test_what_the_hub_refuses(front, message):
    (error, *_) = card_errors(f"---\n{front}\n---\nText\n")
    assert message in error


@pytest.mark.parametrize("front", ["", "license: mit", "license: gemma\ntags: [a]", INDEX % "0.5"])
def test_what_the_hub_takes(front):
    assert card_errors(f"---\n{front}\n---\nText\n") == []


def test_licences_of_a_data_set_may_be_several():
    text = "---\nlicense: [mit, cc-by-4.0]\n---\n"
    assert card_errors(text, "dataset") == []
    assert card_errors(text, "model") != []


@pytest.mark.parametrize(("license", "is_taken"), [("mit", True), ("nobodys", False)])
def test_a_card_is_asked_about_over_http(hub, license, is_taken):
    """A program of its own asks, as huggingface_hub reads the Hub's address when it is imported."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, f"---\nlicense: {license}\n---\nText\n"],
        env={**os.environ, **hub.environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode == 0) == is_taken, done.stderr
    assert ("must be one of the Hub" in done.stderr) != is_taken
