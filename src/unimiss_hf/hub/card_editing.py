"""What a card is changed in when its model goes to the Hub; the rest stays byte for byte."""

from __future__ import annotations

import json
import re

from huggingface_hub import hf_hub_url
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from .card_fields import read_fields, with_fields
from .card_sections import section_of, with_section
from .licenses import require_hub_license
from .widget import EXAMPLE, shows_example, widget_field

PLACEHOLDER = "the/folder/of/this/file"
"""What a card's examples open until its model is in a repository."""
USE = "use"
"""The section of a card with its examples."""

_OPENED = re.compile(r'((?:\.from_pretrained\(|pipeline\("[a-z-]+",) *)("(?:[^"\\]|\\.)*")')


def with_repository(card_text: str, repo_id: str, revision: str | None = None) -> str:
    """Have a card's examples open a repository, and its widget show the picture there.

    Args:
        card_text: The card.
        repo_id: `"owner/name"`.
        revision: The branch that it goes to; `None` is the main one.

    Raises:
        ValueError: If that is no name of a repository, or the card's metadata or marks are not as
            they should be.
    """
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ValueError(f"{repo_id!r} is no name of a repository, OWNER/NAME. {error}") from error
    card_text = card_text.replace(json.dumps(PLACEHOLDER), json.dumps(repo_id))
    examples = section_of(card_text, USE)
    if examples is not None:
        # Those of a card that was pushed elsewhere before.
        named = _OPENED.sub(lambda found: found[1] + json.dumps(repo_id), examples)
        if named != examples:
            card_text = with_section(card_text, USE, named)
    shown = read_fields(card_text).get("widget")
    if shown and any(map(shows_example, shown)):
        address = hf_hub_url(repo_id, EXAMPLE, revision=revision)
        ours = widget_field(address)[0]
        changed = [
            {**entry, "src": ours["src"]} if shows_example(entry) else entry for entry in shown
        ]
        if changed != shown:
            card_text = with_fields(card_text, {"widget": changed})
    return card_text


def with_license(
    card_text: str, identifier: str, name: str | None = None, link: str | None = None
) -> str:
    """Name the licence of a model in its card.

    Args:
        card_text: The card.
        identifier: As the Hub calls it: `"cc-by-4.0"`; "other" keeps the name and the link that the
            card has, unless others are given.
        name: Of a licence that the Hub has no identifier for.
        link: To its text.

    Raises:
        ValueError: If the Hub knows no such licence; if "other" has no name; if the card's
            metadata are not as they should be.
    """
    require_hub_license(identifier)
    if identifier != "other":
        if name is not None or link is not None:
            raise ValueError(
                f"The licence {identifier} has its name and its text; license_name and "
                "license_link are for the licence other. Leave them out."
            )
        removed = {"license_name": None, "license_link": None}
        return with_fields(card_text, {"license": identifier, **removed})
    fields = read_fields(card_text)
    name, link = name or fields.get("license_name"), link or fields.get("license_link")
    if name is None:
        raise ValueError(
            "The licence other needs a name. Write license_name and license_link into the card's "
            "metadata first."
        )
    return with_fields(card_text, {"license": "other", "license_name": name, "license_link": link})


def with_emissions(
    card_text: str,
    grams: float,
    source: str,
    training_type: str,
    location: str | None = None,
    hardware: str | None = None,
) -> str:
    """Name in a card what its training emitted, where somebody measured it.

    Args:
        card_text: The card.
        grams: Of CO2 equivalents.
        source: Who or what says so, such as "CodeCarbon".
        training_type: "pre-training" or "fine-tuning".
        location: Where it was trained.
        hardware: On what.

    Raises:
        ValueError: If the number is below 0 or not finite, or there is no source; if the card's
            metadata are not as they should be.
    """
    if not 0 <= grams < float("inf"):
        raise ValueError(f"Emissions are {grams} g; wanted a number of grams, 0 or more.")
    if not source.strip():
        raise ValueError("Emissions need a source: say who or what measured them.")
    told = {
        "emissions": float(grams),
        "source": source,
        "training_type": training_type,
        "geographical_location": location,
        "hardware_used": hardware,
    }
    known = {key: value for key, value in told.items() if value is not None}
    return with_fields(card_text, {"co2_eq_emissions": known})
