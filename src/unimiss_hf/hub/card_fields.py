"""Single fields of a card's metadata: each is replaced, and no other byte of the card."""

import re
from collections.abc import Mapping
from typing import Any

import yaml
from huggingface_hub.utils import yaml_dump

_BLOCK = re.compile(
    r"\A(\ufeff?\s*---[ \t]*\r?\n)(.*?)(^---[ \t]*(?:\r?\n|\Z))", re.DOTALL | re.MULTILINE
)


def read_fields(card_text: str) -> dict[str, Any]:
    """Read a card's metadata; a card without any has none.

    Raises:
        ValueError: If they are not YAML, or not fields by their names.
    """
    block = _BLOCK.match(card_text)
    if block is None:
        return {}
    _compose(block[2])
    return yaml.safe_load(block[2]) or {}


def with_fields(card_text: str, fields: Mapping[str, Any]) -> str:
    """Set fields of a card's metadata; what else stands there, comments too, stays as it is.

    Args:
        card_text: The card, with or without metadata.
        fields: By their names; `None` takes a field out. New ones are put behind the others.

    Raises:
        ValueError: If the metadata are not YAML, or not fields by their names, line by line.
    """
    for name, value in fields.items():
        card_text = _with_field(card_text, name, value)
    return card_text


def _with_field(card_text: str, name: str, value: Any) -> str:
    block = _BLOCK.match(card_text)
    if block is None:
        if value is None:
            return card_text
        return f"---\n{_written(name, value, chr(10))}---\n\n{card_text}"
    head, front, tail = block.groups()
    newline = "\r\n" if head.endswith("\r\n") else "\n"
    written = "" if value is None else _written(name, value, newline)
    lines = front.splitlines(keepends=True)
    span = _lines_of(front, lines, name)
    if span is None:
        changed = front + written
    else:
        changed = "".join(lines[: span[0]]) + written + "".join(lines[span[1] :])
    return head + changed + tail + card_text[block.end() :]


def _written(name: str, value: Any, newline: str) -> str:
    text = yaml_dump({name: value}, sort_keys=False)
    return newline.join(text.splitlines()) + newline


def _lines_of(front: str, lines: list[str], name: str) -> tuple[int, int] | None:
    """Which lines a field takes: the first, and the one behind the last; `None` if it has none."""
    node = _compose(front)
    if node is None:
        return None
    starts = [key.start_mark.line for key, _ in node.value]
    for (key, _), start, end in zip(node.value, starts, [*starts[1:], len(lines)], strict=True):
        if key.value == name:
            # A comment between two fields is about the second.
            while end > start + 1 and re.match(r"\s*$|#", lines[end - 1]):
                end -= 1
            return start, end
    return None


def _compose(front: str) -> yaml.MappingNode | None:
    try:
        node = yaml.compose(front, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        where = f", line {place.line + 1} of them" if place else ""
        raise ValueError(
            f"The card's metadata are not YAML{where} ({getattr(error, 'problem', error)}). Put "
            "right what stands between the lines of ---."
        ) from error
    if node is None:
        return None
    if not isinstance(node, yaml.MappingNode) or node.flow_style:
        raise ValueError(
            "The card's metadata are not fields by their names, each in a line of its own, such as "
            "`license: mit`. Write what stands between the lines of --- so."
        )
    return node
