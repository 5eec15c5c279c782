"""The card of a model on its way to the Hub, and the files that its page and endpoints need."""

import json

from ..configuration_mit import MiTConfig
from .card_editing import with_license, with_repository
from .companion_files import companion_files
from .plain_card import plain_card
from .repository_files import CARD, RepositoryFiles
from .results_in_cards import with_results


def complete_card(
    listed: RepositoryFiles, repository: str, revision: str | None, license: str | None
) -> None:
    """Finish the card of a repository, and add what it and endpoints need.

    A model without a card gets one that says what its configuration says. Scores of `results.json`
    go into the card, and its examples name the repository.

    Args:
        listed: What goes; the card, licence, endpoint and picture are added to it.
        repository: `"owner/name"`.
        revision: The branch; `None` is the main one.
        license: The Hub's identifier of the weights' licence; `None`: as the card says.

    Raises:
        ValueError: If the card or `results.json` is not what it should be, or there is no such
            licence.
    """
    path = listed.files.pop(CARD, None)
    text = plain_card(_config(listed)) if path is None else path.read_text(encoding="utf-8")
    try:
        results = listed.texts.get("results.json")
        if results is not None:
            text = with_results(text, json.loads(results), repository.partition("/")[2])
        text = with_repository(text, repository, revision)
        if license is not None:
            text = with_license(text, license)
        companions = companion_files(text)
    except ValueError as error:
        raise ValueError(f"{path or 'The card'} cannot be completed: {error}") from error
    listed.texts[CARD] = text
    listed.files = {**companions, **listed.files}


def _config(listed: RepositoryFiles) -> MiTConfig:
    text = listed.texts.get("config.json")
    if text is None:
        text = listed.files["config.json"].read_text(encoding="utf-8")
    return MiTConfig.from_dict(json.loads(text))


__all__ = ["complete_card"]
