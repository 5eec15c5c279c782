"""Tables of settings, from the settings themselves.

A page says `<!-- options MODULE:CLASS -->` where they are options of a command, and
`<!-- keys MODULE:CLASS -->` where they are keys of a mapping.
"""

import dataclasses
import importlib
import inspect
import re
import typing
from typing import Any

_MARK = re.compile(r"^<!-- (options|keys) (\S+):(\w+) -->$", re.MULTILINE)
# In a settings class, a comment behind an empty line is the title of the fields below it.
_TITLE = re.compile(r"\n\n    # (\S.*)\n    (\w+): ")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace each mark by the tables of a settings class.

    Args:
        markdown: A page's text.

    Raises:
        ImportError, AttributeError: If a mark names no class.
        KeyError: If a field has no help.
    """
    return _MARK.sub(
        lambda mark: tables(_load(mark[2], mark[3]), as_options=mark[1] == "options"), markdown
    )


def tables(settings: type, as_options: bool = True) -> str:
    """Write a settings class as Markdown: a table for each of its groups of fields.

    Args:
        settings: A dataclass whose fields have a `help` in their metadata.
        as_options: Whether they are options of a command, else keys of a mapping.
    """
    titles = {field: title for title, field in _TITLE.findall(inspect.getsource(settings))}
    types = typing.get_type_hints(settings)
    head = [f"| {'option' if as_options else 'key'} | default | meaning |", "|---|---|---|"]
    lines = list(head)
    for entry in dataclasses.fields(settings):
        if entry.name in titles:
            lines += ["", f"**{titles[entry.name].capitalize()}**", "", *head]
        name, default, text = entry.name, default_of(entry), entry.metadata["help"]
        if as_options:
            name, text = f"--{name}", re.sub(r" \(default: .*\)$", "", text)
            if types[entry.name] is bool:
                # An option that is on is switched off by another.
                name = name if not default else f"--no_{entry.name}"
                text = text if not default else f"switches off: {text}"
                default = None
        lines.append(f"| `{name}`{{ .setting }} | {_as_words(default)} | {_escaped(text)} |")
    return "\n".join(lines)


def default_of(entry: dataclasses.Field) -> Any:
    """Return the default of a field; `MISSING` if it must be given."""
    if entry.default_factory is not dataclasses.MISSING:
        return entry.default_factory()
    return entry.default


def _load(module: str, name: str) -> type:
    return getattr(importlib.import_module(module), name)


def _as_words(default: Any) -> str:
    if default is dataclasses.MISSING:
        return "must be given"
    if default is None or default in ([], {}, ()):
        return ""
    if isinstance(default, (list, tuple)):
        return f"`{' '.join(map(str, default))}`"
    return f"`{default}`"


def _escaped(text: str) -> str:
    """What is between quotes is typed as it is, and shown so."""
    text = re.sub(r"'(\{.*?\})'", r"`'\1'`", text)
    return text.replace("|", r"\|")
