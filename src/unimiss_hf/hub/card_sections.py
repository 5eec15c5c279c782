"""Sections of a card between marks, which programs replace and leave the rest as it is."""

import re


def marks(name: str) -> tuple[str, str]:
    """The lines before and behind a section, which readers of the card do not see."""
    return f"<!-- {name}: begin -->", f"<!-- {name}: end -->"


def section_of(card_text: str, name: str) -> str | None:
    """What stands between a section's marks; `None` if the card has no such section.

    Raises:
        ValueError: If a mark is there twice, or without the other.
    """
    place = _place(card_text, name)
    return None if place is None else card_text[place[0] : place[1]]


def with_section(card_text: str, name: str, content: str) -> str:
    """Replace what stands between a section's marks, or add the section at the card's end.

    Args:
        card_text: The card.
        name: Of the section.
        content: Lines of Markdown.

    Raises:
        ValueError: If a mark is there twice, or without the other.
    """
    newline = "\r\n" if "\r\n" in card_text else "\n"
    content = newline.join(["", *content.strip("\n").splitlines(), ""])
    place = _place(card_text, name)
    if place is not None:
        return card_text[: place[0]] + content + card_text[place[1] :]
    begin, end = marks(name)
    gap = "" if not card_text or card_text.endswith("\n") else newline
    return f"{card_text}{gap}{newline}{begin}{content}{end}{newline}"


def _place(card_text: str, name: str) -> tuple[int, int] | None:
    begin, end = marks(name)
    found = [[m.start() for m in re.finditer(re.escape(mark), card_text)] for mark in (begin, end)]
    if found == [[], []]:
        return None
    if [len(places) for places in found] != [1, 1] or found[0][0] > found[1][0]:
        raise ValueError(
            f"The card has {len(found[0])} of the marks {begin} and {len(found[1])} of {end}; "
            "wanted one of each, in this order. Put them right, or delete all of them."
        )
    return found[0][0] + len(begin), found[1][0]
