"""Licences as the Hub's metadata name them."""

import re

from ..input_checks_mit import did_you_mean, near_names

_IDENTIFIERS = """
    apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m
    bigscience-bloom-rail-1.0 bigcode-openrail-m afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause
    bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0
    cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0
    cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0
    cdla-sharing-1.0 cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0
    etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 isc
    h-research intel-research lppl-1.3c ms-pl apple-ascl apple-amlr mpl-2.0 odc-by odbl
    openmdw-1.0 openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr
    deepfloyd-if-license fair-noncommercial-research-license llama2 llama3 llama3.1 llama3.2
    llama3.3 llama4 grok2-community gemma unknown other
"""
HUB_LICENSES = frozenset(_IDENTIFIERS.split())
"""Every identifier that a card's `license` may be."""

# They ask for nothing that the terms of a data set could contradict.
_PERMISSIVE = frozenset(("apache-2.0", "mit", "bsd", "bsd-2-clause", "bsd-3-clause", "cc0-1.0"))
_NO_TERMS = ("other", "unknown")


def require_hub_license(identifier: str) -> str:
    """Return an identifier that the Hub knows.

    Raises:
        ValueError: If it is none; near ones are named.
    """
    if identifier not in HUB_LICENSES:
        near = did_you_mean(near_names(identifier, sorted(HUB_LICENSES), 0.6))
        raise ValueError(
            f"The Hub knows no licence {identifier!r}.{near} Take an identifier of "
            "https://huggingface.co/docs/hub/repositories-licenses, such as cc-by-4.0, or other."
        )
    return identifier


def license_of_weights(
    data: str, identifier: str, url: str, from_others: bool, others: str | None = None
) -> dict[str, str]:
    """Say in a card's metadata by which terms weights are bound.

    The terms of the data are named as the licence where they are known, and nothing else that the
    weights were made from may add to them. Otherwise the licence is "other", with a name that says
    whose terms there are and the page where those of the data stand.

    Args:
        data: Name of the data set.
        identifier: What the Hub calls its terms; "other" and "unknown" are no terms.
        url: The page with its terms.
        from_others: Whether the weights began as those of another model.
        others: The licence of that model on the Hub, where it is known.

    Returns:
        `license`, or `license`, `license_name` and `license_link`.
    """
    is_known = identifier in HUB_LICENSES and identifier not in _NO_TERMS
    adds_nothing = not from_others or others == identifier or others in _PERMISSIVE
    if is_known and adds_nothing:
        return {"license": identifier}
    name = identifier if is_known else f"terms-of-{_slug(data)}"
    if not adds_nothing:
        name += "-and-of-the-pretrained-weights"
    return {"license": "other", "license_name": name, "license_link": url}


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
