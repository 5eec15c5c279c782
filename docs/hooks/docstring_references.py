"""Names in brackets within docstrings, [`like_this`], as links to where they are documented."""

import re
from typing import Any

import griffe

# Not what is a link already: [`name`][target], [`name`](address).
_REFERENCE = re.compile(r"\[`([\w.]+)`\](?![\[(])")


class DocstringReferences(griffe.Extension):
    """Turns each into a link where the site has the name, and into code where it has not."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of an object."""
        if obj.docstring is None:
            return

        def link(found: re.Match[str]) -> str:
            try:
                target = obj.resolve(found[1])
            except griffe.NameResolutionError:
                return f"`{found[1]}`"
            return f'<autoref identifier="{target}" optional>`{found[1]}`</autoref>'

        obj.docstring.value = _REFERENCE.sub(link, obj.docstring.value)
