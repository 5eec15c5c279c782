"""Mermaid diagrams as pictures, so that a page needs no script from elsewhere to show them.

GitHub draws a block of mermaid itself. Here each is replaced by an SVG file whose name holds the
digest of its text: a changed diagram is warned of until `draw_diagrams.py` has drawn it anew.
"""

import hashlib
import logging
import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

# Its warnings are errors of a strict build.
logger = logging.getLogger("mkdocs.hooks.drawn_diagrams")

_BLOCK = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_FOLDER = "images/diagrams"
_DRAW = "python docs/hooks/draw_diagrams.py MERMAID_JS"


def diagrams_of(markdown: str) -> dict[str, str]:
    """Find the diagrams of a page: `{name of its file: mermaid text}`."""
    return {_name(found[1]): found[1] for found in _BLOCK.finditer(markdown)}


def folder_of(docs: str | Path) -> Path:
    """Return where the drawn diagrams of a documentation's folder lie."""
    return Path(docs) / _FOLDER


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Replace each block of mermaid by its picture.

    Args:
        markdown: A page's text.
        page: The page, whose place the picture is named from.
        config: Of mkdocs.

    Returns:
        The text. A diagram that was not drawn since it changed is warned of, and left as it is.
    """

    def picture(found: re.Match[str]) -> str:
        name = _name(found[1])
        if not (folder_of(config.docs_dir) / name).is_file():
            logger.warning("%s: a diagram is not drawn yet. Run: %s", page.file.src_uri, _DRAW)
            return found[0]
        headings = _HEADING.findall(markdown[: found.start()])
        place = os.path.relpath(_FOLDER, PurePosixPath(page.file.src_uri).parent)
        return f"![Diagram: {headings[-1]}]({place}/{name}){{ .diagram }}"

    return _BLOCK.sub(picture, markdown)


def _name(text: str) -> str:
    return f"{hashlib.sha256(text.encode()).hexdigest()[:12]}.svg"
