"""Data sets that a card names, with their terms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class Terms(Protocol):
    """A licence, as readers of data sets state it."""

    identifier: str
    name: str
    url: str


class DescribedData(Protocol):
    """What readers of data sets say of theirs."""

    title: str
    homepage: str
    license: Terms
    citation: str


@dataclass(frozen=True)
class TrainingData:
    """A data set that a model was trained on.

    Attributes:
        title: what people call it.
        homepage: where it is downloaded; "" if not known.
        terms: what people call its licence; "" if it is not known.
        terms_url: a page with them; "" if not known.
        citation: the publication to cite; "" if not known.
    """

    title: str
    homepage: str = ""
    terms: str = ""
    terms_url: str = ""
    citation: str = ""

    @classmethod
    def of(cls, data: DescribedData) -> TrainingData:
        """Take over what a reader says of its data set."""
        terms = terms_name(data.license.identifier, data.license.name)
        return cls(data.title, data.homepage, terms, data.license.url, data.citation)

    @property
    def link(self) -> str:
        """Its title, in Markdown."""
        return f"[{self.title}]({self.homepage})" if self.homepage else self.title

    @property
    def terms_link(self) -> str:
        """Its terms, in Markdown."""
        if not self.terms:
            return "not known to this card"
        return f"[{self.terms}]({self.terms_url})" if self.terms_url else self.terms


def terms_name(identifier: str, name: str) -> str:
    """What a card calls terms: their name, or that none are stated."""
    return "none stated, see here" if identifier == "unknown" else name
